"""The subscriptions of one client. Each one listens to fan-out, or catches up until it can.

Every way to start (snapshot, resume, a changed principal, a client that fell behind) ends in the same join, so no
change is omitted or delivered twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from auth.view import View
from realtime.channels import Channel, ChannelKey
from realtime.client_sink import ClientSink
from realtime.events import event_text
from realtime.fanout import Fanout
from realtime.redefinitions import check_same_store
from realtime.replays import Replay
from realtime.subscriber import Subscriber
from stores.canonical import filter_text
from stores.commits import rest_of_commit
from stores.errors import StoreError
from stores.protocol import Batch
from stores.query import Filter, Projection
from stores.read_turns import READER
from stores.records import Change
from stores.schema import StoreDefinition
from stores.steps import TakesLong

PIECE: Final = 65_536
"""Bytes of events that are written before the next check that the client has room."""

PIECE_CHANGES: Final = 500
"""Missed changes that are processed before other tasks run."""

PIECE_SECONDS: Final = 0.002
"""Seconds for which missed changes are processed before other tasks run."""


@dataclass(slots=True)
class _Missed:
    """Changes that a subscription has missed: the first `count` are delivered. The others are the rest of a commit."""

    changes: Sequence[Change]
    count: int

    def after(self, index: int) -> Callable[[], Sequence[Change]]:
        """Return a function that returns the changes after this one in its commit."""
        return partial(rest_of_commit, self.changes, index)


@dataclass(eq=False, slots=True)
class Subscription:
    """A subscription of one session: the entities of `view` that match `filter`.

    `names` are the ids that the client has given it, with None for a request without one. The subscription ends with
    its last name. While `channel` is None, no changes are delivered, and `position` is the position reached so far.
    """

    owner: Subscriptions
    topic: str
    view: View
    filter: Filter
    projection: Projection
    names: set[str | None] = field(default_factory=set)
    position: str = ""
    delivered_up_to: bytes = b""
    channel: Channel[Subscriber] | None = None
    ended: bool = False
    generation: int = 0
    """The fan-out's generation in which it joined the channel."""
    user: str = ""
    """The user whose budget of steps its matches take."""
    on_drop: Callable[[], None] | None = None
    where: Filter = field(init=False)
    key: ChannelKey = field(init=False)
    deliver: Callable[[bytes, str], bool] = field(init=False)

    def __post_init__(self) -> None:
        # Called for every delivery, so it refers directly to the connection.
        self.deliver = self.owner.sink.offer
        self.set_view(self.view)

    @property
    def store(self) -> str:
        return self.view.store

    @property
    def definition(self) -> StoreDefinition:
        return self.view.definition

    def set_view(self, view: View) -> None:
        """Continue with another view of the same store."""
        self.view = view
        self.where = view.narrowed(self.filter)
        self.key = ChannelKey(view.store, filter_text(self.where), self.projection, view.digest)

    @property
    def is_beginning(self) -> bool:
        """Whether its acknowledgement, which gives it a position, is not sent yet."""
        return not self.position

    def reached(self, position: str, order: bytes) -> None:
        """Record that this change was delivered here, while others still wait for it."""
        self.position, self.delivered_up_to = position, order

    def fall_behind(self) -> None:
        """Catch up later, because there was no room for the change that fan-out delivers."""
        self.owner.fall_behind(self)

    def fail(self, error: StoreError) -> None:
        self.owner.end(self, error)


