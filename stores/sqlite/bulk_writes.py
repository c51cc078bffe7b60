"""The statements of bulk changes."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import orjson

from stores.errors import TooManyMatches
from stores.protocol import UNBOUNDED, BulkBytes, DeleteMany, UpdateMany, Written
from stores.query import Filter
from stores.records import Entity
from stores.sqlite.compile import Compiler
from stores.sqlite.connection import time_limit
from stores.sqlite.entity_writes import EntityWriter
from stores.sqlite.heavy import HEAVY, TooLongForLoop, short_search
from stores.sqlite.matches import Found, Rows, new_rows, search_sql, state_of
from stores.sqlite.tables import StoreTable

SECONDS_PER_MATCH: Final = 0.00001
"""Seconds that a bulk change may search longer for each match found: writing it takes longer than that."""


class BulkWriter(EntityWriter):
    """The bulk changes of a transaction, and the writes of single entities."""

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
        self.computing_time.allow(changed=len(rows))
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
        search = time_limit(self.connection, math.inf, is_over) if in_thread else short_search(self.connection)
        with self.computing_time.searching(search):
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
        with self.computing_time.searching(time_limit(self.connection, self.read_timeout)):
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
