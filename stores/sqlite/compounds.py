"""Compound indexes in the file: their statements, and what queries need so that SQLite uses them.

SQLite uses an index of expressions only for the same expressions, and an index of some of the rows only for queries
with the same condition. That condition has no variables, so its text is the same in every statement.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import lru_cache
from typing import Any, Final

import apsw
import orjson

from stores import query
from stores.compound import CompoundIndex, condition_document, conjuncts, implies, ordered, orders, sought
from stores.paths import Path
from stores.query import EVERYTHING, And, Filter, Leaf, Query
from stores.sqlite.compile import COLUMNS, DEEPEST, Compiler, arrays_before, is_column
from stores.sqlite.tables import StoreTable, encoded, extract, identifier, index_name, json_path, quoted

_INDEXED_COLUMNS: Final = (("_id",), ("time",), ("owner",))
FEW: Final = 1_000
"""Entities that are read and sorted for a page, rather than looked for in its order."""
_PURPOSES: Final = {False: "m", True: "n"}


def statements(table: StoreTable, index: CompoundIndex) -> dict[str, str]:
    """Return the statement that creates an index, by the index's name."""
    name = stored_name(table.name, index)
    kind = "UNIQUE INDEX" if index.unique else "INDEX"
    where = "" if index.where == EVERYTHING else f" WHERE {condition(index)}"
    return {name: f"CREATE {kind} {identifier(name)} ON {table.table}({_columns(index)}){where}"}


def stored_name(store: str, index: CompoundIndex) -> str:
    return index_name(store, index.name, _PURPOSES[index.unique])


def _columns(index: CompoundIndex) -> str:
    # A unique index has no id, and has an expression: SQLite's error then has the name of the index.
    keys = index.sorts if index.unique else index.keys
    as_expressions = _has_expressions_for_columns(index)
    terms = [extract(s.path) if as_expressions or not is_column(s.path) else COLUMNS[s.path[0]] for s in keys]
    return ",".join(f"{term} DESC" if s.descending else term for term, s in zip(terms, keys, strict=True))


def create_compound(connection: apsw.Connection, table: StoreTable, index: CompoundIndex) -> None:
    """Create an index of the store. Raises apsw.ConstraintError when it is unique and values repeat."""
    for sql in statements(table, index).values():
        connection.execute(sql)
    text = orjson.dumps(condition_document(index.where)).decode()
    connection.execute("INSERT INTO compounds VALUES(?,?,?)", (table.name, index.name, text))


def drop_compound(connection: apsw.Connection, table: StoreTable, index: CompoundIndex) -> None:
    connection.execute(f"DROP INDEX IF EXISTS {identifier(stored_name(table.name, index))}")
    connection.execute("DELETE FROM compounds WHERE store=? AND name=?", (table.name, index.name))


def served_conditions(table: StoreTable, where: Filter) -> str:
    """Return the SQL that adds to a condition those of the indexes that may serve it. It excludes no row: `where`
    implies them."""
    if not table.compounds:
        return ""
    partial = (index for index in table.compounds.values() if index.where != EVERYTHING)
    return "".join(f" AND {condition(index)}" for index in partial if implies(where, index.where))


def seekable_fields(compiler: Compiler, wanted: Query) -> int:
    """Return how many of the first fields of the sort one index has in their order, so that it can seek to a place
    among equal values of the first ones."""
    served = [
        ordered(index, wanted.where, wanted.sort)
        for index in compiler.table.compounds.values()
        if _is_plain(compiler, index) and implies(wanted.where, index.where)
    ]
    return max(served, default=1)


def chosen_index(connection: apsw.Connection, compiler: Compiler, wanted: Query) -> str:
    """Return the name of an index in whose order a page is best read; empty if SQLite is to choose.

    It chooses among indexes without statistics: it would rather look up one value in an index of one path, however many
    entities have it, and read or sort them all."""
    table = compiler.table
    if not table.compounds:
        return ""
    where = wanted.where
    fitting = [i for i in table.compounds.values() if orders(i, wanted) and _is_plain(compiler, i)]
    if not fitting:
        return ""
    best = max(fitting, key=lambda index: sought(index, where) + len([*conjuncts(index.where)]))
    present = _present(connection, table)
    if few := _index_of_few(connection, compiler, best, where, present):
        return few
    name = stored_name(table.name, best)
    return "" if _has_other_index(table, best, where) or name not in present else name


