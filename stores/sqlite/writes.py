"""The statements of each kind of write.

Triggers of the tables add the change records. The open transaction gets the same changes for the feed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw
import orjson

from stores.errors import (
    DuplicateValue,
    EntityTooLarge,
    HistoryGone,
    InvalidEntity,
    NotAsExpected,
    NotFound,
    StaleRevision,
    TooManyMatches,
    too_large_at,
)
from stores.paths import MISSING, Path, elements, split, traverses_array
from stores.protocol import (
    Delete,
    DeleteMany,
    Expect,
    IdempotencyKey,
    Insert,
    Recheck,
    Revisions,
    Update,
    UpdateMany,
    Upsert,
    Write,
    Written,
)
from stores.query import And, Equal, Filter
from stores.records import SYSTEM_FIELDS, Entity, Operation, alters, concerns_system_fields
from stores.sqlite.compile import Compiler
from stores.sqlite.connection import time_limit, translate, translated
from stores.sqlite.feed import SQLiteFeed
from stores.sqlite.idempotency import earlier_outcome, remember
from stores.sqlite.tables import StoreTable
from stores.sqlite.transaction import Transaction
from stores.sqlite.visibility_index import narrowing

SECONDS_PER_MATCH: Final = 0.00001
"""Seconds that a bulk change may search longer for each match found: writing it takes longer than that."""

_WHOLE_ROW = "id, rev, doc"
_MIXED = (bool, dict, list)
_INSERT = "INSERT INTO {} VALUES(NULL,?,?,?,?,?,?,?)"


@dataclass(frozen=True, slots=True)
class Found:
    """The entities that a reader has found for a bulk change: their ids, by creation, and their revisions."""

    ids: list[str]
    revs: list[int]


class WriteExecutor:
    """The writes of a transaction that the caller has opened.

    `read_timeout`: seconds that a bulk change may test its filter, since all other writes wait for it.
    `most_bytes`: the largest entity, in bytes of JSON text.
    `found`: the entities that the only bulk change may concern; None if it searches for them itself."""

    def __init__(
        self,
        connection: apsw.Connection,
        tables: dict[str, StoreTable],
        transaction: Transaction,
        feed: SQLiteFeed,
        read_timeout: float,
        most_bytes: int,
        found: Found | None = None,
    ) -> None:
        self.connection = connection
        self.tables = tables
        self.transaction = transaction
        self.feed = feed
        self.read_timeout = read_timeout
        self.most_bytes = most_bytes
        self.found = found

    def over(self, tables: dict[str, StoreTable]) -> WriteExecutor:
        """Return an executor of the same transaction that knows other tables."""
        bounds = (self.read_timeout, self.most_bytes)
        return WriteExecutor(self.connection, tables, self.transaction, self.feed, *bounds)

    def within(self, seconds: float, found: Found | None) -> WriteExecutor:
        """Return an executor of the same transaction whose bulk change may test its filter for `seconds`, and that
        changes only entities in `found` if it is given."""
        bounds = (seconds, self.most_bytes)
        return WriteExecutor(self.connection, self.tables, self.transaction, self.feed, *bounds, found)

    def run_once(self, writes: Sequence[Write], key: IdempotencyKey | None) -> list[Written]:
        """Run the writes of one commit, or return the outcome of the commit that was done with this key."""
        earlier = earlier_outcome(self.connection, key) if key else None
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
        if isinstance(first, Insert) and all(isinstance(w, Insert) and w.store == first.store for w in writes):
            return self.insert_all(self.table(first.store), [w.entity for w in writes if isinstance(w, Insert)])
        return [self.run(write, index) for index, write in enumerate(writes)]

    def run(self, write: Write, index: int) -> Written:
        """Run the write at position `index` of a commit. Raises the errors of `stores.protocol.Engine.commit`."""
        table = self.table(write.store)
        with translated(self.connection, index), too_large_at(index):
            match write:
                case Insert():
                    return self.insert(table, write.entity)
                case Update():
                    return self.update(table, write)
                case Delete():
                    return self.delete(table, write)
                case Upsert():
                    return self.upsert(table, write, index)
                case UpdateMany():
                    return self.update_many(table, write)
                case DeleteMany():
                    return self.delete_many(table, write)
                case Expect():
                    return self.expect(table, write)
                case Recheck():
                    return self.recheck(write)

    def table(self, store: str) -> StoreTable:
        table = self.tables.get(store)
        if table is None:
            raise NotFound(f"no store {store}")
        return table

    def insert(self, table: StoreTable, entity: Entity) -> Written:
        doc = orjson.dumps(entity)
        if len(doc) > self.most_bytes:
            raise EntityTooLarge(self.most_bytes)
        self.mark_mixed_paths(table, entity)
        text = doc.decode()
        self.connection.execute(_INSERT.format(table.table), _row(entity, text))
        self.note("insert", table, entity["_id"], None, text)
        return Written(doc, entity["_rev"])

    def insert_all(self, table: StoreTable, entities: Sequence[Entity]) -> list[Written]:
        """Insert entities with one statement, prepared once (measured: preparing it for each entity takes a quarter
        more CPU)."""
        for entity in entities:
            self.mark_mixed_paths(table, entity)
        written: list[Written] = []

        def rows() -> Iterator[tuple[Any, ...]]:
            for entity in entities:
                doc = orjson.dumps(entity)
                if len(doc) > self.most_bytes:
                    with too_large_at(len(written)):
                        raise EntityTooLarge(self.most_bytes)
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
        rev, doc = self.one(table, write.id, write.where, write.revs)
        return self.merge(table, doc, rev, write)

    def delete(self, table: StoreTable, write: Delete) -> Written:
        rev, doc = self.one(table, write.id, write.where, write.revs)
        self.connection.execute(f"DELETE FROM {table.table} WHERE id=?", (write.id,))
        self.note("delete", table, write.id, doc, None)
        return Written(doc.encode(), rev)

    def upsert(self, table: StoreTable, write: Upsert, index: int) -> Written:
        key = split(write.key)
        value = next(elements(write.entity, key))
        same_key = None if value is None or value is MISSING else Equal(key, value)
        found = next(self.rows(table, And((same_key, write.where)), 1), None) if same_key else None
        if found:
            return self.merge(table, found[2], found[1], write)
        if write.missing:
            raise InvalidEntity(write.missing)
        if same_key and next(self.rows(table, same_key, 1), None):
            raise DuplicateValue(write.key, index)
        return self.insert(table, write.entity)

    def update_many(self, table: StoreTable, write: UpdateMany) -> Written:
        rows = self.bounded(table, write.where, write.limit)
        changed = sum(self.merge(table, doc, rev, write).count for _, rev, doc in rows)
        return Written(b"", 0, changed)

    def delete_many(self, table: StoreTable, write: DeleteMany) -> Written:
        rows = self.bounded(table, write.where, write.limit)
        self.connection.executemany(f"DELETE FROM {table.table} WHERE id=?", [(id,) for id, _, _ in rows])
        for id, _, doc in rows:
            self.note("delete", table, id, doc, None)
        return Written(b"", 0, len(rows))

    def expect(self, table: StoreTable, write: Expect) -> Written:
        # No guard is needed: the writer's transactions run one after another.
        compiler = Compiler(table)
        condition = compiler.condition(write.where)
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {table.table} WHERE {condition} LIMIT {write.count_limit})"
        if not write.holds(self.connection.execute(sql, compiler.values).get):
            raise NotAsExpected
        return Written(b"", 0, 0)

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

    def merge(self, table: StoreTable, before: str, rev: int, write: Update | Upsert | UpdateMany) -> Written:
        entity: Entity = orjson.loads(before)
        changes, replace = write.changes, isinstance(write, Update) and write.replace
        if not write.forced and not alters(entity, changes, replace):
            return Written(orjson.dumps(entity), rev, 0)
        kept = {k: v for k, v in entity.items() if k in SYSTEM_FIELDS} if replace else entity
        merged = {**kept, **changes, "_id": entity["_id"], "_rev": rev + 1}
        doc = orjson.dumps(merged)
        if len(doc) > self.most_bytes and not concerns_system_fields(changes):
            raise EntityTooLarge(self.most_bytes)
        self.mark_mixed_paths(table, changes)
        sql = f'UPDATE {table.table} SET time=?, at=?, rev=?, owner=?, "group"=?, doc=? WHERE id=?'
        text = doc.decode()
        self.connection.execute(sql, (*_columns(merged), text, entity["_id"]))
        self.note("update", table, entity["_id"], before, text)
        return Written(doc, rev + 1)

    def note(self, op: Operation, table: StoreTable, id: str, before: str | None, after: str | None) -> None:
        if table.in_feed:
            self.transaction.note(op, table.name, id, before, after)

    def one(self, table: StoreTable, id: str, where: Filter, revs: Revisions | None) -> tuple[int, str]:
        """Return the revision and the JSON text of the entity. Raises NotFound or StaleRevision."""
        compiler = Compiler(table)
        # The visibility predicate first: see `Compiler.kept_choice`.
        condition = compiler.condition(where)
        sql = f"SELECT rev, doc FROM {table.table} WHERE {condition} AND id={compiler.bind(id)}"
        row: tuple[int, str] | None = self.connection.execute(sql, compiler.values).fetchone()
        if row is None:
            raise NotFound(f"no {table.name}/{id}")
        if revs is not None and row[0] not in revs:
            raise StaleRevision(row[0])
        return row

    def rows(
        self, table: StoreTable, where: Filter, limit: int, *, many: bool = False
    ) -> Iterator[tuple[str, int, str]]:
        """Return the first `limit` matches by creation. `many`: the filter may match many entities, not only the one
        with an id or a unique value."""
        compiler = Compiler(table)
        condition = compiler.condition(where)
        source = table.table + (narrowing(self.connection, compiler, where) if many else " WHERE")
        sql = f"SELECT {_WHOLE_ROW} FROM {source} {condition} ORDER BY time, id LIMIT {limit}"
        return self.connection.execute(sql, compiler.values)

    def bounded(self, table: StoreTable, where: Filter, limit: int) -> list[tuple[str, int, str]]:
        if self.found is not None:
            return self.still_matching(table, where, self.found)
        rows: list[tuple[str, int, str]] = []
        began = time.monotonic()

        def is_over() -> bool:
            return time.monotonic() > began + self.read_timeout + len(rows) * SECONDS_PER_MATCH

        with time_limit(self.connection, math.inf, is_over):
            rows.extend(self.rows(table, where, limit + 1, many=True))
        if len(rows) > limit:
            raise TooManyMatches(limit)
        return rows

    def still_matching(self, table: StoreTable, where: Filter, found: Found) -> list[tuple[str, int, str]]:
        """Return the found entities that match now. The filter is tested only on those that have changed since."""
        seen = dict(zip(found.ids, found.revs, strict=True))
        sql = f"SELECT {_WHOLE_ROW}, row FROM {table.table} WHERE id=?"
        rows = list(self.connection.executemany(sql, [(id,) for id in found.ids]))
        changed = [row for id, rev, _, row in rows if rev != seen[id]]
        with time_limit(self.connection, self.read_timeout):
            matching = set(self.matching(table, where, changed))
        return [(id, rev, doc) for id, rev, doc, row in rows if rev == seen[id] or row in matching]

    def matching(self, table: StoreTable, where: Filter, rows: Sequence[int]) -> Iterator[int]:
        """Return the numbers of those of the rows that match."""
        if not rows:
            return iter(())
        compiler = Compiler(table)
        condition = compiler.condition(where)
        these = f"SELECT value FROM json_each({compiler.bind(orjson.dumps(rows).decode())})"
        # Without NOT INDEXED, SQLite might read the whole table in the order of an index.
        sql = f"SELECT row FROM {table.table} NOT INDEXED WHERE {condition} AND row IN ({these})"
        return (row for (row,) in self.connection.execute(sql, compiler.values))

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
