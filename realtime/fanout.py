"""Fan-out: follows the change feed once per process and hands each change to the subscriptions that it concerns.

Everything here happens on the event loop, change by change, so events reach a connection in the order of
the feed. Between slices of so many deliveries, and while a thread takes the many steps of a costly filter, the loop has
other work.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from realtime.channels import Channel, ChannelIndex, ChannelKey
from realtime.engineio import build_text_frame
from realtime.events import ChangeEncoder
from realtime.replays import Replays
from realtime.view import ChangeView, ViewChange
from stores.canonical import canonical_text, tree_of
from stores.errors import FilterTooCostly, StoreError
from stores.protocol import Batch, Engine
from stores.query import Filter, Projection
from stores.recent import RecentChanges
from stores.records import Change
from stores.steps import TakesLong

log = logging.getLogger(__name__)

TURN: Final = 0.01
"""Seconds for which changes are handed out before others have their turn."""

READ_AT_ONCE: Final = 500
"""Changes read at once for a subscription that resumes."""

SLICE: Final = 5_000
"""Deliveries after which others have their turn."""

CORKED_SECONDS: Final = 0.05
"""Seconds for which the events of several changes may wait, to reach a client in one write."""

DELIVERY_BYTES: Final = 4_096
"""An event counts as one delivery more for each so many bytes."""

Slices = Iterator[Callable[[], None] | None]
"""Pauses of fan-out, each with work that is to be done in a thread meanwhile, if there is any."""


class Subscriber(Protocol):
    """One subscription as fan-out sees it. Changes up to `delivered_up_to` (a feed order) it has got already."""

    delivered_up_to: bytes

    @property
    def deliver(self) -> Callable[[bytes, str], bool]:
        """Takes an event's packet, as a WebSocket frame and as text; false when there is no room for it. Must not wait
        and must not raise."""

    def reached(self, position: str, order: bytes) -> None:
        """Remember that the change at this position has been delivered to it."""

    def fall_behind(self) -> None:
        """Leave: there was no room for the change after the position of fan-out."""

    def fail(self, error: StoreError) -> None:
        """End, and say why: what happened cannot be delivered. Must not wait and must not raise."""


class _Look:
    """Looks at a change that takes long, in a thread."""

    def __init__(self, view: ChangeView, change: Change) -> None:
        self._view = view
        self._change = change
        self._event: ViewChange | None = None
        self._error: FilterTooCostly | None = None

    def __call__(self) -> None:
        try:
            self._event = self._view.of(self._change)
        except FilterTooCostly as error:
            self._error = error

    def result(self) -> ViewChange | None:
        if self._error is not None:
            raise self._error
        return self._event


def _end() -> None:
    """In place of work: there is none left."""


class Fanout:
    """`recent`: changes, and bytes of them, kept for subscriptions that join a little late; `replay_bytes`: of events
    made for them, kept for others that see alike. `listeners` are called with every change before its events, and those
    of what came with it, go out: who may see it may change with it. Within `cork()` sinks may keep what is
    delivered, to write it at once."""

    def __init__(
        self, engine: Engine, recent: int = 10_000, recent_bytes: int = 67_108_864, replay_bytes: int = 16_777_216
    ) -> None:
        self.channels: ChannelIndex[Subscriber] = ChannelIndex()
        self.listeners: list[Callable[[Change], Awaitable[None]]] = []
        self.cork: Callable[[], AbstractContextManager[object]] = nullcontext
        self.pending_ends: list[Change] = []
        """Changes that end views and are yet to be handed out: a listener that ends views adds them."""
        self.deliveries = 0
        self._engine = engine
        self._recent: RecentChanges[bytes] = RecentChanges(b"", recent, recent_bytes)
        self.replays = Replays(replay_bytes)
        self._reading = asyncio.Lock()
        self._encoders: dict[str, ChangeEncoder] = {}
        self._used: list[ChangeEncoder] = []
        self._reached = asyncio.Event()
        self.position = ""
        self.order = b""
        self.is_delivering = False
        """Whether a change is delivered to some already, and to others not yet."""
        self._delivering = "", b""
        self._begin_slice()
        self._done: list[Channel[Subscriber]] = []
        self._behind: list[Subscriber] = []

    def order_of(self, position: str) -> bytes:
        """See `stores.protocol.Feed.order`."""
        return self._engine.feed.order(position)

    def start(self, position: str) -> None:
        """Everything up to `position` counts as handed out."""
        self.position = position
        self.order = self.order_of(position)
        self._recent.clear(self.order)
        self._done, self._behind = [], []
        self.pending_ends.clear()

    async def advance(self, changes: Sequence[Change], position: str) -> None:
        """Hand out what the feed has brought, in slices between which others have their turn; `position` is where the
        feed stands after that."""
        new = [(order, change) for change in changes if (order := self.order_of(change.position)) > self.order]
        for _, change in new:
            for listen in self.listeners:
                await listen(change)
        slices = self._slices(new)
        try:
            while await self._hand_out(slices, len(new)):
                pass
        finally:
            self.is_delivering = False
        order = self.order_of(position)
        if order > self.order:
            self.position, self.order = position, order
        self.pending_ends.clear()
        self._wake()

    async def _hand_out(self, slices: Slices, changes: int) -> bool:
        """Hand out slices, corked for as long as CORKED_SECONDS; whether there may be more."""
        with self.cork() if changes > 1 else nullcontext():
            ends = time.perf_counter() + CORKED_SECONDS
            while (work := next(slices, _end)) is None:
                self._wake()
                await asyncio.sleep(0)
                if time.perf_counter() > ends:
                    return True
        if work is _end:
            return False
        self._wake()
        await asyncio.to_thread(work)
        return True

    def _wake(self) -> None:
        reached, self._reached = self._reached, asyncio.Event()
        reached.set()

    def _slices(self, changes: Sequence[tuple[bytes, Change]]) -> Slices:
        """Hand out changes, and stop wherever a slice is full. `position` moves when a change has reached all."""
        self._begin_slice()
        for order, change in changes:
            self._delivering = change.position, order
            for channel in self.channels.concerned(change):
                yield from self._deliver_change(channel, change, order)
            self._detach_lagging()
            self._done.clear()
            while self._used:
                self._used.pop().rest()
            self.position, self.order = change.position, order
            self._recent.append(order, change)
            self.is_delivering = False
            if self._is_slice_full():
                yield None
                self._begin_slice()

    def _begin_slice(self) -> None:
        self._spent = 0
        self._turn_ends = time.perf_counter() + TURN

    def _is_slice_full(self) -> bool:
        return self._spent >= SLICE or time.perf_counter() > self._turn_ends

    def _deliver_change(self, channel: Channel[Subscriber], change: Change, order: bytes) -> Slices:
        if self._is_slice_full():
            yield from self._pause(channel, [])
        self._spent += 1
        try:
            try:
                event = channel.view.at_once(change)
            except TakesLong:
                look = _Look(channel.view, change)
                yield from self._pause(channel, [], look)
                event = look.result()
        except FilterTooCostly as error:
            for member in list(channel.members):
                member.fail(error)
            return
        if event is None or not channel.members:
            return
        encoder = self.encoder(channel.topic)
        self._used.append(encoder)
        text = encoder.text(event, channel.key.digest)
        frame = build_text_frame(text)
        cost = 1 + len(frame) // DELIVERY_BYTES
        # A copy: a member that is cut off leaves while the change is delivered.
        members = list(channel.members)
        start = 0
        while start < len(members):
            # Not fewer than half a slice: to stop within a change takes time, too.
            end = start + max(1, (SLICE - self._spent) // cost, SLICE // 2 // cost)
            piece = members if end >= len(members) and not start else members[start:end]
            self._deliver(piece if not start else [m for m in piece if m in channel.members], frame, text, order)
            self._spent += cost * len(piece)
            start = end
            if start < len(members):
                yield from self._pause(channel, piece)
        self._done.append(channel)

    def _deliver(self, members: list[Subscriber], frame: bytes, text: str, order: bytes) -> None:
        delivered = 0
        for member in members:
            if order > member.delivered_up_to:
                if member.deliver(frame, text):
                    delivered += 1
                else:
                    self._behind.append(member)
        self.deliveries += delivered

    def _detach_lagging(self) -> None:
        """`position` is still that of the change before, up to which all has been delivered to them."""
        behind, self._behind = self._behind, []
        for member in behind:
            member.fall_behind()

    def _pause(
        self, channel: Channel[Subscriber], delivered: list[Subscriber], work: Callable[[], None] | None = None
    ) -> Slices:
        """Stop within a change. Whoever has got it remembers that, since `position` is that of the change
        before; nobody joins until it is delivered to all."""
        self._detach_lagging()
        position, order = self._delivering
        done, self._done = self._done, []
        for members in ([m for m in delivered if m in channel.members], *(each.members for each in done)):
            for member in members:
                if member.delivered_up_to < order:
                    member.reached(position, order)
        self.is_delivering = True
        yield work
        self._begin_slice()

    def pending_ends_after(self, order: bytes) -> list[Change]:
        """Changes after `order` that have ended the views there were, and are yet to be handed out."""
        return [change for change in self.pending_ends if self.order_of(change.position) > order]

    async def delivered(self) -> None:
        """Wait until the change that is being delivered has been delivered to all."""
        while self.is_delivering:
            await self._reached.wait()

    def recent_after(self, order: bytes) -> list[Change] | None:
        """The changes handed out after `order`; None when they are not all kept."""
        found = self._recent.after(order)
        return None if found is None else [change for _, change in found]

    async def read_after(self, position: str) -> Batch:
        """The first changes after a position, from memory if they are there. What had to be read is kept if it leads
        up to what is: whoever lost the same connection comes back from about there. One reads at a time, and the next
        may find it done. Raises HistoryGone."""
        feed = self._engine.feed
        order = feed.order(position)
        async with self._reading:
            recent = self._recent.after(order, READ_AT_ONCE) if order <= self.order else None
            if recent is not None:
                changes = [change for _, change in recent]
                more = len(changes) == READ_AT_ONCE
                return Batch(changes, changes[-1].position if more else self.position, more)
            batch = await feed.read(position, READ_AT_ONCE)
            if feed.order(batch.position) >= self._recent.oldest:
                self._recent.prepend(order, [(feed.order(change.position), change) for change in batch.changes])
            return batch

    async def reach(self, order: bytes) -> None:
        """Wait until everything up to `order` has been handed out."""
        while self.order < order:
            await self._reached.wait()

    def encoder(self, topic: str) -> ChangeEncoder:
        found = self._encoders.get(topic)
        if found is None:
            found = self._encoders[topic] = ChangeEncoder(topic)
        return found

    def join(self, key: ChannelKey, where: Filter, topic: str, member: Subscriber) -> Channel[Subscriber]:
        return self.channels.join(key, where, topic, member)

    def leave(self, channel: Channel[Subscriber], member: Subscriber) -> None:
        self.channels.leave(channel, member)
        if not channel.members:
            self._encoders.pop(channel.topic, None)  # made again if another channel of the topic needs it


def topic_of(store: str, where: Filter, projection: Projection) -> str:
    """The name of a subscription: the same for the same store, filter and projection, on every process."""
    known = None if projection.known is None else sorted(projection.known)
    text = canonical_text([store, tree_of(where), projection.only, sorted(projection.hidden), known])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
