"""The embedded engine: one SQLite file, one hub process, no database server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import apsw

from stores.aggregation import Aggregated, Aggregation
from stores.consumer import LeasedConsumer
from stores.errors import CannotOpen, NotFound, Unavailable
from stores.newest import Newest, Texts
from stores.options import CONSUMER_DEFAULTS, ConsumerOptions, EngineOptions
from stores.protocol import (
    MOST_HISTORY_ENTRIES,
    BeforeLong,
    ChangeHandler,
    Consumer,
    Definitions,
    IdempotencyKey,
    Listing,
    Procedure,
    Summary,
    Write,
    Written,
)
from stores.query import EVERYTHING, WHOLE, Filter, Projection, Query
from stores.records import Entity, History
from stores.schema import StoreDefinition
from stores.sqlite import lists
from stores.sqlite.aggregates import aggregate
from stores.sqlite.bulk_changes import BulkChanges
from stores.sqlite.compile import Compiler
from stores.sqlite.connection import FILES_OF_CONNECTION, FileLock, connect, translated, why_unusable
from stores.sqlite.consumer import LeaseState, SQLiteConsumerState
from stores.sqlite.feed import SQLiteFeed, current_seq
from stores.sqlite.file_watch import FileWatch
from stores.sqlite.group_commit import GroupCommitter
from stores.sqlite.heavy import BULK, HEAVY_BYTES, TooLongForLoop, is_heavy
from stores.sqlite.history import condensed, move, read_history, retired_up_to
from stores.sqlite.idempotency import earlier_outcome, forget_expired
from stores.sqlite.log_keeper import LogKeeper
from stores.sqlite.mending import mend_file
from stores.sqlite.newest import read_newest
from stores.sqlite.readers import MOST_STREAMS, Readers, own_connections
from stores.sqlite.structure import Structure
from stores.sqlite.tables import StoreTable, load_tables, prepare_file
from stores.sqlite.transaction import Transaction
from stores.sqlite.visibility_index import groups_in_use
from stores.sqlite.writes import WriteExecutor
from stores.superseded import SupersededDefinitions
from stores.tasks import end_tasks, run_each
from stores.throttling import MemoryThrottles, ThrottleCounts

log = logging.getLogger(__name__)

_WHAT_TO_DO = "Stop the hub by SIGTERM, which saves what it can; put the right files in place, and start it."
T = TypeVar("T")

LONGEST_PAGE_ON_LOOP = 200
"""Entities; a longer list is read in a reader thread and streamed."""

HOUSEKEEPING_SECONDS = 3_600.0
"""Seconds that a sweep may search for records to retire, and the check of a new definition for entities in conflict
with it."""


class SQLiteEngine:
    """See `stores.protocol.Engine`. `path` is the database file; its folder must exist."""

    feed: SQLiteFeed
    throttles: ThrottleCounts
    shared = False

    def __init__(self, path: Path, options: EngineOptions | None = None) -> None:
        self.path = path.resolve()  # SQLite follows links too: its log is beside the file
        self.options = options or EngineOptions()
        self._most_streams = MOST_STREAMS
        self.most_files = FILES_OF_CONNECTION * (MOST_STREAMS + self._own_connections)
        self._lock = FileLock(self.path)
        self._tables: dict[str, StoreTable] = {}
        self._superseded = SupersededDefinitions()
        self._consumers: dict[str, LeasedConsumer] = {}
        self._leases: dict[str, LeaseState] = {}
        self.throttles = MemoryThrottles()

    @property
    def _own_connections(self) -> int:
        """The number of connections of the writer and of all reads but streams."""
        return 1 + own_connections(self.options.reader_threads)

    def limit_files(self, files: int) -> None:
        self._most_streams = max(1, min(MOST_STREAMS, files // FILES_OF_CONNECTION - self._own_connections))

    async def open(self) -> None:
        self._lock.acquire()
        try:
            connection = connect(self.path, writer=True)
            try:
                self._open_file(connection)
            except apsw.Error as error:
                raise CannotOpen(why_unusable(self.path, connection, error)) from error
        except BaseException:
            self._lock.release()
            raise

    def _open_file(self, connection: apsw.Connection) -> None:
        epoch = prepare_file(connection)
        self._tables = load_tables(connection)
        mend_file(connection, self._tables.values())
        transaction = Transaction()
        o = self.options
        bounds_of_reads = (o.reader_threads, o.read_timeout, o.max_slow_reads_per_user, self._most_streams)
        self._readers = Readers(self.path, *bounds_of_reads)
        self.feed = SQLiteFeed(epoch, self._readers, current_seq(connection))
        bounds = (o.read_timeout, o.max_entity_bytes)
        self._executor = WriteExecutor(connection, self._tables, transaction, self.feed, *bounds)
        self._quick = self._executor.on_loop()
        changes_made = partial(transaction.changes_for, self.feed, connection)
        self._committer = GroupCommitter(connection, transaction, changes_made, self.feed.publish)
        self._structure = Structure(self._committer, self._executor, self._superseded)
        components = self._committer, self._executor, self._readers, self._superseded
        self._bulk_changes = BulkChanges(*components, o.read_timeout, o.max_slow_reads_per_user)
        keeper = LogKeeper(self.path, self._readers, int(self.options.sqlite_log_mb * 1_048_576))
        watch = FileWatch(self.path, self._files_lost)
        loop = asyncio.get_running_loop()
        self._watching = [loop.create_task(keeper.run()), loop.create_task(watch.run())]

    def _files_lost(self, what: str) -> None:
        log.error("%s: no more writes are accepted. %s", what, _WHAT_TO_DO)
        self._committer.refusal = what

    async def close(self) -> None:
        await end_tasks(self._watching)
        self._consumers.clear()
        self._leases.clear()
        await self._committer.close()
        await self._readers.close()
        self._committer.connection.close()
        self._lock.release()

    async def ping(self) -> None:
        if self._committer.refusal:
            raise Unavailable(self._committer.refusal)
        await self._readers.run(current_seq)

    async def stored_constant(self, name: str, value: str, *, replace: bool = False) -> str:
        return await self._committer.submit(lambda: self._constant(name, value, replace), None, heavy=True)

    def _constant(self, name: str, value: str, replace: bool) -> str:
        connection = self._committer.connection
        verb = "REPLACE" if replace else "IGNORE"
        with translated(connection):
            connection.execute(f"INSERT OR {verb} INTO meta VALUES(?,?)", (name, value))
            return str(connection.execute("SELECT value FROM meta WHERE name=?", (name,)).get)

    async def read_constant(self, name: str) -> str | None:
        value = await self._readers.run(lambda c: c.execute("SELECT value FROM meta WHERE name=?", (name,)).get)
        return None if value is None else str(value)

    async def define(
        self,
        *definitions: StoreDefinition,
        writes: Sequence[Write] = (),
        by: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> list[Written]:
        differing = self._structure.differing(definitions)
        return await self._structure.define(differing, writes, by, key) if differing or writes else []

    async def rename(self, store: str, name: str, writes: Sequence[Write]) -> None:
        await self._structure.rename(store, name, writes)

    async def drop(self, store: str, writes: Sequence[Write] = (), by: str | None = None) -> list[Written]:
        return await self._structure.drop(store, writes, by)

    async def get(
        self, store: str, id: str, where: Filter = EVERYTHING, projection: Projection = WHOLE
    ) -> tuple[bytes, int] | None:
        table = self._table(store)
        known = table.compiled.at_hand(where)
        if known is None:
            compiler = Compiler(table)
            known = compiler.condition(where), compiler.values
        condition, values = known
        # The visibility predicate first: see `Compiler.kept_choice`.
        sql = f"SELECT CAST(doc AS BLOB), rev FROM {table.table} WHERE {condition} AND id=?{len(values) + 1}"
        bound = (*values, id)
        if projection.everything:
            found: tuple[bytes, int] | None
            found = await self._readers.run(lambda connection: connection.execute(sql, bound).fetchone())
            return found
        render = lists.renderer_of(projection)

        def read(connection: apsw.Connection) -> tuple[bytes, int] | None:
            row = connection.execute(sql, bound).fetchone()
            return None if row is None else (render(row[0]), row[1])

        return await self._readers.run(read)

    async def find(
        self, store: str, query: Query, projection: Projection = WHOLE, before_long: BeforeLong | None = None
    ) -> Listing:
        table, render = self._table(store), lists.renderer_of(projection)
        # A page with a large limit is often short. Only if it is not, a thread and a stream are worth their cost.
        limit = min(query.limit, LONGEST_PAGE_ON_LOOP)
        showing = None if projection.everything else render
        try:
            seq, docs, last = await self._readers.run(lambda c: lists.read_page(c, table, query, limit, showing))
            is_long = last is not None and query.limit > limit
        except lists.LongPage:
            is_long = True
        if is_long:  # outside of `except`, and without the documents: it may wait
            docs = []
            return await self._stream(table, query, render, before_long)
        return Listing(self.feed.at(seq), last, b"[" + b",".join(docs) + b"]")

    async def _stream(
        self, table: StoreTable, query: Query, render: lists.Render, before_long: BeforeLong | None
    ) -> Listing:
        """Return a list whose body is read while it is sent. The reading stops when the body is closed."""
        if before_long is not None and (slot := before_long()) is not None:
            await slot
        chunk = self.options.chunk_bytes
        pieces = self._readers.stream(lambda c: lists.stream_page(c, table, query, render, chunk))
        head = await anext(pieces)
        assert isinstance(head, tuple)
        return Listing(self.feed.at(head[0]), head[1], cast(AsyncIterator[bytes], pieces))

    async def entities(self, store: str, query: Query, most_bytes: int | None = None) -> list[Entity]:
        table = self._table(store)
        return await self._readers.run(lambda connection: lists.read_entities(connection, table, query, most_bytes))

    async def newest(self, store: str, wanted: Newest, projection: Projection = WHOLE) -> Texts:
        table = self._table(store)
        return await self._readers.run(lambda connection: read_newest(connection, table, wanted, projection))

    async def summarize(self, store: str, where: Filter, projection: Projection = WHOLE) -> Summary:
        table, render = self._table(store), lists.renderer_of(projection)
        return await self._readers.run(lambda c: lists.summarize(c, table, where, render, self.feed.at))

    async def aggregate(self, store: str, where: Filter, aggregation: Aggregation) -> Aggregated:
        table = self._table(store)
        return await self._readers.run(lambda c: aggregate(c, table, where, aggregation, self.feed.at))

    async def count(
        self, store: str, where: Filter = EVERYTHING, counts: Callable[[Entity], bool] | None = None
    ) -> int:
        table = self._table(store)
        return await self._readers.run_housekeeping(
            lambda c: lists.count(c, table, where, counts), HOUSEKEEPING_SECONDS
        )

    async def groups_in_use(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        tables = [table for store in stores if (table := self._tables.get(store)) is not None]
        return await self._readers.in_thread(lambda connection: groups_in_use(connection, tables, groups))

    async def count_duplicates(self, store: str, *paths: str, where: Filter = EVERYTHING) -> tuple[int, str]:
        table = self._table(store)
        return await self._readers.run_housekeeping(
            lambda c: lists.count_duplicates(c, table, paths, where), HOUSEKEEPING_SECONDS
        )

    async def commit(
        self,
        writes: Sequence[Write],
        by: str | None,
        key: IdempotencyKey | None = None,
        definition: Definitions = None,
    ) -> list[Written]:
        if len(writes) == 1:
            [write] = writes
            if isinstance(write, BULK):
                return await self._bulk_changes.commit(write, by, key, definition)
            if key is None and not isinstance(write, Procedure):
                try:
                    # One statement changes the entity, so it needs no savepoint. If it fails, what was written before
                    # it does no harm: a number taken from a serial, or the mark of a mixed path.
                    return [await self._committer.submit(partial(self._run_one, write, definition), by)]
                except TooLongForLoop:
                    pass
        if (len(writes) != 1 or key is not None or isinstance(writes[0], Procedure)) and not is_heavy(writes):
            with suppress(TooLongForLoop):
                return await self._committer.submit(partial(self._run_light, writes, key, definition), by)
        return await self._committer.submit(partial(self._run_heavy, writes, key, definition), by, heavy=True)

    # Methods, because the many objects of functions within `commit` would make the garbage collector run more often.
    def _run_one(self, write: Write, definition: Definitions) -> Written:
        if definition is not None:
            self._superseded.check(definition)
        return self._quick.run(write, 0)

    def _run_light(self, writes: Sequence[Write], key: IdempotencyKey | None, definition: Definitions) -> list[Written]:
        if definition is not None:
            self._superseded.check(definition)
        return self._in_savepoint(lambda: self._quick.run_once(writes, key))

    def _run_heavy(self, writes: Sequence[Write], key: IdempotencyKey | None, definition: Definitions) -> list[Written]:
        if definition is not None:
            self._superseded.check(definition)
        return self._executor.run_once(writes, key)

    async def outcome(self, key: IdempotencyKey) -> list[Written] | None:
        with suppress(TooLongForLoop):
            return await self._readers.run(lambda connection: earlier_outcome(connection, key, HEAVY_BYTES))
        return await self._readers.in_thread(lambda connection: earlier_outcome(connection, key))

    def _in_savepoint(self, run: Callable[[], T]) -> T:
        outcome: list[T] = []
        with self._committer.connection:
            outcome.append(run())
        return outcome[0]

    async def _commit_with(
        self,
        writes: Sequence[Write],
        also: Callable[[apsw.Connection], T],
        committed: Callable[[], None] | None = None,
    ) -> T:
        """See `stores.sqlite.consumer.CommitWith`."""

        def run_all(executor: WriteExecutor) -> T:
            outcome = also(self._committer.connection)
            executor.run_all(writes)
            return outcome

        if committed is None and not is_heavy(writes):
            with suppress(TooLongForLoop):
                return await self._committer.submit(lambda: self._in_savepoint(lambda: run_all(self._quick)), None)
        return await self._committer.submit(lambda: run_all(self._executor), None, heavy=True, committed=committed)

    async def history(
        self,
        store: str,
        id: str,
        after: str | None = None,
        limit: int = MOST_HISTORY_ENTRIES,
        fields: frozenset[str] = frozenset(),
    ) -> History:
        # In a thread, because entries are compared in Python, and may be large.
        return await self._readers.in_thread(
            lambda connection: read_history(connection, store, id, after, limit, fields)
        )

    def consumer(self, name: str, handle: ChangeHandler, options: ConsumerOptions = CONSUMER_DEFAULTS) -> Consumer:
        lease_state = self._leases.setdefault(name, LeaseState())
        state = SQLiteConsumerState(name, self.feed, self._commit_with, lease_state)
        self._consumers[name] = consumer = LeasedConsumer(name, handle, options, state)
        return consumer

    def consumers(self) -> Sequence[Consumer]:
        return list(self._consumers.values())

    async def sweep(self, now: int) -> None:
        def forget() -> Awaitable[None]:
            return self._committer.submit(partial(forget_expired, self._committer.connection, now), None, heavy=True)

        await run_each(partial(self._retire, now), forget)

    async def _retire(self, now: int) -> None:
        """Condense the records of the feed that are older than its retention, or beyond its size."""
        oldest = now - int(self.options.feed_retention_hours * 3_600_000)
        most = int(self.options.feed_retention_mb * 1_048_576)
        readers = self._readers
        up_to = await readers.run_housekeeping(
            lambda connection: retired_up_to(connection, oldest, most), HOUSEKEEPING_SECONDS
        )
        connection = self._committer.connection
        while up_to > 0:  # in steps, so that other writes can run in between
            records = await readers.run_housekeeping(lambda c: condensed(c, up_to), HOUSEKEEPING_SECONDS)
            if records is None:
                break
            await self._committer.submit(partial(move, connection, records), None, heavy=True)

    def _table(self, store: str) -> StoreTable:
        table = self._tables.get(store)
        if table is None:
            raise NotFound(f"no store {store}")
        return table
