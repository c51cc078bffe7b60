"""The subscriptions of one client. Each one listens to fan-out, or catches up until it can.

Every way to start (snapshot, resume, a changed principal, a client that fell behind) ends in the same join, so no
change is omitted or delivered twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from realtime.client_sink import ClientSink
from realtime.events import event_text
from realtime.fanout import Fanout
from realtime.missed_delivery import MissedDelivery
from realtime.redefinitions import check_same_store
from realtime.subscription import Subscription
from stores.protocol import Batch
from stores.read_turns import READER


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
        self._missed = MissedDelivery(fanout, sink)

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
                await self._replay(subscription, await self._missed.read(subscription), until)
            elif end is not None:
                await fanout.reach(end)
            elif fanout.is_delivering:
                await fanout.delivered()
            else:
                self._listen(subscription, order)
                return

    def goes_on(self, subscription: Subscription) -> bool:
        """Return whether the client is connected, and the subscription continues with the same view."""
        return not (subscription.ended or self.suspended or self.sink.closed)

    async def _may_deliver(self, subscription: Subscription) -> bool:
        """Wait until the client has room. Return whether the subscription still goes on with the same view."""
        await self.sink.drained()
        return self.goes_on(subscription)

    async def _replay(self, subscription: Subscription, batch: Batch, until: str | None = None) -> None:
        """Deliver missed changes in pieces, no faster than the client takes them."""
        check_same_store(subscription.definition, batch.changes)
        missed, position = self._missed.of(batch), batch.position
        if until is not None and self._order(position) >= (end := self._order(until)):
            missed.count = sum(self._order(change.position) <= end for change in batch.changes)
            position = until
        done = 0
        while done < missed.count:
            if not self.sink.has_room and not await self._missed.may_hold(missed.changes):
                return
            if not await self._may_deliver(subscription):
                return
            done = await self._missed.deliver_piece(subscription, missed, done)
            if done < missed.count:
                await asyncio.sleep(0)
        if self.goes_on(subscription):
            subscription.position = position

    def may_show(self, subscription: Subscription, batch: Batch, until: str) -> bool:
        """Return whether a change up to position `until` may show something in the view; true if that takes long to
        decide."""
        return self._missed.may_show(subscription, batch, until)

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
        batch = await self._missed.read(subscription)
        check_same_store(subscription.definition, batch.changes)
        missed, done = self._missed.of(batch), 0
        while done < missed.count:
            if not self.goes_on(subscription) or not self.sink.has_room:
                return
            done = await self._missed.deliver_piece(subscription, missed, done)
            if done < missed.count:
                await asyncio.sleep(self._missed.worked)  # leaves half of the loop's time to others
        if self.goes_on(subscription):
            subscription.position = batch.position
            self._listen_if_there(subscription)
        await asyncio.sleep(self._missed.worked)

    def _listen_if_there(self, subscription: Subscription) -> None:
        """Listen if fan-out has delivered nothing since. After a pause it may have, on a busy hub each time."""
        order = self._order(subscription.position)
        if order >= self._fanout.order and not self._fanout.is_delivering:
            self._listen(subscription, order)
