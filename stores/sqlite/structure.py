"""Changes of the tables: stores are defined, renamed and dropped, each in a transaction of its own.

The transaction changes a copy of what is known of the tables. Readers and later transactions get the copy once it is
committed, so a failure leaves nothing to undo. A read between the commit and that moment may name a table that is gone:
it fails with NotFound, as the next one does (see `stores.sqlite.connection.translate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import apsw

from stores.compound import CompoundIndex
from stores.errors import Conflict, StoreNotEmpty
from stores.paths import is_position
from stores.protocol import IdempotencyKey, Write, Written
from stores.schema import StoreDefinition
from stores.sqlite.compile import DEEPEST
from stores.sqlite.compounds import create_compound, drop_compound
from stores.sqlite.connection import duplicate, temporary_files, translated
from stores.sqlite.group_commit import GroupCommitter
from stores.sqlite.idempotency import earlier_outcome
from stores.sqlite.reference_index import set_listed
from stores.sqlite.renaming import rename_table
from stores.sqlite.tables import (
    CREATE_INDEXES,
    STORE_TABLE,
    StoreTable,
    create_index,
    drop_index,
    drop_table,
    index_names,
)
from stores.sqlite.triggers import triggers
from stores.sqlite.writes import WriteExecutor
from stores.superseded import SupersededDefinitions


@dataclass(frozen=True, slots=True)
class Layout:
    """The indexes of a table: `paths` as in `IndexedPath`, `compounds` by their names, and `listed`: see
    `StoreTable`."""

    paths: Mapping[str, bool | None]
    compounds: Mapping[str, CompoundIndex]
    listed: frozenset[str]

    @classmethod
    def of(cls, definition: StoreDefinition) -> Layout:
        parts: dict[str, bool | None] = dict.fromkeys(path for c in definition.compounds for path in c.paths)
        listed = frozenset(filter(_can_be_listed, definition.list_paths))
        # An index of a listed path would hold the texts of whole lists, and serve nothing.
        single = {path: None if path in listed else False for path in definition.index_paths}
        unique = dict.fromkeys(definition.unique_paths, True)
        return cls(parts | single | unique, {c.name: c for c in definition.compounds}, listed)

    def is_of(self, table: StoreTable) -> bool:
        return (
            {p: i.unique for p, i in table.paths.items()} == self.paths
            and table.compounds.keys() == self.compounds.keys()
            and table.listed == self.listed
        )


def _can_be_listed(path: str) -> bool:
    """Return whether a path leads into lists by names only. A number would be a position, too."""
    segments = path.split(".")
    return len(segments) <= DEEPEST and not any(map(is_position, segments))


class Structure:
    """The changes of the tables that `executor` knows, and of the definitions: these are then in `superseded`."""

    def __init__(self, committer: GroupCommitter, executor: WriteExecutor, superseded: SupersededDefinitions) -> None:
        self._committer = committer
        self._executor = executor
        self._superseded = superseded
        self._tables = executor.tables

    def differing(self, definitions: Iterable[StoreDefinition]) -> dict[str, Layout]:
        """Return the indexes of the stores whose tables differ from their definitions."""
        wanted = {d.name: Layout.of(d) for d in definitions}
        tables = self._tables
        return {name: w for name, w in wanted.items() if name not in tables or not w.is_of(tables[name])}

    async def define(
        self, stores: Mapping[str, Layout], writes: Sequence[Write], by: str | None, key: IdempotencyKey | None
    ) -> list[Written]:
        """Make the tables of `stores` have exactly these indexes, and do `writes`. Raises DuplicateValue."""

        def run(executor: WriteExecutor) -> list[Written]:
            earlier = earlier_outcome(executor.connection, key) if key else None
            if earlier is not None:
                return earlier
            for store, wanted in stores.items():
                _define(executor, store, wanted)
            return executor.run_once(writes, key) if writes else []

        return await self._change(run, writes, by)

    async def rename(self, store: str, name: str, writes: Sequence[Write]) -> None:
        """Rename a store, and do `writes`. Raises NotFound and Conflict."""
        await self._change(lambda executor: _rename(executor, store, name, writes), writes, None)

    async def drop(self, store: str, writes: Sequence[Write], by: str | None) -> list[Written]:
        """Do `writes`, and remove the table of an empty store if there is one. Raises StoreNotEmpty."""
        return await self._change(lambda executor: _drop(executor, store, writes), writes, by)

    async def _change(
        self, run: Callable[[WriteExecutor], list[Written]], writes: Sequence[Write], by: str | None
    ) -> list[Written]:
        """Call `run`, which does `writes` and changes the tables of its executor, in a transaction of its own."""
        changed: dict[str, StoreTable] = {}
        written: list[Written] = []

        def in_transaction() -> list[Written]:
            changed.update(self._tables)
            written.extend(run(self._executor.over(changed)))
            for name, table in self._tables.items():
                if changed.get(name) is not table:
                    # Its copy may have learned that a path is mixed.
                    table.forget()
            return written

        def committed() -> None:
            for name, table in changed.items():
                known = self._tables.get(name)
                if known is not None and known is not table:
                    changed[name] = known.adopt(table)
            self._tables.clear()
            self._tables.update(changed)
            self._superseded.note(writes, written)

        return await self._committer.submit(in_transaction, by, heavy=True, committed=committed)


def _define(executor: WriteExecutor, store: str, wanted: Layout) -> None:
    connection = executor.connection
    known = executor.tables.get(store) or _create(connection, store)
    table = StoreTable(store, dict(known.paths), dict(wanted.compounds), known.listed)
    for name, index in known.compounds.items():
        if name not in wanted.compounds:
            drop_compound(connection, table, index)
    for path, indexed in known.paths.items():
        if path not in wanted.paths or wanted.paths[path] is not indexed.unique:
            drop_index(connection, table, path)
            del table.paths[path]
    try:
        with temporary_files(connection):
            for path in wanted.paths.keys() - table.paths.keys():
                table.paths[path] = create_index(connection, table, path, wanted.paths[path])
            for name in wanted.compounds.keys() - known.compounds.keys():
                create_compound(connection, table, wanted.compounds[name])
            if table.listed != wanted.listed:
                set_listed(connection, table, wanted.listed)
    except apsw.ConstraintError as error:
        raise duplicate(error) from None
    executor.tables[store] = table


def _create(connection: apsw.Connection, store: str) -> StoreTable:
    table = StoreTable(store)
    connection.execute(STORE_TABLE.format(table=table.table, acl=table.acl))
    connection.execute(CREATE_INDEXES.format(table=table.table, **index_names(store)))
    for sql in triggers(table).values():
        connection.execute(sql)
    connection.execute("INSERT INTO stores VALUES(?)", (store,))
    return table


def _rename(executor: WriteExecutor, store: str, name: str, writes: Sequence[Write]) -> list[Written]:
    if name in executor.tables:
        raise Conflict(f"there is a store {name}")
    with translated(executor.connection):
        executor.tables[name] = rename_table(executor.connection, executor.table(store), name)
    del executor.tables[store]
    return executor.run_all(writes)


def _drop(executor: WriteExecutor, store: str, writes: Sequence[Write]) -> list[Written]:
    written = executor.run_all(writes)
    table = executor.tables.pop(store, None)
    if table is None:
        return written
    if executor.connection.execute(f"SELECT EXISTS(SELECT 1 FROM {table.table})").get:
        raise StoreNotEmpty(f"{store} still holds entities")
    drop_table(executor.connection, table)
    return written
