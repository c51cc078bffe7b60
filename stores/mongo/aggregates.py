"""Aggregations: the accumulator of `stores.accumulator` is fed, in threads, from one snapshot, with lists of values
that the server has collected, or else with the matching documents."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from bson import Timestamp
from pymongo.errors import ExecutionTimeout, OperationFailure

from stores.accumulator import Accumulator
from stores.aggregation import Aggregated, Aggregation, Group
from stores.bounds import Limit
from stores.mongo import position
from stores.mongo.codec import Document, entity_of
from stores.mongo.compile import compile_filter, field_name
from stores.mongo.connection import Connection, Session
from stores.mongo.documents import document_groups
from stores.mongo.errors import store_errors
from stores.mongo.grouping import MOST_GROUPED, CannotGroup, GroupReader, is_groupable, pipeline
from stores.mongo.sizes import BATCH_BYTES, Pace, raw_bytes
from stores.mongo.slow_reads import milliseconds
from stores.paths import Path
from stores.query import Filter
from stores.steps import Spend
from stores.threads import in_thread

_BATCH: Final = 2_000
"""The most documents in one reply of the server."""

_FIRST_GROUPS: Final = 20
"""Documents in the first reply with lists of values: of numbers half a megabyte for each measured path."""

MOST_GROUPINGS: Annotated[int, Limit("process on MongoDB", "groupings in the server", "documents are read")] = 2
"""Each may take 100 MB of the server."""

_LOOK_EVERY: Final = 20_000
"""Steps (see `stores.steps`) between two looks at the clock."""

_TOO_MUCH: Final = frozenset(
    {
        146,  # ExceededMemoryLimit: of one list
        292,  # QueryExceededMemoryLimitNoDiskUseAllowed
        10334,  # BSONObjectTooLarge
        13548,  # beyond the largest buffer of the server
        17419,  # a group is too large for a document
        17420,
    }
)
"""Codes of what does not fit into the server's memory or into a document."""

_Found = tuple[list[Group], Timestamp]
"""The groups of all matching documents at one cluster time, and that time."""

_Add = Callable[[Sequence[Any]], None]
"""Adds the rows of one reply to an accumulator."""


async def aggregate(connection: Connection, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
    """See `stores.protocol.Engine.aggregate`."""
    with store_errors():
        found = await _grouped_by_server(connection, store, where, aggregation) if is_groupable(aggregation) else None
        groups, at = found or await DocumentReading(connection, store, where, aggregation).run()
    return Aggregated(position.at_time(connection.epoch, at), groups)


async def _grouped_by_server(
    connection: Connection, store: str, where: Filter, aggregation: Aggregation
) -> _Found | None:
    """Return the groups if the server can collect the values for them, and does not for too many others already."""
    if connection.groupings >= MOST_GROUPINGS:
        return None
    connection.groupings += 1
    try:
        return await GroupReading(connection, store, where, aggregation).run()
    except CannotGroup:
        return None
    except OperationFailure as error:
        if error.code not in _TOO_MUCH:
            raise
        return None
    finally:
        connection.groupings -= 1


class _Reading(ABC):
    """One aggregation. `run` may read twice (see `stores.read_turns`)."""

    def __init__(self, connection: Connection, store: str, where: Filter, aggregation: Aggregation) -> None:
        self._connection = connection
        self._store = store
        self._where = where
        self._aggregation = aggregation

    @abstractmethod
    def _command(self, pace: Pace) -> Document:
        """Return the command that opens the cursor."""

    @abstractmethod
    def _pace(self) -> Pace:
        """Return the pace of the replies."""

    @abstractmethod
    def _adder(self, accumulator: Accumulator, spend: Spend) -> _Add:
        """Return the function that adds the rows of a reply."""

    async def run(self, at: Timestamp | None = None) -> _Found:
        groups, time = await self._connection.at_snapshot(self._read, at)
        if time is None:  # the reply for a collection that does not exist has no time
            return await self.run(await self._connection.now())
        return groups, time

    async def _read(self, concern: Document, seconds: float) -> tuple[list[Group], Timestamp | None]:
        deadline = _Deadline(seconds)
        accumulator = Accumulator(self._aggregation, deadline.spend)
        add = self._adder(accumulator, deadline.spend)
        pace = self._pace()
        cursor = 0
        async with self._connection.client.start_session(causal_consistency=False) as session:
            try:
                limits = {"maxTimeMS": milliseconds(seconds), "readConcern": concern}
                reply = await self._reply({**self._command(pace), **limits}, session)
                cursor, rows, at = reply["id"], reply["firstBatch"], reply.get("atClusterTime")
                while True:
                    pace.came(rows)
                    await in_thread(add, rows)
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


class DocumentReading(_Reading):
    """The documents, as far as they are needed, are added one by one."""

    def _command(self, pace: Pace) -> Document:
        return {
            "find": self._store,
            "filter": compile_filter(self._where),
            "projection": projection_of(self._aggregation.paths),
            "batchSize": pace.next(()),
        }

    def _pace(self) -> Pace:
        return Pace(self._connection.sizes, self._store, _BATCH)

    def _adder(self, accumulator: Accumulator, spend: Spend) -> _Add:
        def add(rows: Sequence[Any]) -> None:
            for documents in document_groups(rows):  # a call that decodes a whole reply would hold the interpreter
                for document in documents:
                    accumulator.add(entity_of(document))

        return add


class GroupReading(_Reading):
    """The server collects the values. Raises CannotGroup, and OperationFailure with one of the codes `_TOO_MUCH`."""

    def _command(self, pace: Pace) -> Document:
        first = pace.next(()) if self._aggregation.measured else MOST_GROUPED + 2
        return {
            "aggregate": self._store,
            "pipeline": pipeline(self._where, self._aggregation),
            "cursor": {"batchSize": first},
            "allowDiskUse": False,
        }

    def _pace(self) -> Pace:
        return _GroupPace(self._connection.sizes, "", _BATCH)  # sizes of documents say nothing of groups

    def _adder(self, accumulator: Accumulator, spend: Spend) -> _Add:
        return GroupReader(self._aggregation, accumulator, spend).add


class _GroupPace(Pace):
    """As many documents in each reply as have about `BATCH_BYTES`, if they are like the last ones."""

    def next(self, met: Sequence[Any]) -> int:
        size = raw_bytes(met)
        return max(1, min(_BATCH, BATCH_BYTES * len(met) // size)) if size else _FIRST_GROUPS


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
