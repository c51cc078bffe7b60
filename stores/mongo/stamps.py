"""Stamps: one document for each counter, raised in the transaction that changes the entities.

Of two transactions that raise the same counter, the later one fails and is repeated. So the one that gets the greater
stamp has begun after the other one was committed: the order of the stamps is that of the commits. Those of one process
take turns (`stores/mongo/entity_turns.py`), so that they do not collide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import OperationFailure

from stores.mongo.codec import Document
from stores.mongo.connection import META, Connection, Session
from stores.mongo.errors import WRITE_CONFLICT
from stores.protocol import Insert, Procedure, Stamp, Update, UpdateMany, Upsert, Write
from stores.records import Entity, now_us

NextStamps = Callable[[], Entity]
"""Returns the next stamps for an entity: the fields that are set in it."""


class StampSource:
    """The stamps of one transaction. They are taken from the counter before they are needed; those that are left over
    are given to no entity."""

    def __init__(self, connection: Connection, session: Session | None) -> None:
        self._connection = connection
        self._session = session
        self._free: dict[str, range] = {}

    async def reserve(self, stamps: Iterable[Stamp], count: int) -> None:
        """Have stamps for at least `count` entities. From now on, no other transaction takes any of these counters."""
        for counter, fields in _by_counter(stamps).items():
            needed, highest = count * len(fields), max(fields, key=lambda stamp: stamp.start)
            free = self._free.get(counter, range(0))
            if len(free) < needed or free.start < highest.start:
                first = await self.take(highest, needed)
                self._free[counter] = range(first, first + needed)

    async def reserve_for(self, writes: Sequence[Write]) -> None:
        """Have the stamps that single writes of a commit need, which is known before the first of them is done. Of
        others, more may be needed later; but the counters are taken now, so that commits that take long are not
        overtaken by short ones, and repeated, all the time."""
        wanted: dict[Stamp, int] = {}
        for write in writes:
            match write:
                case Insert(stamps=stamps) | Update(stamps=stamps) | Upsert(stamps=stamps):
                    for stamp in stamps:
                        wanted[stamp] = wanted.get(stamp, 0) + 1
                case UpdateMany(stamps=stamps) | Procedure(stamps=stamps):
                    for stamp in stamps:
                        wanted.setdefault(stamp, 1)
        for stamp, count in sorted(wanted.items(), key=lambda each: each[0].counter):
            await self.reserve((stamp,), count)

    def next_of(self, stamps: Sequence[Stamp]) -> NextStamps:
        """Return the function that gives stamps which are reserved."""
        return lambda: dict(self._next(stamps))

    def stamped(self, entity: Entity, stamps: Sequence[Stamp]) -> Entity:
        """Return an entity with stamps that are reserved."""
        return {**entity, **dict(self._next(stamps))} if stamps else entity

    def _next(self, stamps: Sequence[Stamp]) -> Iterator[tuple[str, int]]:
        for stamp in stamps:
            free = self._free[stamp.counter]
            self._free[stamp.counter] = free[1:]
            yield stamp.field, free[0]

    async def take(self, stamp: Stamp, count: int) -> int:
        """Take `count` stamps, and return the first of them."""
        assert self._session is not None, "outside of a transaction, the order of stamps would not be that of commits"
        counters, id = self._connection.collection(META), f"stamp:{stamp.counter}"
        last = {"$add": [{"$max": [{"$add": ["$last", 1]}, stamp.first(-1, now_us())]}, count - 1]}
        # Also a commit that takes no stamp, but lets the counter go on, must collide with others.
        raised: list[Document] = [{"$set": {"last": last, "commits": {"$add": ["$commits", 1]}}}]
        after = ReturnDocument.AFTER
        counter: Any = await counters.find_one_and_update(
            {"_id": id}, raised, return_document=after, session=self._session
        )
        if counter is None:
            # Not in the transaction: two that made it would fail with a duplicate id, and not be repeated.
            await counters.update_one({"_id": id}, {"$setOnInsert": {"last": 0, "commits": 0}}, upsert=True)
            labels = {"errorLabels": ["TransientTransactionError"]}
            raise OperationFailure("the counter of stamps has just been made", WRITE_CONFLICT, labels)
        return int(counter["last"]) - count + 1


def _by_counter(stamps: Iterable[Stamp]) -> dict[str, list[Stamp]]:
    found: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        found.setdefault(stamp.counter, []).append(stamp)
    return dict(sorted(found.items()))
