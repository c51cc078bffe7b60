"""Sorting and keyset paging as SQL.

A plain path (see `Compiler.plain_value`) sorts as SQLite does, so an index can give the order and a page starts
where the last one ended, at any depth. One other path sorts by (rank of type, value), with the matcher's key where
arrays and objects come in; several of them by one key made in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import apsw

from stores import cursor, ordering
from stores.errors import InvalidQuery
from stores.query import Query, Sort
from stores.records import Json
from stores.sqlite.compile import Compiler
from stores.sqlite.tables import extract, json_path


@dataclass(frozen=True, slots=True)
class Column:
    """One term of ORDER BY. `nullable`: NULL can occur, and sorts first."""

    sql: str
    descending: bool
    nullable: bool

    @property
    def term(self) -> str:
        return f"{self.sql} DESC" if self.descending else self.sql


@dataclass(frozen=True, slots=True)
class Order:
    """ORDER BY terms, and the stretches (WHERE conditions) that hold what lies after the cursor, in their order.

    `strict` stretches fail on entities that cannot be sorted so: they may only be put to those that match."""

    columns: tuple[Column, ...]
    stretches: tuple[str, ...]
    strict: bool = False

    @property
    def terms(self) -> str:
        return ",".join(c.term for c in self.columns)


def compile_order(compiler: Compiler, query: Query) -> Order:
    special = [s for s in query.sort if compiler.plain_value(s.path) is None]
    if len(special) > 1:
        return _by_one_key(compiler, query)
    columns: list[Column] = []
    after: list[object] = []
    for place, sort in enumerate(query.sort):
        made = _special(sort) if sort in special else [_plain(compiler, sort)]
        columns += made
        if query.after is not None:
            value = query.after[place]
            after += _special_values(value) if sort in special else [_plain_value(value)]
    if query.after is None:
        return Order(tuple(columns), ("1",))
    return Order(tuple(columns), tuple(_stretches(compiler, columns, after)))


def _plain(compiler: Compiler, sort: Sort) -> Column:
    value = compiler.plain_value(sort.path)
    assert value is not None
    return Column(value, sort.descending, nullable=sort.path[0] not in ("_id", "_rev") or len(sort.path) > 1)


def _special(sort: Sort) -> list[Column]:
    path, direction = json_path(sort.path), int(sort.descending)
    kind = f"json_type(doc,{path})"
    arrays = [f"json_type(doc,{json_path(sort.path[:n])})='array'" for n in range(1, len(sort.path))]
    composite = " OR ".join([*arrays, f"{kind} IN ('array','object')"])
    ranks = {
        "integer": ordering.RANK_NUMBER,
        "real": ordering.RANK_NUMBER,
        "text": ordering.RANK_STRING,
        "true": ordering.RANK_BOOLEAN,
        "false": ordering.RANK_BOOLEAN,
    }
    rank = f"CASE {kind} " + " ".join(f"WHEN '{k}' THEN {r}" for k, r in ranks.items())
    rank += f" ELSE {ordering.RANK_NULL} END"
    arguments = f"doc,{path},{direction}"
    return [
        Column(f"CASE WHEN {composite} THEN hub_rank({arguments}) ELSE {rank} END", sort.descending, False),
        Column(
            f"CASE WHEN {composite} THEN hub_value({arguments}) ELSE {extract(sort.path)} END", sort.descending, True
        ),
    ]


def special_parts(value: object) -> tuple[int, object]:
    """A sort value as the two columns that stand for it: the rank of its type, and what SQLite can compare."""
    rank = ordering.rank(value)
    if rank in (ordering.RANK_OBJECT, ordering.RANK_ARRAY):
        return rank, ordering.encode(value)
    if rank in (ordering.RANK_NULL, ordering.RANK_EMPTY):
        return rank, None
    return rank, int(value) if isinstance(value, bool) else value


def _special_values(value: Json) -> tuple[int, object]:
    return special_parts(ordering.MISSING_LEAF if cursor.is_empty(value) else value)


def _plain_value(value: Json) -> Json:
    if isinstance(value, bool | list | dict):
        raise InvalidQuery("after", "this cursor does not belong to this list")
    return value


def _by_one_key(compiler: Compiler, query: Query) -> Order:
    key = compiler.bind(apsw.pyobject(query.sort))
    column = Column(f"hub_sort_key(doc,{key})", False, False)
    if query.after is None:
        return Order((column,), ("1",))
    bound = compiler.bind(cursor.encode_key(query.after, query.sort))
    return Order((column,), (f"{column.sql}>{bound}",), strict=True)


def _stretches(compiler: Compiler, columns: list[Column], after: list[object]) -> list[str]:
    """What lies after the row `after`: at most two ranges, since a nullable first column has its NULLs at one end."""
    first, value = columns[0], after[0]
    if not first.nullable:
        return [_beyond(compiler, columns, after)]
    if value is None:
        nulls = f"({first.sql} IS NULL AND {_beyond(compiler, columns[1:], after[1:])})"
        return [nulls] if first.descending else [nulls, f"{first.sql} IS NOT NULL"]
    rows = f"({first.sql} IS NOT NULL AND {_beyond(compiler, [replace(first, nullable=False), *columns[1:]], after)})"
    return [rows, f"{first.sql} IS NULL"] if first.descending else [rows]


def _beyond(compiler: Compiler, columns: list[Column], after: list[object]) -> str:
    """Lexicographic comparison, led by a condition on the first column alone that an index can seek to."""
    if not columns:
        return "0"
    first = columns[0]
    if after[0] is None:
        strictly = "0" if first.descending else f"{first.sql} IS NOT NULL"
        return f"({strictly} OR ({first.sql} IS NULL AND {_beyond(compiler, columns[1:], after[1:])}))"
    bound = compiler.bind(after[0])
    rest = _beyond(compiler, columns[1:], after[1:])
    sign = "<" if first.descending else ">"
    nulls = f" OR {first.sql} IS NULL" if first.descending and first.nullable else ""
    exact = f"({first.sql}{sign}{bound}{nulls} OR ({first.sql}={bound} AND {rest}))"
    return exact if nulls else f"({first.sql}{sign}={bound} AND {exact})"
