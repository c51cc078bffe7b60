"""Fan-out: follows the change feed once per process and hands each change to the subscriptions that it concerns.

Everything here happens on the event loop, change by change and without waiting in between, so the order in which a
connection is told is the order of the feed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from realtime.channels import Channel, ChannelIndex, ChannelKey
from realtime.engineio import build_text_frame
from realtime.events import ChangeEncoder
from realtime.replays import Replays
from stores.errors import FilterTooCostly, StoreError
from stores.protocol import Batch, Engine
from stores.query import Filter, Projection
from stores.recent import RecentChanges
from stores.records import Change

log = logging.getLogger(__name__)

TURN = 0.01
"""Seconds for which changes are handed out before others have their turn."""

READ_AT_ONCE = 500
"""Changes read at once for a subscription that resumes."""


class Subscriber(Protocol):
    """One subscription as fan-out sees it. Changes up to `floor` (a feed order) it has got already."""

    floor: bytes

    @property
    def tell(self) -> Callable[[bytes, str], None]:
        """Takes an event's packet, as a WebSocket frame and as text. Must not wait and must not raise."""

    def fail(self, error: StoreError) -> None:
        """End, and say why: what happened cannot be told. Must not wait and must not raise."""


class Fanout:
    """`recent`: changes, and bytes of them, kept for subscriptions that join a little late; `replay_bytes`: of events
    made for them, kept for others that see alike. `overheard` is called with every change before its events go out: who
    is listening may change with it. Within `together()` outlets may gather what they are told, to write it at once."""

    def __init__(
        self, engine: Engine, recent: int = 10_000, recent_bytes: int = 67_108_864, replay_bytes: int = 16_777_216
    ) -> None:
        self.channels: ChannelIndex[Subscriber] = ChannelIndex()
        self.overheard: list[Callable[[Change], None]] = []
        self.together: Callable[[], AbstractContextManager[object]] = nullcontext
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

    def start(self, position: str) -> None:
        """Everything up to `position` counts as handed out."""
        self.position = position
        self.order = self._engine.feed.order(position)
        self._recent.clear(self.order)

    def advance(self, changes: Sequence[Change], position: str) -> None:
        """Hand out what the feed has brought; `position` is where it stands after that."""
        self._hand_out_for(math.inf, changes, 0)
        self._arrive(position)

    async def advance_in_turns(self, changes: Sequence[Change], position: str) -> None:
        """The same, with turns of the loop for others in between: a few large changes take long."""
        done = self._hand_out_for(TURN, changes, 0)
        while done < len(changes):
            await asyncio.sleep(0)
            done = self._hand_out_for(TURN, changes, done)
        self._arrive(position)

    def _hand_out_for(self, seconds: float, changes: Sequence[Change], start: int) -> int:
        """Hand out changes from `start` on, for about so long; the index of the next."""
        turn_ends = time.perf_counter() + seconds
        with self.together() if len(changes) > 1 else nullcontext():
            for index in range(start, len(changes)):
                order = self._engine.feed.order(changes[index].position)
                if order > self.order:
                    self._hand_out(changes[index], order)
                if time.perf_counter() > turn_ends:
                    return index + 1
        return len(changes)

    def _arrive(self, position: str) -> None:
        order = self._engine.feed.order(position)
        if order > self.order:
            self.position, self.order = position, order
        reached, self._reached = self._reached, asyncio.Event()
        reached.set()

    def _hand_out(self, change: Change, order: bytes) -> None:
        for listen in self.overheard:
            listen(change)
        self.position, self.order = change.position, order
        self._recent.append(order, change)
        for channel in self.channels.concerned(change):
            self._tell(channel, change, order)
        while self._used:
            self._used.pop().rest()

    def _tell(self, channel: Channel[Subscriber], change: Change, order: bytes) -> None:
        try:
            event = channel.view.of(change)
        except FilterTooCostly as error:
            for member in list(channel.members):
                member.fail(error)
            return
        if event is None:
            return
        encoder = self.encoder(channel.topic)
        self._used.append(encoder)
        text = encoder.text(event, channel.key.digest)
        frame = build_text_frame(text)
        # A copy: a member that lags is cut off, and leaves, while it is told.
        told = 0
        for member in list(channel.members):
            if order > member.floor:
                member.tell(frame, text)
                told += 1
        self.deliveries += told

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
            recent = self.recent_after(order) if order <= self.order else None
            if recent is not None:
                return Batch(recent, self.position, False)
            batch = await feed.read(position, READ_AT_ONCE)
            if feed.order(batch.position) >= self._recent.floor:
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
    known = () if projection.known is None else (sorted(projection.known),)
    text = repr((store, where, projection.only, sorted(projection.hidden), *known))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
