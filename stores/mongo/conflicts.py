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
    """The counted collisions, over the attempts of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counted: dict[str, int] | None = None

    async def explain(self, error: PyMongoError, collections: Collection[str]) -> bool:
        """Return whether a collision in `collections`, to which the transaction writes, may explain the error. The
        first WriteConflict is taken for a collision, a later one only if collisions have been counted since the one
        before."""
        if code_of(error) != WRITE_CONFLICT:
            return True
        before, self._counted = self._counted, await self._count(collections)
        return before is None or self._counted != before

    async def _count(self, collections: Collection[str]) -> dict[str, int] | None:
        """Return the number of collisions in each collection, or None if the server does not give it."""
        counts = dict.fromkeys(collections, 0)
        try:
            for name in counts:
                async for shard in await self._connection.collection(name).aggregate(_COUNT):
                    counts[name] += shard["count"]
        except (PyMongoError, TypeError):  # null for a server that does not count
            return None
        return counts