def _index_of_few(
    connection: apsw.Connection, compiler: Compiler, best: CompoundIndex, where: Filter, present: Container[str]
) -> str:
    """Return the name of an index in which a range that `best` makes no use of leads to few entities: these are better
    sorted than looked for among all that `best` has in the order of the page. Empty if there is none."""
    table = compiler.table
    used = {s.path for s in best.sorts[: sought(best, where)]}
    ranged = {part.path for part in conjuncts(where) if isinstance(part, query.Compare)} - used
    for index in table.compounds.values() if ranged else ():
        sorts = index.sorts[: sought(index, where)]
        name = stored_name(table.name, index)
        if len(sorts) < 2 or sorts[-1].path not in ranged or name not in present:
            continue
        if not (_is_plain(compiler, index) and implies(where, index.where)):
            continue
        paths = {s.path for s in sorts}
        parts = tuple(part for part in conjuncts(where) if isinstance(part, Leaf) and part.path in paths)
        if _count(connection, table, name, And(parts), where) <= FEW:
            return name
    return ""


def _count(connection: apsw.Connection, table: StoreTable, name: str, some: Filter, where: Filter) -> int:
    """Return how many entities an index leads to that meet `some` of the conditions in `where`; beyond few, one more
    than that."""
    counting = Compiler(table)
    condition = counting.condition(some) + served_conditions(table, where)
    rows = f"SELECT 1 FROM {table.table} INDEXED BY {identifier(name)} WHERE {condition} LIMIT {FEW + 1}"
    return int(connection.execute(f"SELECT count(*) FROM ({rows})", counting.values).get or 0)


def _has_other_index(table: StoreTable, index: CompoundIndex, where: Filter) -> bool:
    """Return whether a condition that this index makes no use of can be looked up in another one."""
    used = {s.path for s in index.sorts[: sought(index, where)]}
    free = {
        part.path
        for part in conjuncts(where)
        if isinstance(part, query.Equal | query.In | query.Compare | query.StartsWith)
        and not implies(index.where, part)
    } - used
    others = (other for other in table.compounds.values() if other != index and implies(where, other.where))
    leading = {other.sorts[0].path for other in others}
    return any(path in _INDEXED_COLUMNS or path in leading or is_indexed(table, path) for path in free)


def is_indexed(table: StoreTable, path: Path) -> bool:
    """Return whether the path has an index of its own."""
    indexed = table.paths.get(".".join(path))
    return indexed is not None and indexed.unique is not None


def _present(connection: apsw.Connection, table: StoreTable) -> frozenset[str]:
    """Return the names of the table's indexes in the current snapshot: one may go while `table` still has it."""
    version: int = connection.pragma("schema_version")
    present = table.present  # a local: another thread may read another snapshot
    if present[0] != version:
        found = connection.execute("SELECT name FROM pragma_index_list(?)", (f"e_{encoded(table.name)}",))
        table.present = present = version, frozenset(name for (name,) in found)
    return present[1]


def _is_plain(compiler: Compiler, index: CompoundIndex) -> bool:
    """Return whether the index has the values as queries name them."""
    return not _has_expressions_for_columns(index) and all(
        compiler.plain_value(s.path) is not None for s in index.sorts
    )


def _has_expressions_for_columns(index: CompoundIndex) -> bool:
    return index.unique and all(is_column(s.path) for s in index.sorts)


@lru_cache(maxsize=1000)
def condition(index: CompoundIndex) -> str:
    """Return the condition for the entities of an index, exact whatever they hold."""
    literals = _Literals()
    return " AND ".join(literals.leaf(part) for part in conjuncts(index.where) if isinstance(part, Leaf))


class _Literals(Compiler):
    """A compiler of the conditions of indexes, which can have neither variables nor subqueries."""

    def __init__(self) -> None:
        super().__init__(StoreTable(""))

    def bind(self, value: Any) -> str:
        return quoted(value) if isinstance(value, str) else repr(value)

    def bind_list(self, values: Sequence[Any]) -> str:
        return ",".join(map(self.bind, values))

    def leaf(self, node: Leaf) -> str:
        if len(node.path) > DEEPEST:
            return self.ask_matcher(node)
        kind = f"json_type(doc,{json_path(node.path)})"
        arrays = [arrays_before(node.path)] if len(node.path) > 1 else []
        if isinstance(node, query.Exists):
            test = f"{kind} IS NOT NULL"
        else:
            arrays.append(f"{kind}='array'")
            test = self.scalar_test(node, kind, extract(node.path))
        return f"CASE WHEN {' OR '.join(arrays)} THEN {self.ask_matcher(node)} ELSE {test} END" if arrays else test

    def ask_matcher(self, node: Filter) -> str:
        return f"hub_meets(doc,{quoted(orjson.dumps(condition_document(node)).decode())})"
