"""Tells why a transaction failed with WriteConflict: it collided with another one, or the server's cache had no room.

MongoDB aborts a transaction whose changes fill the cache. Up to a threshold it reports this as WriteConflict, like a
collision. The storage engine counts collisions only.

Source: MongoDB manual, "Transactions in Applications" (TransactionTooLargeForCache) and `$collStats`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pymongo.errors import PyMongoError

from stores.mongo.codec import Document
from stores.mongo.connection import Connection
from stores.mongo.errors import WRITE_CONFLICT, code_of

_OF_INDEXES: Final = {
    "$map": {"input": {"$objectToArray": "$storageStats.indexDetails"}, "in": "$$this.v.transaction.update conflicts"}
}
_COUNT: Final[list[Document]] = [
    {"$collStats": {"storageStats": {}}},
    {"$project": {"count": {"$add": ["$storageStats.wiredTiger.transaction.update conflicts", {"$sum": _OF_INDEXES}]}}},
]


class Conflicts:
    """The counted collisions in some collections, over the attempts of one transaction. An attempt may add to the
    collections, which then counts as a collision."""

    def __init__(self, connection: Connection, collections: Collection[str]) -> None:
        self._connection = connection
        self._collections = collections
        self._counted: int | None = None

    async def explain(self, error: PyMongoError) -> bool:
        """Return whether a collision may explain the error. The first WriteConflict is taken for a collision, a later
        one only if collisions have been counted since the one before."""
        if code_of(error) != WRITE_CONFLICT:
            return True
        before, self._counted = self._counted, await self._count()
        return before is None or self._counted != before

    async def _count(self) -> int | None:
        """Return the number of collisions, or None if the server does not give it."""
        count = 0
        try:
            for name in sorted(self._collections):
                async for shard in await self._connection.collection(name).aggregate(_COUNT):
                    count += shard["count"]
        except (PyMongoError, TypeError):  # null for a server that does not count
            return None
        return count
