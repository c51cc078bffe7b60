"""A consumer's position and lease on MongoDB: one document of `_meta`.

A commit changes that document in the same transaction as its writes, on condition that token and position are still
those of the lease. So if two processes handle the same changes, only one commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from pymongo import ReturnDocument

from stores.consumer import Lease
from stores.errors import LeaseLost
from stores.mongo import position
from stores.mongo.codec import Document
from stores.mongo.commits import Committer
from stores.mongo.connection import META, Connection, Session
from stores.mongo.errors import store_errors
from stores.mongo.feed import MongoFeed
from stores.mongo.orphans import end_orphans
from stores.protocol import Batch, Write

_SUSPICIOUS_SECONDS: Final = 1.0
"""Seconds after which taking a lease is suspicious. It normally takes milliseconds; it may be waiting for a commit of a
process that died or was suspended in the middle of it."""

# The server's clock, because the clocks of hubs differ and jump.
_NOW: Final = {"$toLong": "$$NOW"}
_NEXT_TOKEN: Final = {"$add": [{"$ifNull": ["$token", 0]}, 1]}


class MongoConsumerState:
    """See `stores.consumer.ConsumerState`. `id` is the id of the document."""

    def __init__(self, connection: Connection, feed: MongoFeed, committer: Committer, id: str) -> None:
        self._connection = connection
        self._feed = feed
        self._committer = committer
        self._id = id
        self._is_known = False

    def follow(self, since: str) -> AsyncGenerator[Batch]:
        return self._feed.follow_along(since)

    async def acquire(self, holder: str, seconds: float, since: str | None) -> Lease | None:
        with store_errors():
            if not self._is_known:
                await self.make(since)
            taking = asyncio.create_task(self._take(holder, seconds))
            try:
                await asyncio.wait([taking], timeout=_SUSPICIOUS_SECONDS)
                if not taking.done():
                    await end_orphans(self._connection, seconds / 2)
                lease = await taking
            finally:
                taking.cancel()
        return None if lease is None else Lease(int(lease["token"]), seconds, str(lease["position"]))

    async def _take(self, holder: str, seconds: float) -> Document | None:
        taken = {"holder": holder, "until": _ahead(seconds), "token": _NEXT_TOKEN}
        mine_or_free = {"_id": self._id, "$or": [{"holder": holder}, {"$expr": _is_free(seconds)}]}
        return await self._connection.collection(META).find_one_and_update(
            mine_or_free, [{"$set": taken}], return_document=ReturnDocument.AFTER
        )

    async def make(self, since: str | None) -> None:
        """Create the document with the position `since` (None: now), unless it exists."""
        start = {"position": await self._plain(since), "holder": "", "until": 0, "token": 0}
        await self._connection.collection(META).update_one({"_id": self._id}, {"$setOnInsert": start}, upsert=True)
        self._is_known = True

    async def renew(self, lease: Lease, position: str) -> None:
        reached = await self._plain(position)
        with store_errors():
            await self._store(lease, reached)
        lease.position = reached

    async def commit(self, lease: Lease, writes: Sequence[Write], position: str) -> None:
        reached = await self._plain(position)
        if writes:
            await self._committer.commit_with(writes, self._id, lambda session: self._store(lease, reached, session))
        else:
            with store_errors():
                await self._store(lease, reached)
        lease.position = reached

    async def _store(self, lease: Lease, position: str, session: Session | None = None) -> None:
        """Store a position and renew the lease. Raises LeaseLost."""
        still_ours = {"_id": self._id, "token": lease.token, "position": lease.position}
        values = {"position": position, "until": _ahead(lease.seconds)}
        result = await self._connection.collection(META).update_one(still_ours, [{"$set": values}], session=session)
        if result.matched_count != 1:
            raise LeaseLost("another process works now")

    async def release(self, lease: Lease) -> None:
        with store_errors():
            ours = {"_id": self._id, "token": lease.token}
            await self._connection.collection(META).update_one(ours, {"$set": {"until": 0}})

    async def restart_at(self, since: str | None, writes: Sequence[Write], instead_of: str | None) -> None:
        replaced = {"_id": self._id} if instead_of is None else {"_id": self._id, "position": instead_of}
        values = {"position": await self._plain(since), "holder": "", "until": 0, "token": _NEXT_TOKEN}

        async def store(session: Session) -> None:
            meta = self._connection.collection(META)
            result = await meta.update_one(replaced, [{"$set": values}], upsert=instead_of is None, session=session)
            if instead_of is not None and result.matched_count != 1:
                raise LeaseLost("another process has restarted it")

        await self._committer.commit_with(writes, self._id, store)

    async def _plain(self, text: str | None) -> str:
        """Return a position (None: now) in the form in which it is stored: unsealed, so it does not depend on the
        key."""
        return position.plain(self._connection.epoch, text or await self._feed.position())


def _ahead(seconds: float) -> Document:
    return {"$add": [_NOW, round(seconds * 1000)]}


def _is_free(seconds: float) -> dict[str, Any]:
    """Return the condition that the lease has ended. An end later than that of a lease taken now comes from a wrong
    clock, and counts as ended."""
    return {"$or": [{"$lt": ["$until", _NOW]}, {"$gt": ["$until", _ahead(seconds)]}]}
