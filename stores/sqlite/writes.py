"""The statements of each kind of write.

Triggers of the tables add the change records. The open transaction gets the same changes for the feed.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain
from typing import Any, Final, cast

import apsw
import orjson

from stores.computing import Compute, effective
from stores.errors import (
    DuplicateValue,
    EntityTooLarge,
    HistoryGone,
    InvalidEntity,
    NotAsExpected,
    NotFound,
    StaleRevision,
    StoreError,
    TooManyMatches,
    refused_at,
)
from stores.paths import MISSING, Path, elements, split, traverses_array
from stores.protocol import (
    UNBOUNDED,
    BulkBytes,
    Delete,
    DeleteMany,
    Expect,
    Find,
    IdempotencyKey,
    Insert,
    Lock,
    Procedure,
    Recheck,
    Revisions,
    Serial,
    Step,
    Update,
    UpdateMany,
    Upsert,
    UpsertBytes,
    Write,
    Written,
)
from stores.query import And, Equal, Filter
from stores.records import SYSTEM_FIELDS, Entity, Operation, alters, concerns_system_fields
from stores.sqlite.compile import Compiler
from stores.sqlite.connection import time_limit, translate, translated
from stores.sqlite.feed import SQLiteFeed
from stores.sqlite.heavy import COMPUTED_BYTES, HEAVY, HEAVY_BYTES, TooLongForLoop, short_search
from stores.sqlite.idempotency import earlier_outcome, remember
from stores.sqlite.matches import Found, Rows, new_rows, search_sql, state_of
from stores.sqlite.serials import numbered
from stores.sqlite.tables import StoreTable, json_path
from stores.sqlite.transaction import Transaction

SECONDS_PER_MATCH: Final = 0.00001
"""Seconds that a bulk change may search longer for each match found: writing it takes longer than that."""

Row = tuple[int, int, str]
"""The number of an entity's row, its revision and its JSON text."""

_MIXED = (bool, dict, list)
CHECKED_ON_LOOP: Final = 16_384
"""Bytes of an entity with lists that compound indexes cover, up to which they are compared on the event loop."""

_INSERT = "INSERT INTO {} VALUES(NULL,?,?,?,?,?,?,?)"


