"""The start of a subscription: a snapshot, the position from which its client resumes, or the present."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from auth.positions import unbind
from realtime.context import LiveContext
from realtime.errors import SnapshotTooLarge
from realtime.reconcile import LIST_ATTEMPTS, LIST_RETRY_SECONDS, whole_body
from realtime.redefinitions import check_same_store
from realtime.requests import SubscribeRequest
from realtime.subscription import Subscription
from realtime.unread import ClientList
from stores.errors import HistoryGone, Unavailable
from stores.query import Query


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a subscription. `entities` is the snapshot at `position`, or None."""

    position: str
    entities: bytes | None = None
    resync: bool = False


class SubscriptionStarts:
    """Finds where the subscriptions of one client begin. `list` holds the snapshot that is being read."""

    __slots__ = ("_acknowledged", "_context", "_list")

    def __init__(self, context: LiveContext, list: ClientList) -> None:
        self._context = context
        self._list = list
        self._acknowledged = ""
        """The latest position in an acknowledgement. Later acknowledgements do not go back behind it."""

    def acknowledge(self, position: str) -> None:
        """Record the position of an acknowledgement that is about to be sent."""
        self._acknowledged = self._latest(self._acknowledged, position)

    async def find(self, subscription: Subscription, request: SubscribeRequest, user: str, least: str = "") -> Start:
        """Return where the subscription begins, not before `least`. A long snapshot counts for `user`.

        Raises HistoryGone and SnapshotTooLarge.
        """
        if request.since is not None:
            try:
                return await self._resumed(subscription, request.since, least)
            except HistoryGone:
                if request.snapshot != "auto":
                    raise
            return await self._snapshot(subscription, user, resync=True)
        if request.snapshot:
            return await self._snapshot(subscription, user, resync=False)
        now = await self._context.engine.feed.position()
        return Start(self._latest(now, self._context.fanout.position, subscription.position, self._acknowledged))

    async def _snapshot(self, subscription: Subscription, user: str, *, resync: bool) -> Start:
        """Return a start with the visible matches. Events continue exactly from its position."""
        most, most_bytes = self._context.settings.snapshot, self._context.settings.snapshot_bytes
        query = Query(subscription.where, limit=most)
        fanout = self._context.fanout
        for _ in range(LIST_ATTEMPTS):
            unread = self._list.begin(user)
            reached = fanout.position  # by other subscriptions of the client; a long list takes time
            listing = await self._context.engine.find(
                subscription.store, query, subscription.projection, before_long=unread.enter
            )
            entities = await whole_body(listing, most_bytes, unread)
            if listing.next is not None or entities is None:
                bound, name = (
                    (f"{most} entities", "live_snapshot")
                    if listing.next is not None
                    else (f"{most_bytes} bytes", "live_snapshot_mb")
                )
                text = f"more than {bound} match: narrow the filter or list over REST"
                raise SnapshotTooLarge("snapshot", text).at(name)
            known = self._latest(listing.position, reached, subscription.position, self._acknowledged)
            if fanout.order_of(known) <= fanout.order_of(listing.position):
                return Start(listing.position, entities, resync)
            await asyncio.sleep(LIST_RETRY_SECONDS)
        raise Unavailable("the database is behind what this client has been told")

    async def _resumed(self, subscription: Subscription, since: str, least: str) -> Start:
        """Return a start from which the missed changes follow as events, then the new ones."""
        fanout, position = self._context.fanout, unbind(since, subscription.view.digest)
        # Before the acknowledgement, check that the history is available and that the store is still the same.
        first = await fanout.missed.read_after(position)
        check_same_store(subscription.definition, first.changes)
        await self._context.check_same_life(subscription.definition, position)
        check_same_store(subscription.definition, fanout.pending_ends_after(fanout.order_of(position)))
        if least and fanout.order_of(position) < fanout.order_of(least):
            if subscription.owner.may_show(subscription, first, least):
                raise HistoryGone("this connection has been told of what comes after that position")
            return Start(least)
        return Start(position)

    def _latest(self, *positions: str) -> str:
        return max((position for position in positions if position), key=self._context.fanout.order_of)
