"""The statements of writes of single entities.

Triggers of the tables add the change records. The open transaction gets the same changes for the feed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import apsw
import orjson

from stores.computing import Compute, effective
from stores.errors import DuplicateValue, EntityTooLarge, InvalidEntity, NotFound, StaleRevision, refused_at
from stores.paths import MISSING, Path, elements, split, traverses_array
from stores.protocol import (
    BulkBytes,
    Delete,
    Revisions,
    Serial,
    Stamp,
    Update,
    UpdateMany,
    Upsert,
    UpsertBytes,
    Written,
    stamped_fields,
)
from stores.query import And, Equal, Filter
from stores.records import SYSTEM_FIELDS, Entity, Operation, alters, concerns_system_fields
from stores.sqlite.compile import Compiler
from stores.sqlite.computing_time import ComputingTime
from stores.sqlite.connection import time_limit, translate
from stores.sqlite.feed import SQLiteFeed
from stores.sqlite.heavy import COMPUTED_BYTES, TooLongForLoop, short_search
from stores.sqlite.matches import Found
from stores.sqlite.serials import numbered
from stores.sqlite.stamps import all_stamped, stamped
from stores.sqlite.tables import StoreTable
from stores.sqlite.transaction import Transaction

Row = tuple[int, int, str]
"""The number of an entity's row, its revision and its JSON text."""

_MIXED = (bool, dict, list)
CHECKED_ON_LOOP: Final = 16_384
"""Bytes of an entity with lists that compound indexes cover, up to which they are compared on the event loop."""

_INSERT = "INSERT INTO {} VALUES(NULL,?,?,?,?,?,?,?)"


class EntityWriter:
    """The writes of single entities in a transaction that the caller has opened.

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
        self.bulk_bytes = BulkBytes()
        self.found_bytes = BulkBytes()
        self.computing_time = ComputingTime()
        self.begin()

    def begin(self) -> None:
        """Begin to count what a commit meets."""
        self.parsed = 0
        self.computed = 0
        self.changed = 0
        self.bulk_bytes.count = 0
        self.found_bytes.count = 0
        self.computing_time.clear()

    def table(self, store: str) -> StoreTable:
        table = self.tables.get(store)
        if table is None:
            raise NotFound(f"no store {store}")
        return table

    def insert(
        self, table: StoreTable, entity: Entity, serials: Sequence[Serial] = (), stamps: Sequence[Stamp] = ()
    ) -> Written:
        if serials:
            [entity] = numbered(self.connection, [entity], serials)
        entity = stamped(self.connection, entity, stamps)
        self.computing_time.allow(changed=1)
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
        self,
        table: StoreTable,
        entities: Sequence[Entity],
        serials: Sequence[Serial] = (),
        stamps: Sequence[Stamp] = (),
    ) -> list[Written]:
        """Insert entities with one statement, prepared once (measured: preparing it for each entity takes a quarter
        more CPU). Raises EntityTooLarge."""
        if serials:
            entities = numbered(self.connection, entities, serials)
        if stamps:
            entities = all_stamped(self.connection, entities, stamps)
        for entity in entities:
            self.mark_mixed_paths(table, entity)
        written: list[Written] = []

        def rows() -> Iterator[tuple[Any, ...]]:
            for entity in entities:
                doc = orjson.dumps(entity)
                if len(doc) > self.most_bytes:
                    with refused_at(len(written)):
                        raise EntityTooLarge(self.most_bytes)
                if table.compounds:
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
        return self.insert(table, write.entity, write.serials, write.stamps)

    def merge(
        self,
        table: StoreTable,
        stored: Row,
        write: Update | Upsert | UpdateMany,
        computed: BulkBytes | None = None,
    ) -> Written:
        """Merge the changes of the write into the entity. A bulk change counts in `computed` what it computes. Raises
        EntityTooLarge."""
        row, rev, before = stored
        if write.compute is not None:
            self.check_computable(write.compute, before)
            self.computing_time.start()
        self.computing_time.change(len(before))
        entity: Entity = orjson.loads(before)
        changes, removed = effective(write.changes, write.compute, entity)
        replace = isinstance(write, Update) and write.replace
        if not write.forced and not removed and not alters(entity, changes, replace, stamped_fields(write.stamps)):
            return Written(orjson.dumps(entity), rev, 0)
        if computed is not None:
            computed.add(len(orjson.dumps(changes)))
        kept = {k: v for k, v in entity.items() if k in SYSTEM_FIELDS} if replace else entity
        merged = {**kept, **changes, "_id": entity["_id"], "_rev": rev + 1}
        merged = stamped(self.connection, merged, write.stamps)
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
        search = time_limit(self.connection, self.read_timeout) if in_thread else short_search(self.connection)
        return self.computing_time.searching(search)

    def check_arrays(self, table: StoreTable, entity: Entity, size: int) -> None:
        """Raise ParallelArrays for an entity that a compound index cannot hold. `size` is that of its JSON text."""
        if not table.compounds:
            return
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