class WriteExecutor:
    """The writes of a transaction that the caller has opened.

    `read_timeout`: seconds that a search may take, since all other writes wait for it.
    `most_bytes`: the largest entity, in bytes of JSON text.
    `found`: the entities that the only bulk change may concern; None if it searches for them itself.
    `longest`: characters of entities that a commit may parse. Raises TooLongForLoop for more."""

    def __init__(
        self,
        connection: apsw.Connection,
        tables: dict[str, StoreTable],
        transaction: Transaction,
        feed: SQLiteFeed,
        read_timeout: float,
        most_bytes: int,
        found: Found | None = None,
        longest: float = math.inf,
    ) -> None:
        self.connection = connection
        self.tables = tables
        self.transaction = transaction
        self.feed = feed
        self.read_timeout = read_timeout
        self.most_bytes = most_bytes
        self.found = found
        self.longest = longest
        self.begin()

    def begin(self) -> None:
        """Begin to count what a commit meets."""
        self.parsed = 0
        self.computed = 0
        self.changed = 0
        self.bulk_bytes = BulkBytes()
        self.found_bytes = BulkBytes()

    def over(self, tables: dict[str, StoreTable]) -> WriteExecutor:
        """Return an executor of the same transaction that knows other tables."""
        bounds = (self.read_timeout, self.most_bytes)
        return WriteExecutor(self.connection, tables, self.transaction, self.feed, *bounds)

    def on_loop(self) -> WriteExecutor:
        """Return an executor of the same transactions for the event loop. Raises TooLongForLoop."""
        bounds = (self.read_timeout, self.most_bytes)
        return WriteExecutor(self.connection, self.tables, self.transaction, self.feed, *bounds, longest=HEAVY_BYTES)

    def within(self, seconds: float, found: Found | None) -> WriteExecutor:
        """Return an executor of the same transaction whose bulk change may test its filter for `seconds`, and that
        changes only entities in `found` if it is given."""
        bounds = (seconds, self.most_bytes)
        return WriteExecutor(self.connection, self.tables, self.transaction, self.feed, *bounds, found)

    def run_once(self, writes: Sequence[Write], key: IdempotencyKey | None) -> list[Written]:
        """Run the writes of one commit, or return the outcome of the commit that was done with this key."""
        earlier = earlier_outcome(self.connection, key, self.longest) if key else None
        if earlier is not None:
            return earlier
        written = self.run_all(writes)
        if key:
            with translated(self.connection):
                remember(self.connection, key, written)
        return written

    def run_all(self, writes: Sequence[Write]) -> list[Written]:
        """Run the writes of one commit, in their order."""
        first = writes[0] if writes else None
        if isinstance(first, Insert):
            alike = [
                w.entity
                for w in writes
                if isinstance(w, Insert) and (w.store, w.serials) == (first.store, first.serials)
            ]
            if len(alike) == len(writes):
                return self.insert_all(self.table(first.store), alike, first.serials)
        met = UpsertBytes()
        return [self.run(write, index, met) for index, write in enumerate(writes)]

    def run(self, write: Write, index: int, met: UpsertBytes | None = None) -> Written:
        """Run the write at position `index` of a commit, whose upserts count in `met` what they meet. Raises the errors
        of `stores.protocol.Engine.commit`."""
        if index == 0:
            self.begin()
        with translated(self.connection, index), refused_at(index):
            return self.do(write, index, met)

    def do(self, write: Write, index: int, met: UpsertBytes | None) -> Written:
        table = self.table(write.store)
        match write:
            case Insert():
                return self.insert(table, write.entity, write.serials)
            case Update():
                return self.update(table, write)
            case Delete():
                return self.delete(table, write)
            case Upsert():
                return self.upsert(table, write, index, met)
            case UpdateMany():
                return self.update_many(table, write)
            case DeleteMany():
                return self.delete_many(table, write)
            case Expect():
                return self.expect(table, write)
            case Recheck():
                return self.recheck(write)
            case Procedure():
                return self.proceed(write, index)

    def table(self, store: str) -> StoreTable:
        table = self.tables.get(store)
        if table is None:
            raise NotFound(f"no store {store}")
        return table

    def insert(self, table: StoreTable, entity: Entity, serials: Sequence[Serial] = ()) -> Written:
        if serials:
            [entity] = numbered(self.connection, [entity], serials)
        doc = orjson.dumps(entity)
        if len(doc) > self.most_bytes:
            raise EntityTooLarge(self.most_bytes)
        self.check_arrays(table, entity, len(doc))
        self.mark_mixed_paths(table, entity)
        text = doc.decode()
        self.connection.execute(_INSERT.format(table.table), _row(entity, text))
        self.note("insert", table, entity["_id"], None, text)
        return Written(doc, entity["_rev"])

    def insert_all(
        self, table: StoreTable, entities: Sequence[Entity], serials: Sequence[Serial] = ()
    ) -> list[Written]:
        """Insert entities with one statement, prepared once (measured: preparing it for each entity takes a quarter
        more CPU)."""
        if serials:
            entities = numbered(self.connection, entities, serials)
        for entity in entities:
            self.mark_mixed_paths(table, entity)
        written: list[Written] = []

        def rows() -> Iterator[tuple[Any, ...]]:
            for entity in entities:
                doc = orjson.dumps(entity)
                if len(doc) > self.most_bytes:
                    with refused_at(len(written)):
                        raise EntityTooLarge(self.most_bytes)
                with refused_at(len(written)):
                    self.check_arrays(table, entity, len(doc))
                written.append(Written(doc, entity["_rev"]))
                text = doc.decode()
                # Before it is there: a row that fails undoes them all.
                self.note("insert", table, entity["_id"], None, text)
                yield _row(entity, text)

        try:
            self.connection.executemany(_INSERT.format(table.table), rows())
        except apsw.Error as error:
            # The row generated last is the one at fault.
            raise translate(self.connection, error, len(written) - 1) from error
        return written

    def update(self, table: StoreTable, write: Update) -> Written:
        return self.merge(table, self.one(table, write.id, write.where, write.revs), write)

    def delete(self, table: StoreTable, write: Delete) -> Written:
        row, rev, doc = self.one(table, write.id, write.where, write.revs)
        self.connection.execute(f"DELETE FROM {table.table} WHERE row=?", (row,))
        self.note("delete", table, write.id, doc, None)
        return Written(doc.encode(), rev)

    def upsert(self, table: StoreTable, write: Upsert, index: int, met: UpsertBytes | None) -> Written:
        key = split(write.key)
        value = next(elements(write.entity, key))
        same_key = None if value is None or value is MISSING else Equal(key, value)
        found = self.first(table, And((same_key, write.where))) if same_key else None
        if found is not None:
            if met is not None:
                met.add(_bytes(found[2]))
            return self.merge(table, found, write)
        if write.missing:
            raise InvalidEntity(write.missing)
        if same_key and self.first(table, same_key):
            raise DuplicateValue(write.key, index)
        return self.insert(table, write.entity, write.serials)

    def update_many(self, table: StoreTable, write: UpdateMany) -> Written:
        # Each entity is read right before it is written, so that only one is in memory.
        rows = self.matches(table, write.where, write.limit)
        self.count_bytes(table, rows, write.limit, write.changes)
        computed = None if write.compute is None else BulkBytes()
        with self.reading(table, "row, rev, doc", rows) as matches:
            return Written(b"", 0, sum(self.merge(table, stored, write, computed).count for stored in matches))

    def delete_many(self, table: StoreTable, write: DeleteMany) -> Written:
        rows = self.matches(table, write.where, write.limit)
        self.count_bytes(table, rows, write.limit)
        with self.reading(table, "id, doc", rows if table.in_feed else new_rows()) as matches:
            for id, doc in matches:
                self.note("delete", table, id, doc, None)
                if self.transaction.is_full:
                    break
        self.connection.executemany(f"DELETE FROM {table.table} WHERE row=?", zip(rows))
        return Written(b"", 0, len(rows))

    def count_bytes(self, table: StoreTable, rows: Rows, limit: int, changes: Entity | None = None) -> None:
        """Count the bytes that a bulk change of these rows writes or deletes. Raises InvalidQuery for too many in one
        commit, and TooLongForLoop."""
        on_loop = self.longest < math.inf
        if limit == UNBOUNDED:
            if on_loop:
                raise TooLongForLoop
            return
        before = self.bulk_bytes.count
        self.bulk_bytes.add_matches(len(rows), self.size_of(table, rows), changes)
        self.parsed += self.bulk_bytes.count - before
        self.changed += len(rows)
        if on_loop and (self.parsed > self.longest or self.changed > HEAVY):
            raise TooLongForLoop

    def size_of(self, table: StoreTable, rows: Rows) -> int:
        """Return the bytes of the entities in these rows. SQLite knows them without reading the entities."""
        sizes = self.connection.executemany(f"SELECT octet_length(doc) FROM {table.table} WHERE row=?", zip(rows))
        return sum(size for (size,) in sizes)

    @contextmanager
    def reading(self, table: StoreTable, columns: str, rows: Rows) -> Iterator[Iterator[Any]]:
        """Yield an iterator that reads the rows one by one."""
        cursor = self.connection.cursor()
        try:
            yield cursor.executemany(f"SELECT {columns} FROM {table.table} WHERE row=?", zip(rows))
        finally:
            cursor.close(True)  # the rest may be unread

    def expect(self, table: StoreTable, write: Expect) -> Written:
        # No guard is needed: the writer's transactions run one after another.
        compiler = Compiler(table)
        condition = compiler.condition(write.where)
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {table.table} WHERE {condition} LIMIT {write.count_limit})"
        with self.searching():
            count = self.connection.execute(sql, compiler.values).get
        if not write.holds(count):
            raise NotAsExpected
        return Written(b"", 0, 0)

    def proceed(self, procedure: Procedure, index: int) -> Written:
        """Carry out the steps of a procedure."""
        steps, met = procedure.steps(), UpsertBytes()
        outcome: Written | list[Entity] | None = None
        done = 0
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                return cast(Written, ended.value)
            done += 1
            if done > HEAVY and self.longest < math.inf:
                raise TooLongForLoop
            try:
                outcome = self.step(step, index, met)
            except StoreError as error:
                if not isinstance(error, TooLongForLoop):
                    with suppress(StopIteration):
                        steps.throw(error)  # it may explain the error
                raise

    def step(self, step: Step, index: int, met: UpsertBytes) -> Written | list[Entity] | None:
        match step:
            case Find():
                return self.find(step)
            case Lock():
                return None  # the writer's transactions run one after another
            case _:
                with translated(self.connection, index), refused_at(index):
                    return self.do(step, index, met)

    def find(self, step: Find) -> list[Entity]:
        table = self.table(step.store)
        if step.only is None:
            columns = "doc"
        else:
            columns = ",".join(["id", *(f"doc->{json_path((name,))}" for name in step.only)])
        sql, values = search_sql(self.connection, table, columns, step.where, step.limit, order="")
        found: list[Entity] = []
        with self.searching():
            for row in self.connection.execute(sql, values):
                size = sum(len(text) for text in row if text is not None)
                self.found_bytes.add(size)
                self.parsed += size
                if self.parsed > self.longest:
                    raise TooLongForLoop
                if step.only is None:
                    found.append(orjson.loads(row[0]))
                else:
                    named = zip(step.only, row[1:], strict=True)
                    found.append({"_id": row[0], **{n: orjson.loads(text) for n, text in named if text is not None}})
        return found

    def recheck(self, write: Recheck) -> Written:
        since, more = write.since, True
        while more:
            try:
                batch = self.feed.read_from(self.connection, since)
            except HistoryGone:
                raise NotAsExpected from None
            write.check(batch.changes)
            since, more = batch.position, batch.more
        return Written(b"", 0, 0)

    def merge(
        self,
        table: StoreTable,
        stored: Row,
        write: Update | Upsert | UpdateMany,
        computed: BulkBytes | None = None,
    ) -> Written:
        """Merge the changes of the write into the entity. A bulk change counts in `computed` what it computes."""
        row, rev, before = stored
        if write.compute is not None:
            self.check_computable(write.compute, before)
        entity: Entity = orjson.loads(before)
        changes, removed = effective(write.changes, write.compute, entity)
        replace = isinstance(write, Update) and write.replace
        if not write.forced and not removed and not alters(entity, changes, replace):
            return Written(orjson.dumps(entity), rev, 0)
        if computed is not None:
            computed.add(len(orjson.dumps(changes)))
        kept = {k: v for k, v in entity.items() if k in SYSTEM_FIELDS} if replace else entity
        merged = {**kept, **changes, "_id": entity["_id"], "_rev": rev + 1}
        for name in removed:
            merged.pop(name, None)
        doc = orjson.dumps(merged)
        if len(doc) > self.most_bytes and (write.compute is not None or not concerns_system_fields(changes)):
            raise EntityTooLarge(self.most_bytes)
        self.check_arrays(table, merged, len(doc))
        self.mark_mixed_paths(table, changes)
        sql = f'UPDATE {table.table} SET time=?, at=?, rev=?, owner=?, "group"=?, doc=? WHERE row=?'
        text = doc.decode()
        self.connection.execute(sql, (*_columns(merged), text, row))
        self.note("update", table, entity["_id"], before, text)
        return Written(doc, rev + 1)

    def check_computable(self, compute: Compute, before: str) -> None:
        """Raise TooLongForLoop if computing the change of this entity, and those before it, takes long."""
        self.computed += len(before) + compute.size
        if self.computed > COMPUTED_BYTES and self.longest < math.inf:
            raise TooLongForLoop

    def note(self, op: Operation, table: StoreTable, id: str, before: str | None, after: str | None) -> None:
        if table.in_feed:
            self.transaction.note(op, table.name, id, before, after)

    def one(self, table: StoreTable, id: str, where: Filter, revs: Revisions | None) -> Row:
        """Return the entity. Raises NotFound or StaleRevision."""
        compiler = Compiler(table)
        # The visibility predicate first: see `Compiler.kept_choice`.
        condition = compiler.condition(where)
        sql = f"SELECT row, rev, doc FROM {table.table} WHERE {condition} AND id={compiler.bind(id)}"
        found: Row | None = self.connection.execute(sql, compiler.values).fetchone()
        if found is None:
            raise NotFound(f"no {table.name}/{id}")
        if revs is not None and found[1] not in revs:
            raise StaleRevision(found[1])
        return self.parsable(found)

    def first(self, table: StoreTable, where: Filter) -> Row | None:
        """Return the first match by creation. The filter holds a unique value."""
        compiler = Compiler(table)
        condition = compiler.condition(where)
        sql = f"SELECT row, rev, doc FROM {table.table} WHERE {condition} ORDER BY time, id LIMIT 1"
        with self.searching():
            found: Row | None = self.connection.execute(sql, compiler.values).fetchone()
        return None if found is None else self.parsable(found)

    def parsable(self, found: Row) -> Row:
        """Return the entity. Raises TooLongForLoop if it, or what the commit has parsed before, is too long."""
        # It has been read already: that takes a tenth of parsing it, and asking for its length first would be one step
        # more for every write.
        self.parsed += len(found[2])
        if self.parsed > self.longest:
            raise TooLongForLoop
        return found

    def searching(self) -> AbstractContextManager[None]:
        """Return a context for statements that may read many entities: those of a path that no index serves. They raise
        ReadTimeout in the writer thread, for whose end all other writes wait, and TooLongForLoop on the event loop."""
        in_thread = self.longest == math.inf
        return time_limit(self.connection, self.read_timeout) if in_thread else short_search(self.connection)

    def matches(self, table: StoreTable, where: Filter, limit: int) -> Rows:
        """Return the rows that match, by creation. Raises TooManyMatches for more than `limit`."""
        if self.found is not None:
            return self.still_matching(table, where, self.found)
        rows = new_rows()
        began = time.monotonic()

        def is_over() -> bool:
            return time.monotonic() > began + self.read_timeout + len(rows) * SECONDS_PER_MATCH

        sql, values = search_sql(self.connection, table, "row", where, limit + 1)
        in_thread = self.longest == math.inf
        with time_limit(self.connection, math.inf, is_over) if in_thread else self.searching():
            rows.extend(chain.from_iterable(self.connection.execute(sql, values)))
        if len(rows) > limit:
            raise TooManyMatches(limit)
        return rows

    def still_matching(self, table: StoreTable, where: Filter, found: Found) -> Rows:
        """Return the found rows that match now. The filter is tested only on those that have changed since."""
        sql = f"SELECT row, id, rev, ?2 FROM {table.table} WHERE row=?1"
        rows, changed = new_rows(), new_rows()
        for row, id, rev, state in self.connection.executemany(sql, zip(found.rows, found.states, strict=True)):
            rows.append(row)
            if state_of(id, rev) != state:
                changed.append(row)
        with time_limit(self.connection, self.read_timeout):
            gone = set(changed).difference(self.matching(table, where, changed))
        return array("q", (row for row in rows if row not in gone)) if gone else rows

    def matching(self, table: StoreTable, where: Filter, rows: Rows) -> Iterator[int]:
        """Return the numbers of those of the rows that match."""
        if not rows:
            return iter(())
        compiler = Compiler(table)
        condition = compiler.condition(where)
        these = f"SELECT value FROM json_each({compiler.bind(orjson.dumps(rows.tolist()).decode())})"
        # Without NOT INDEXED, SQLite might read the whole table in the order of an index.
        sql = f"SELECT row FROM {table.table} NOT INDEXED WHERE {condition} AND row IN ({these})"
        return (row for (row,) in self.connection.execute(sql, compiler.values))

    def check_arrays(self, table: StoreTable, entity: Entity, size: int) -> None:
        """Raise ParallelArrays for an entity that a compound index cannot hold. `size` is that of its JSON text."""
        check = table.array_check
        if size > CHECKED_ON_LOOP and self.longest < math.inf and check.takes_long(entity):
            raise TooLongForLoop
        check.check(entity)

    def mark_mixed_paths(self, table: StoreTable, fields: Entity) -> None:
        """Mark indexed paths that get their first value that SQLite orders differently from MongoDB."""
        for indexed in table.paths.values():
            if _is_mixed(fields, indexed.segments):
                if not indexed.mixed:
                    # In memory first: queries compiled from now on must not rely on the order of the index.
                    indexed.mixed = True
                    table.forget()
                # Each time: the write that first set it in memory may have been rolled back.
                sql = "UPDATE paths SET mixed=1 WHERE store=? AND path=? AND mixed=0"
                self.connection.execute(sql, (table.name, indexed.path))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _row(entity: Entity, doc: str) -> tuple[Any, ...]:
    return entity["_id"], *_columns(entity), doc


def _columns(entity: Entity) -> tuple[Any, ...]:
    return entity.get("time"), entity.get("_at"), entity["_rev"], entity.get("owner"), entity.get("group")


def _is_mixed(entity: Entity, path: Path) -> bool:
    if path[0] not in entity:
        return False
    if len(path) == 1:
        return isinstance(entity[path[0]], _MIXED)
    return traverses_array(entity, path) or isinstance(next(elements(entity, path)), _MIXED)
