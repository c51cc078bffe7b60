"""Fan-out: follows the change feed once per process and delivers each change to the subscriptions that it concerns.

All of it runs on the event loop, change by change, so events reach a connection in the order of the feed. Other tasks
run between slices of a limited number of deliveries, and while a thread evaluates a costly filter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final

from realtime.change_view import ThreadedMatch, ViewChange
from realtime.channels import Channel, ChannelIndex, ChannelKey
from realtime.commits import CurrentCommit, commit_at
from realtime.engineio import build_text_frame
from realtime.events import ChangeEncoder
from realtime.missed_changes import MissedChanges
from realtime.replays import Replays
from realtime.shares import FEW_STEPS, MOST_USER_STEPS, Shares
from realtime.subscriber import Subscriber
from realtime.waiting_changes import WaitingChanges
from stores.errors import FilterTooCostly, StoreError
from stores.protocol import Engine
from stores.query import Filter
from stores.recent import RecentChanges
from stores.records import Change
from stores.steps import AT_LOOP, TakesLong
from stores.turns import Gate

log = logging.getLogger(__name__)

TURN: Final = 0.01
"""Seconds of delivery after which other tasks run."""

SLICE: Final = 5_000
"""Deliveries after which other tasks run."""

CORKED_SECONDS: Final = 0.05
"""Maximum seconds for which events wait, so that those of several changes reach a client in one write."""

DELIVERY_BYTES: Final = 4_096
"""An event counts as one more delivery for each `DELIVERY_BYTES` of its frame."""

JOINED_AT_ONCE: Final = 16
"""Steps in one iteration of the event loop by which subscriptions that have fallen behind join again."""

REPLAYED_AT_ONCE: Final = 4
"""Pieces of missed changes, of some milliseconds each, that subscriptions take in one iteration of the event loop. A
write and its event take several iterations."""

COMPILING: Final = 10
"""Matches of a small entity that take as long as compiling the filter."""

Slices = Iterator[Callable[[], None] | None]
"""Pauses of fan-out. Each item is work to do in a thread during the pause, or None."""

SlicesWithView = Generator[Callable[[], None] | None, None, ViewChange | None]
"""The same, with a result."""


def _end() -> None:
    """Sentinel in place of work: there are no more slices."""


class Fanout:
    """Delivers the changes of the feed to the channels.

    `recent` and `recent_bytes` limit the changes that are kept for subscriptions that join a little late.
    `replay_bytes` limits the events that are cached for them, since others have the same views. `listeners` are called
    with every change of a batch before any event of that batch is sent, because a change may alter who may see it.
    Within `cork()`, sinks may buffer what is delivered and write it together.
    """

    def __init__(
        self, engine: Engine, recent: int = 10_000, recent_bytes: int = 67_108_864, replay_bytes: int = 16_777_216
    ) -> None:
        self.channels: ChannelIndex[Subscriber] = ChannelIndex()
        self.listeners: list[Callable[[Change], Awaitable[None]]] = []
        self.cork: Callable[[], AbstractContextManager[object]] = nullcontext
        self.pending_ends: list[Change] = []
        """Changes that end views and have not been delivered yet. A listener that ends views adds them."""
        self.deliveries = 0
        self.generation = 0
        """Grows when changes were missed or could not be delivered: what was joined before has a gap."""
        self._engine = engine
        self._recent: RecentChanges[bytes] = RecentChanges(b"", recent, recent_bytes)
        self.replays = Replays(replay_bytes)
        self.shares = Shares()
        self.replaying = Gate(REPLAYED_AT_ONCE)
        self.joining = Gate(JOINED_AT_ONCE)
        """Spreads the steps of the subscriptions that join again after they have fallen behind."""
        self.missed = MissedChanges(engine, self._recent, lambda: (self.position, self.order))
        self.waiting_changes = WaitingChanges()
        self._encoders: dict[str, ChangeEncoder] = {}
        self._used: list[ChangeEncoder] = []
        self._reached = asyncio.Event()
        self.position = ""
        self.order = b""
        self.is_delivering = False
        """Whether the current change has been delivered to some subscribers, but not to all."""
        self._waiting = 0
        """Number of tasks that wait for the moment when it has been delivered to all."""
        self._delivering = "", b""
        self._begin_slice()
        self._done: list[Channel[Subscriber]] = []
        self._behind: list[Subscriber] = []
        self._commit = CurrentCommit()

    def order_of(self, position: str) -> bytes:
        """Return the order of a position (see `stores.protocol.Feed.order`)."""
        return self._engine.feed.order(position)

    def start(self, position: str) -> None:
        """Begin at `position`: everything up to it counts as delivered."""
        self.generation += 1
        self.position = position
        self.order = self.order_of(position)
        self._recent.clear(self.order)
        self._done, self._behind = [], []
        self._commit.end()
        self.pending_ends.clear()
        self._wake()

    async def advance(self, changes: Sequence[Change], position: str) -> None:
        """Deliver a batch of changes from the feed, in slices between which other tasks run.

        `position` is that of the feed after the batch.
        """
        new = [(order, change) for change in changes if (order := self.order_of(change.position)) > self.order]
        for _, change in new:
            for listen in self.listeners:
                await listen(change)
        if any(self.channels.has_any(change.store) for _, change in new):
            await self._deliver_batch(new)
        else:  # most writes on a hub concern stores that nobody watches
            for order, change in new:
                self._recent.append(order, change)
        order = self.order_of(position)
        if order > self.order:
            self.position, self.order = position, order
        self.pending_ends.clear()
        self._wake()

    async def _deliver_batch(self, new: Sequence[tuple[bytes, Change]]) -> None:
        slices = self._slices(new)
        try:
            while await self._hand_out(slices, len(new)):
                pass
        except StoreError:
            raise
        except Exception:
            self.generation += 1  # some subscribers have got a change after `position`
            raise
        finally:
            self.is_delivering = False

    async def _hand_out(self, slices: Slices, changes: int) -> bool:
        """Deliver slices for up to CORKED_SECONDS, corked if there are several changes.

        Return whether there may be more.
        """
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
        """Deliver changes, and pause whenever a slice is full. `position` advances when all members have a change."""
        self._begin_slice()
        for index, (order, change) in enumerate(changes):
            if change.commit is not None and not self._commit.holds(change):
                self._commit.begin(commit_at(changes, index))
                yield from self._find_lasts()
            self._delivering = change.position, order
            self.shares.begin_change()
            for channel in self.channels.concerned(change):
                yield from self._deliver_change(channel, change, order)
            self._detach_lagging()
            self._done.clear()
            while self._used:
                self._used.pop().drop_cached()
            self.position, self.order = change.position, order
            if change.ends_commit:
                self._commit.end()
            self._recent.append(order, change)
            self.is_delivering = False
            if self._waiting or self._is_slice_full():
                yield None
                self._begin_slice()

    def _begin_slice(self) -> None:
        self._spent = 0
        self._turn_ends = time.perf_counter() + TURN

    def _is_slice_full(self) -> bool:
        return self._spent >= SLICE or time.perf_counter() > self._turn_ends

    def _find_lasts(self) -> Slices:
        """Find the last change of the current commit that each channel shows. Nothing of it is delivered yet."""
        lasts = self._commit.lasts
        # From the end: a channel that shows the last change is looked at once.
        for order, change in reversed(self._commit.changes):
            self.shares.begin_change()
            for channel in self.channels.concerned(change):
                if channel not in lasts and (yield from self._seen(channel, change, order)) is not None:
                    lasts[channel] = change.position
            if self._is_slice_full():
                yield from self._pause()  # nobody joins meanwhile: a new channel would not be looked at

    def _find_last_of(self, channel: Channel[Subscriber], order: bytes) -> Slices:
        """Find the last change of the current commit that a channel shows, for members that have joined within the
        commit. `order` is that of the first change that they get."""
        for later, change in reversed(self._commit.after(order)):
            if (yield from self._seen(channel, change, later)) is not None:
                self._commit.lasts[channel] = change.position
                return

    def _deliver_change(self, channel: Channel[Subscriber], change: Change, order: bytes) -> Slices:
        event = yield from self._seen(channel, change, order)
        if event is None or not channel.members:
            return
        if change.commit is not None:
            if channel not in self._commit.lasts:
                yield from self._find_last_of(channel, order)
                if not channel.members:
                    return
            if self._commit.lasts.setdefault(channel, change.position) == change.position:
                event = replace(event, is_last=True)
        yield from self._deliver_event(channel, event, order)

    def _seen(self, channel: Channel[Subscriber], change: Change, order: bytes) -> SlicesWithView:
        """Return the change as the channel shows it. Charges a user for the work, and ends or detaches the members for
        whom it is too much."""
        if self._is_slice_full():
            yield from self._pause()
        self._spent += 1
        if not channel.members:
            return None  # they have left during a pause
        shares, everyone = self.shares, self.channels.gave_up
        user = shares.payer(channel.members, all_go_on=everyone)
        if user is None:
            yield from self._leave_behind(channel, order)
            return None
        has_steps = shares.has_steps(user)
        looks = 1 if channel.is_compiled else 1 + COMPILING
        view = channel.view
        # If the look-up gave up, it is the change that is costly, not the user's filters.
        overhead = 0 if everyone else looks * view.least
        try:
            try:
                event = view.at_once(change, AT_LOOP if has_steps else FEW_STEPS)
            except TakesLong:
                if not has_steps:
                    raise FilterTooCostly(MOST_USER_STEPS).at("MOST_USER_STEPS") from None
                threaded = ThreadedMatch(view, change)
                yield from self._pause(work=threaded)
                shares.take(user, view.spent)
                event = threaded.result()
        except FilterTooCostly as error:
            self._fail(channel, error, only_users_without_steps=not has_steps)
            return None
        finally:
            shares.take(user, view.spent_at_once, overhead)
        if view.has_shown:
            shares.take_shown(user, change.size)
        return event

    def _deliver_event(self, channel: Channel[Subscriber], event: ViewChange, order: bytes) -> Slices:
        encoder = self.encoder(channel.topic)
        self._used.append(encoder)
        text = encoder.text(event, channel.key.digest)
        frame = build_text_frame(text)
        cost = 1 + len(frame) // DELIVERY_BYTES
        # A copy: a member that is disconnected leaves during the delivery.
        members = list(channel.members)
        start = 0
        while start < len(members):
            # At least half a slice, because a pause within a change takes time too.
            end = start + max(1, (SLICE - self._spent) // cost, SLICE // 2 // cost)
            piece = members if end >= len(members) and not start else members[start:end]
            self._deliver(piece if not start else [m for m in piece if m in channel.members], frame, text, order)
            self._spent += cost * len(piece)
            start = end
            if start < len(members):
                yield from self._pause(channel, piece)
        self._done.append(channel)

    def _fail(self, channel: Channel[Subscriber], error: FilterTooCostly, *, only_users_without_steps: bool) -> None:
        """End the subscriptions of a channel with a costly filter, or only those of users without further steps: the
        others fall behind."""
        for member in list(channel.members):
            if only_users_without_steps and self.shares.has_steps(member.user):
                member.fall_behind()
            else:
                member.fail(error)

    def _leave_behind(self, channel: Channel[Subscriber], order: bytes) -> Slices:
        """Let the members fall behind. The time that it takes counts in the slice."""
        for member in list(channel.members):
            if order > member.delivered_up_to:
                member.fall_behind()
            if self._is_slice_full():
                yield from self._pause()

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
        """Remove the members that had no room.

        `position` is still that of the previous change, up to which they have received everything.
        """
        behind, self._behind = self._behind, []
        for member in behind:
            member.fall_behind()

    def _pause(
        self,
        channel: Channel[Subscriber] | None = None,
        delivered: Sequence[Subscriber] = (),
        work: Callable[[], None] | None = None,
    ) -> Slices:
        """Pause within a change. `delivered` are members of `channel` that have received it.

        `position` is still that of the previous change, so each member that has received this one records it. No
        subscription joins until all members have it.
        """
        self._detach_lagging()
        position, order = self._delivering
        done, self._done = self._done, []
        some = [m for m in delivered if channel is not None and m in channel.members]
        for members in (some, *(each.members for each in done)):
            for member in members:
                if member.delivered_up_to < order:
                    member.reached(position, order)
        self.is_delivering = True
        yield work
        self._begin_slice()

    def pending_ends_after(self, order: bytes) -> list[Change]:
        """Return the changes after `order` that have ended existing views and have not been delivered yet."""
        return [change for change in self.pending_ends if self.order_of(change.position) > order]

    async def delivered(self) -> None:
        """Wait until the current change has been delivered to all."""
        self._waiting += 1
        try:
            while self.is_delivering:
                await self._reached.wait()
        finally:
            self._waiting -= 1

    def completed(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Return changes with the rest of the last one's commit, if fan-out is delivering that commit."""
        return self._commit.completed(changes, self.order_of(changes[-1].position)) if changes else changes

    async def reach(self, order: bytes) -> None:
        """Wait until everything up to `order` has been delivered."""
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
