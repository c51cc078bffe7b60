"""Delivery of missed changes to one client, in pieces that leave the event loop to others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from realtime.client_sink import ClientSink
from realtime.fanout import Fanout
from realtime.replays import Replay
from realtime.subscription import Subscription
from stores.commits import rest_of_commit
from stores.protocol import Batch
from stores.records import Change
from stores.steps import TakesLong

PIECE: Final = 65_536
"""Bytes of events that are written before the next check that the client has room."""

PIECE_CHANGES: Final = 500
"""Missed changes that are processed before other tasks run."""

PIECE_SECONDS: Final = 0.002
"""Seconds for which missed changes are processed before other tasks run."""


@dataclass(slots=True)
class Missed:
    """Changes that a subscription has missed: the first `count` are delivered. The others are the rest of a commit."""

    changes: Sequence[Change]
    count: int

    def after(self, index: int) -> Callable[[], Sequence[Change]]:
        """Return a function that returns the changes after this one in its commit."""
        return partial(rest_of_commit, self.changes, index)


class MissedDelivery:
    """Delivers missed changes to the subscriptions of one client."""

    __slots__ = ("_fanout", "_order", "_sink", "worked")

    def __init__(self, fanout: Fanout, sink: ClientSink) -> None:
        self._fanout = fanout
        self._order = fanout.order_of
        self._sink = sink
        self.worked = 0.0
        """Seconds that the last piece took on the event loop."""

    async def read(self, subscription: Subscription) -> Batch:
        """Return changes after the subscription's position; none if it does not go on when its turn comes."""
        return await self._fanout.missed.read_after(subscription.position, lambda: subscription.goes_on)

    async def may_hold(self, changes: Sequence[Change]) -> bool:
        """Wait until the client has room. Return false at once if these changes must not be kept until then."""
        with self._fanout.waiting_changes.count(changes) as fits:
            if fits:
                await self._sink.drained()
            return fits

    def of(self, batch: Batch) -> Missed:
        """Return the changes of a batch, with the rest of the last one's commit as far as it is known."""
        return Missed(self._fanout.completed(batch.changes), len(batch.changes))

    async def deliver_piece(self, subscription: Subscription, missed: Missed, start: int) -> int:
        """Deliver some of the changes from index `start` on. Return the index of the next one."""
        await self._fanout.replaying.enter(subscription.user)
        if not subscription.goes_on:
            return start
        replay = self._fanout.replays.of(subscription.key, subscription.where, subscription.topic)
        began = time.perf_counter()
        end, takes_long = self._deliver_at_once(subscription, replay, missed, start)
        self.worked = time.perf_counter() - began
        if takes_long:
            change = missed.changes[end]
            event = await replay.event_off_loop(change, missed.after(end))
            if subscription.goes_on and (event is None or self._sink.offer(*event)):
                subscription.position = change.position
                end += 1
        return end

    def _deliver_at_once(
        self, subscription: Subscription, replay: Replay, missed: Missed, start: int
    ) -> tuple[int, bool]:
        """Deliver some of the changes from index `start` on, without waiting. Return the index of the next one, and
        whether delivery stopped there because the change takes long to evaluate."""
        fanout, offer = self._fanout, self._sink.offer
        end, size = start, 0
        turn_ends = time.perf_counter() + PIECE_SECONDS
        with fanout.cork():
            while end < min(missed.count, start + PIECE_CHANGES) and size < PIECE and time.perf_counter() < turn_ends:
                try:
                    change = missed.changes[end]
                    event = replay.event(change, missed.after(end))
                except TakesLong:
                    return end, True
                if event is not None:
                    if not offer(*event):
                        break
                    size += len(event[0])
                subscription.position = change.position
                end += 1
        return end, False

    def may_show(self, subscription: Subscription, batch: Batch, until: str) -> bool:
        """Return whether a change up to position `until` may show something in the view; true if that takes long to
        decide."""
        end = self._order(until)
        replay = self._fanout.replays.of(subscription.key, subscription.where, subscription.topic)
        gives_up = time.perf_counter() + PIECE_SECONDS
        missed = self.of(batch)
        for index, change in enumerate(batch.changes):
            if self._order(change.position) > end:
                return False
            try:
                is_shown = replay.event(change, missed.after(index)) is not None
            except TakesLong:
                return True
            if is_shown or time.perf_counter() > gives_up:
                return True
        return self._order(batch.position) < end