class Subscriptions:
    """The subscriptions of one session, by topic and by name."""

    def __init__(self, fanout: Fanout, describe: Callable[[Exception], dict[str, Any]], sink: ClientSink) -> None:
        self.sink = sink
        self.by_topic: dict[str, Subscription] = {}
        self.by_name: dict[str, Subscription] = {}
        self.suspended = False
        """Whether the principal is changing. Nothing is delivered until the session continues with the new view."""
        self.count = 0
        """Number of subscriptions as the client counts them: one for each name."""
        self.turn = asyncio.Lock()
        """Held by code that changes the subscriptions, except to end them."""
        self._fanout = fanout
        self._order = fanout.order_of
        self._describe = describe
        self._recovering: asyncio.Task[None] | None = None
        self._worked = 0.0
        """Seconds that the last piece of missed changes took on the event loop."""

    def __iter__(self) -> Any:
        return iter(list(self.by_topic.values()))

    @property
    def is_listening(self) -> bool:
        """Whether there are subscriptions, and all of them have received everything up to the position of fan-out, and
        nothing beyond it."""
        return bool(self.by_topic) and all(map(self._is_at_fanout, self.by_topic.values()))

    def _is_at_fanout(self, subscription: Subscription) -> bool:
        fanout = self._fanout
        has_joined = subscription.channel is not None and subscription.generation == fanout.generation
        return has_joined and subscription.delivered_up_to <= fanout.order

    def is_past(self, subscription: Subscription, order: bytes) -> bool:
        """Return whether a subscription began at or after `order`, which fan-out has not reached yet."""
        if subscription.is_beginning:
            return False
        reached = self._order(subscription.position) if subscription.channel is None else subscription.delivered_up_to
        return reached >= order

    # Adding and removing.

    def add(self, subscription: Subscription, name: str | None) -> None:
        """Add a subscription, or another name for one."""
        self.by_topic[subscription.topic] = subscription
        if name not in subscription.names:
            subscription.names.add(name)
            self.count += 1
        if name is not None:
            self.by_name[name] = subscription

    def release(self, subscription: Subscription, name: str | None) -> None:
        """Remove a name, and the subscription with its last name. Do nothing if it has ended with all its names."""
        if subscription.ended:
            return
        if subscription.names == {name}:
            self.drop(subscription)
        elif name in subscription.names:
            subscription.names.discard(name)
            self.count -= 1
            self.by_name.pop(name or "", None)

    def drop(self, subscription: Subscription) -> None:
        """Remove a subscription with all its names."""
        if subscription.ended:
            return
        subscription.ended = True
        if subscription.on_drop is not None:
            subscription.on_drop()
        self.mute(subscription)
        self.by_topic.pop(subscription.topic, None)
        self.count -= len(subscription.names)
        for name in subscription.names:
            self.by_name.pop(name or "", None)

    def end(self, subscription: Subscription, error: Exception) -> None:
        """Remove a subscription and send the reason, unless it has ended already.

        The client does not know a subscription before its acknowledgement, so nothing is sent for it: its request is
        served again, or answered with an error.
        """
        if not subscription.ended:
            self.drop(subscription)
            if subscription.is_beginning:
                return
            payload = {"channel": subscription.topic, "error": self._describe(error)}
            self.sink.send(event_text("ended", payload))

    # Listening.

    def mute(self, subscription: Subscription) -> None:
        """Stop delivery to a subscription. It has to catch up from `position`."""
        if subscription.channel is not None:
            # It may be ahead of fan-out, which lags a little behind the database, or have a gap, for which it is about
            # to be ended. Then its own position stays.
            is_at_fanout = self._is_at_fanout(subscription)
            self._fanout.leave(subscription.channel, subscription)
            subscription.channel = None
            if is_at_fanout:
                subscription.position = self._fanout.position

    def suspend(self) -> None:
        self.suspended = True
        for subscription in self.by_topic.values():
            self.mute(subscription)

    def _listen(self, subscription: Subscription, delivered_up_to: bytes) -> None:
        """Join the channel, without waiting after the last replay, so that fan-out continues with the next change.

        Raises HistoryGone if a pending change ends the view. The subscriptions that were listening have ended already.
        """
        check_same_store(subscription.definition, self._fanout.pending_ends_after(delivered_up_to))
        subscription.delivered_up_to = delivered_up_to
        subscription.generation = self._fanout.generation
        join = self._fanout.join
        subscription.channel = join(subscription.key, subscription.where, subscription.topic, subscription)
        subscription.key = subscription.channel.key  # equal, and shared to save memory

    # Catching up.

    async def join(self, subscription: Subscription) -> None:
        """Catch up and listen. The client has its acknowledgement by now, so a failure ends the subscription."""
        try:
            await self.catch_up(subscription)
        except Exception as error:
            self.end(subscription, error)

    async def catch_up(self, subscription: Subscription, until: str | None = None) -> None:
        """Deliver the changes after the subscription's position, then listen.

        With `until`, deliver only the changes up to that position, which is not before the subscription's own. If the
        principal changes meanwhile, the subscription stays at its position, and the session continues from there with
        the new view.
        """
        fanout = self._fanout
        end = None if until is None else self._order(until)
        while await self._may_deliver(subscription):
            order = self._order(subscription.position)
            if end is not None and order >= end:
                return
            if order < fanout.order:
                await self._replay(subscription, await self._read(subscription), until)
            elif end is not None:
                await fanout.reach(end)
            elif fanout.is_delivering:
                await fanout.delivered()
            else:
                self._listen(subscription, order)
                return

    def goes_on(self, subscription: Subscription) -> bool:
        """Return whether the client is there, and the subscription goes on with the same view."""
        return not (subscription.ended or self.suspended or self.sink.closed)

    async def _may_deliver(self, subscription: Subscription) -> bool:
        """Wait until the client has room. Return whether the subscription still goes on with the same view."""
        await self.sink.drained()
        return self.goes_on(subscription)

    async def _read(self, subscription: Subscription) -> Batch:
        """Return changes after the subscription's position; none if it does not go on when its turn comes."""
        return await self._fanout.missed.read_after(subscription.position, lambda: self.goes_on(subscription))

    async def _replay(self, subscription: Subscription, batch: Batch, until: str | None = None) -> None:
        """Deliver missed changes in pieces, no faster than the client takes them."""
        check_same_store(subscription.definition, batch.changes)
        missed, position = self._missed(batch), batch.position
        if until is not None and self._order(position) >= (end := self._order(until)):
            missed.count = sum(self._order(change.position) <= end for change in batch.changes)
            position = until
        done = 0
        while done < missed.count:
            if not self.sink.has_room and not await self._may_hold(missed.changes):
                return
            if not await self._may_deliver(subscription):
                return
            done = await self._replay_piece(subscription, missed, done)
            if done < missed.count:
                await asyncio.sleep(0)
        if self.goes_on(subscription):
            subscription.position = position

    async def _may_hold(self, changes: Sequence[Change]) -> bool:
        """Wait until the client has room. Return false at once if these changes must not be kept until then."""
        with self._fanout.waiting_changes.count(changes) as fits:
            if fits:
                await self.sink.drained()
            return fits

    def _missed(self, batch: Batch) -> _Missed:
        return _Missed(self._fanout.completed(batch.changes), len(batch.changes))

    async def _replay_piece(self, subscription: Subscription, missed: _Missed, start: int) -> int:
        """Deliver some of the changes from index `start` on. Return the index of the next one."""
        await self._fanout.replaying.enter(subscription.user)
        if not self.goes_on(subscription):
            return start
        replay = self._fanout.replays.of(subscription.key, subscription.where, subscription.topic)
        began = time.perf_counter()
        end, takes_long = self._replay_at_once(subscription, replay, missed, start)
        self._worked = time.perf_counter() - began
        if takes_long:
            change = missed.changes[end]
            event = await replay.event_off_loop(change, missed.after(end))
            if self.goes_on(subscription) and (event is None or self.sink.offer(*event)):
                subscription.position = change.position
                end += 1
        return end

    def _replay_at_once(
        self, subscription: Subscription, replay: Replay, missed: _Missed, start: int
    ) -> tuple[int, bool]:
        """Deliver some of the changes from index `start` on, without waiting. Return the index of the next one, and
        whether delivery stopped there because the change takes long to evaluate."""
        fanout, offer = self._fanout, self.sink.offer
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
        missed = self._missed(batch)
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

    # Falling behind.

    def fall_behind(self, subscription: Subscription) -> None:
        """Mute a subscription whose client is too slow, or whose user has used up its share of fan-out. It catches up
        as fast as the client reads."""
        if subscription.channel is not None:
            self.mute(subscription)
            if self._recovering is None:
                self._recovering = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        """Let all muted subscriptions catch up, one piece of each at a time, so that requests can run in between."""
        try:
            first = 0
            while behind := await self._behind():
                first += 1
                await self._fanout.shares.wait(behind[0].user)  # or just lets others run: the steps may never wait
                for number in range(len(behind)):
                    await self._fanout.joining.enter(behind[0].user)
                    if self.sink.has_room:
                        async with self.turn:
                            await self._step(behind[(first + number) % len(behind)])
        finally:
            self._recovering = None

    async def _behind(self) -> list[Subscription]:
        """Wait until the client has room. Return the subscriptions that are behind."""
        await self.sink.drained()
        async with self.turn:
            # While the principal changes, the session itself continues them.
            ends = self.suspended or self.sink.closed
            return [] if ends else [s for s in self.by_topic.values() if s.channel is None]

    async def _step(self, subscription: Subscription) -> None:
        try:
            if subscription.channel is None and self.goes_on(subscription):
                READER.set(subscription.user)
                await self._bring_forward(subscription)
        except Exception as error:
            self.end(subscription, error)

    async def _bring_forward(self, subscription: Subscription) -> None:
        fanout = self._fanout
        while fanout.is_delivering:
            await fanout.delivered()
        if not self.goes_on(subscription):
            return
        order = self._order(subscription.position)
        if order >= fanout.order:
            self._listen(subscription, order)
            return
        batch = await self._read(subscription)
        check_same_store(subscription.definition, batch.changes)
        missed, done = self._missed(batch), 0
        while done < missed.count:
            if not self.goes_on(subscription) or not self.sink.has_room:
                return
            done = await self._replay_piece(subscription, missed, done)
            if done < missed.count:
                await asyncio.sleep(self._worked)  # leaves half of the loop's time to others
        if self.goes_on(subscription):
            subscription.position = batch.position
            self._listen_if_there(subscription)
        await asyncio.sleep(self._worked)

    def _listen_if_there(self, subscription: Subscription) -> None:
        """Listen if fan-out has delivered nothing since. After a pause it may have, on a busy hub each time."""
        order = self._order(subscription.position)
        if order >= self._fanout.order and not self._fanout.is_delivering:
            self._listen(subscription, order)
