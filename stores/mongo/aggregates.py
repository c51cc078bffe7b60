"""Aggregations: the accumulator of `stores.accumulator` is fed, in threads, with the matching documents of one
snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from bson import Timestamp
from pymongo.errors import ExecutionTimeout, OperationFailure

from stores.accumulator import Accumulator
from stores.aggregation import Aggregated, Aggregation, Group
from stores.mongo import position
from stores.mongo.codec import Document, entity_of
from stores.mongo.compile import compile_filter, field_name
from stores.mongo.connection import Connection, Session
from stores.mongo.errors import store_errors
from stores.mongo.reading import document_groups
from stores.mongo.sizes import Pace
from stores.mongo.slow_reads import milliseconds
from stores.paths import Path
from stores.query import Filter
from stores.threads import in_thread

_BATCH: Final = 2_000
"""The most documents in one reply of the server."""

_LOOK_EVERY: Final = 20_000
"""Steps (see `stores.steps`) between two looks at the clock."""


_MOST_COUNTED: Final = 10_000
"""Values that the server counts. The groups are fewer where the values are arrays."""

_MEMORY_EXCEEDED: Final = 292

_Found = tuple[list[Group], Timestamp]
"""The groups of all matching documents at one cluster time, and that time."""


async def aggregate(connection: Connection, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
    """See `stores.protocol.Engine.aggregate`."""
    with store_errors():
        found = await _counted_by_server(connection, store, where, aggregation)
        groups, at = found or await _Reading(connection, store, where, aggregation).run()
    return Aggregated(position.at_time(connection.epoch, at), groups)


async def _counted_by_server(
    connection: Connection, store: str, where: Filter, aggregation: Aggregation
) -> _Found | None:
    """Let the server count the documents with each value of a field, if that is all that is asked. None if it is not,
    or if the values are too many or too large.

    What groups a document is in depends on the whole value of the field, so a value counts as one entity that stands
    for all documents with it. In the middle of an array the server would not find the values."""
    path = aggregation.counted_path
    if aggregation.paths and (path is None or len(path) > 1 or path == ("_id",)):
        return None
    name = None if path is None else field_name(path)
    stages: list[Document] = [
        {"$match": compile_filter(where)},
        {"$group": {"_id": name and f"${name}", "n": {"$sum": 1}}},
        {"$limit": _MOST_COUNTED + 1},
    ]
    command = {
        "aggregate": store,
        "pipeline": stages,
        "cursor": {"batchSize": _MOST_COUNTED + 2},
        "allowDiskUse": False,
    }
    try:
        cursor, at = await connection.snapshot(command, raw=True)
    except OperationFailure as error:
        if error.code != _MEMORY_EXCEEDED:
            raise
        return None
    if cursor["id"]:
        await connection.kill(store, cursor["id"])
    if cursor["id"] or len(cursor["firstBatch"]) > _MOST_COUNTED:
        return None
    accumulator = Accumulator(aggregation, _Deadline(connection.read_timeout).spend)
    await in_thread(_add_counted, accumulator, name, cursor["firstBatch"])
    return await in_thread(accumulator.result), at


class _Reading:
    """One aggregation of documents. `run` may read them twice (see `stores.read_turns`)."""

    def __init__(self, connection: Connection, store: str, where: Filter, aggregation: Aggregation) -> None:
        self._connection = connection
        self._store = store
        self._aggregation = aggregation
        self._find = {
            "find": store,
            "filter": compile_filter(where),
            "projection": projection_of(aggregation.paths),
        }

    async def run(self, at: Timestamp | None = None) -> _Found:
        groups, time = await self._connection.at_snapshot(self._read, at)
        if time is None:  # the reply for a collection that does not exist has no time
            return await self.run(await self._connection.now())
        return groups, time

    async def _read(self, concern: Document, seconds: float) -> tuple[list[Group], Timestamp | None]:
        deadline = _Deadline(seconds)
        accumulator = Accumulator(self._aggregation, deadline.spend)
        pace = Pace(self._connection.sizes, self._store, _BATCH)
        cursor = 0
        async with self._connection.client.start_session(causal_consistency=False) as session:
            try:
                limits = {"batchSize": pace.next(()), "maxTimeMS": milliseconds(seconds), "readConcern": concern}
                reply = await self._reply({**self._find, **limits}, session)
                cursor, rows, at = reply["id"], reply["firstBatch"], reply.get("atClusterTime")
                while True:
                    pace.came(rows)
                    await in_thread(_add, accumulator, rows)
                    deadline.check()
                    if not cursor:
                        return await in_thread(accumulator.result), at or concern.get("atClusterTime")
                    more = {"getMore": cursor, "collection": self._store, "batchSize": pace.next(rows)}
                    reply = await self._reply(more, session)
                    cursor, rows = reply["id"], reply["nextBatch"]
            finally:
                pace.release()
                if cursor:
                    await self._connection.kill(self._store, cursor)

    async def _reply(self, command: Document, session: Session) -> Document:
        cursor: Document = (await self._connection.command(command, session, raw=True))["cursor"]
        return cursor


class _Deadline:
    """The end of the time that a read may take: its server, and the work on the documents."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._steps = _LOOK_EVERY

    def spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            self._steps = _LOOK_EVERY
            self.check()

    def check(self) -> None:
        """Raise the error that a server raises beyond its time limit."""
        if time.monotonic() > self._ends:
            raise ExecutionTimeout("the aggregation took longer than it may")


def projection_of(paths: Sequence[Path]) -> dict[str, int]:
    """Return the projection to these paths. A path inside another one is left out: MongoDB refuses both together."""
    needed = [path for path in paths if not any(path[:n] in paths for n in range(1, len(path)))]
    return ({} if ("_id",) in needed else {"_id": 0}) | {field_name(path): 1 for path in needed}


def _add_counted(accumulator: Accumulator, name: str | None, rows: Sequence[Any]) -> None:
    for documents in document_groups(rows):
        for found in documents:
            accumulator.add(entity_of({name: found["_id"]}) if name else {}, int(found["n"]))


def _add(accumulator: Accumulator, rows: Sequence[Any]) -> None:
    for documents in document_groups(rows):  # a call that decodes a whole reply would hold the interpreter
        for document in documents:
            accumulator.add(entity_of(document))
