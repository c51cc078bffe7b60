"""Sorting and keyset paging as SQL.

A plain path (see `Compiler.plain_value`) has SQLite's order, so an index can provide the order, and a page begins where
the last one ended, at any depth. A single other path sorts by (rank of type, value), computed in Python for arrays and
objects. Several other paths sort by one key computed in Python.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Final

import apsw

from stores import cursor, ordering
from stores.compound import conjuncts
from stores.errors import InvalidQuery
from stores.paths import Path
from stores.query import CREATION_ORDER, Compare, Equal, Filter, Query, Sort
from stores.records import Json
from stores.sqlite.compile import COLUMNS, DEEPEST, Compiler, arrays_before, is_column
from stores.sqlite.compounds import seekable_fields
from stores.sqlite.tables import extract, json_path


@dataclass(frozen=True, slots=True)
class Column:
    """One term of ORDER BY. `nullable`: it can be NULL, which sorts first; `stored`: it is a column of the table;
    `filled`: it is NULL in no entity that meets the filter."""

    sql: str
    descending: bool
    nullable: bool
    stored: bool = False
    filled: bool = False

    @property
    def term(self) -> str:
        return f"{self.sql} DESC" if self.descending else self.sql

    @property
    def sign(self) -> str:
        """The comparison operator for later values in this order."""
        return "<" if self.descending else ">"


Columns = tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A WHERE condition, and the sort columns that can differ among its rows."""

    condition: str
    columns: Columns

    @property
    def terms(self) -> str:
        return ",".join(c.term for c in self.columns)


@dataclass(frozen=True, slots=True)
class Order:
    """The key ranges of the rows after the cursor, in their order.

    With `strict`, computing the sort key fails on entities that cannot be sorted so. It may be computed only for rows
    that match the filter."""

    key_ranges: tuple[KeyRange, ...]
    strict: bool = False


_BY_CREATION: Final[Columns] = tuple(
    Column(COLUMNS[s.path[0]], s.descending, s.path != ("_id",), stored=True) for s in CREATION_ORDER
)
_FIRST_PAGE: Final = Order((KeyRange("1", _BY_CREATION),))


def compile_order(compiler: Compiler, wanted: Query) -> Order:
    if wanted.sort is CREATION_ORDER:  # most lists: without a look at its fields
        if wanted.after is None:
            return _FIRST_PAGE
        return Order(tuple(_key_ranges(compiler, _BY_CREATION, [*map(_plain_value, wanted.after)], 1)))
    query = _without_constants(compiler, wanted)
    filled = frozenset() if query.after is None else _filled_paths(query.where)
    special = [s for s in query.sort if compiler.plain_value(s.path) is None]
    if len(special) > 1:
        return _by_one_key(compiler, query)
    columns: list[Column] = []
    after: list[object] = []
    for index, sort in enumerate(query.sort):
        made = _special(sort) if sort in special else [_plain(compiler, sort, filled)]
        columns += made
        if query.after is not None:
            value = query.after[index]
            after += _special_values(value) if sort in special else [_plain_value(value)]
    if query.after is None:
        return Order((KeyRange("1", tuple(columns)),))
    seekable = seekable_fields(compiler, query)
    return Order(tuple(_key_ranges(compiler, tuple(columns), after, seekable)))


def _without_constants(compiler: Compiler, query: Query) -> Query:
    """Return the query without the fields of its sort that its filter compares with one value, except the last one:
    they would only be in the way of an index."""
    sorted_by = [sort.path for sort in query.sort[:-1]]
    values = {p.path: p.value for p in conjuncts(query.where) if isinstance(p, Equal) and p.path in sorted_by}
    if not values:
        return query
    after = query.after or [None] * len(query.sort)

    def is_constant(sort: Sort, value: Json) -> bool:
        if compiler.plain_value(sort.path) is None or not isinstance(fixed := values.get(sort.path), str | int | float):
            return False
        return query.after is None or ordering.equal(value, fixed)

    kept = [(s, v) for s, v in zip(query.sort[:-1], after, strict=False) if not is_constant(s, v)]
    kept.append((query.sort[-1], after[-1]))
    left = tuple(value for _, value in kept) if query.after is not None else None
    return replace(query, sort=tuple(sort for sort, _ in kept), after=left)


def _plain(compiler: Compiler, sort: Sort, filled: Container[Path]) -> Column:
    value = compiler.plain_value(sort.path)
    assert value is not None
    stored = is_column(sort.path)
    nullable = not stored or sort.path[0] not in ("_id", "_rev")
    return Column(value, sort.descending, nullable, stored, sort.path in filled)


def _filled_paths(where: Filter) -> frozenset[Path]:
    """Return the paths with a condition that null does not meet."""
    conditions = (part for part in conjuncts(where) if isinstance(part, Equal | Compare) and part.value is not None)
    return frozenset(part.path for part in conditions)


def _special(sort: Sort) -> list[Column]:
    path, direction = json_path(sort.path), int(sort.descending)
    kind = f"json_type(doc,{path})"
    arguments = f"doc,{path},{direction}"
    if len(sort.path) > DEEPEST:
        rank, value = f"hub_rank({arguments})", f"hub_value({arguments})"
        return [Column(rank, sort.descending, False), Column(value, sort.descending, True)]
    itself = f"{kind} IN ('array','object')"
    composite = f"{arrays_before(sort.path)} OR {itself}" if len(sort.path) > 1 else itself
    ranks = {
        "integer": ordering.RANK_NUMBER,
        "real": ordering.RANK_NUMBER,
        "text": ordering.RANK_STRING,
        "true": ordering.RANK_BOOLEAN,
        "false": ordering.RANK_BOOLEAN,
    }
    rank = f"CASE {kind} " + " ".join(f"WHEN '{k}' THEN {r}" for k, r in ranks.items())
    rank += f" ELSE {ordering.RANK_NULL} END"
    return [
        Column(f"CASE WHEN {composite} THEN hub_rank({arguments}) ELSE {rank} END", sort.descending, False),
        Column(
            f"CASE WHEN {composite} THEN hub_value({arguments}) ELSE {extract(sort.path)} END", sort.descending, True
        ),
    ]


def special_parts(value: object) -> tuple[int, object]:
    """Return the two columns of a sort value: the rank of its type, and a value that SQLite can compare."""
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
        return Order((KeyRange("1", (column,)),), strict=True)
    bound = compiler.bind(cursor.encode_key(query.after, query.sort))
    return Order((KeyRange(f"{column.sql}>{bound}", (column,)),), strict=True)


def _key_ranges(compiler: Compiler, columns: Columns, after: list[object], seekable: int) -> list[KeyRange]:
    """Return the rows after the row `after`, as ranges that an index can seek to.

    If the first column is nullable, its NULLs are a range at one end. If it is an indexed expression, the rows with the
    same value as `after` are a range of their own; otherwise the index would step through all of them. They are several
    ranges if an index has further columns in this order (see `seekable_fields`)."""
    first, value, others = columns[0], after[0], columns[1:]
    if not first.nullable:
        return [KeyRange(_beyond(compiler, columns, after), columns)]
    if value is None:
        nulls = _ties(compiler, f"{first.sql} IS NULL", others, after[1:], seekable)
        return nulls if first.descending else [*nulls, KeyRange(f"{first.sql} IS NOT NULL", columns)]
    last = [KeyRange(f"{first.sql} IS NULL", others)] if first.descending and not first.filled else []
    if first.stored and (seekable < 2 or _compare_as_row((replace(first, nullable=False), *others), after)):
        beyond = _beyond(compiler, (replace(first, nullable=False), *others), after)
        return [KeyRange(f"({first.sql} IS NOT NULL AND {beyond})", columns), *last]
    bound = compiler.bind(value)
    ties = _ties(compiler, f"{first.sql}={bound}", others, after[1:], seekable)
    return [*ties, KeyRange(f"{first.sql}{first.sign}{bound}", columns), *last]


def _ties(compiler: Compiler, tie: str, others: Columns, after: list[object], seekable: int) -> list[KeyRange]:
    """Return the rows with the same first value that come after the row `after`."""
    if seekable < 2 or not others:
        return [KeyRange(f"({tie} AND {_beyond(compiler, others, after)})", others)]
    ranges = _key_ranges(compiler, others, after, seekable - 1)
    return [KeyRange(f"({tie} AND {r.condition})", r.columns) for r in ranges]


def _compare_as_row(columns: Columns, after: list[object]) -> bool:
    """Return whether SQLite's row comparison has the same result.

    With it an index seeks past the many entities that one request created at the same time. It treats NULL as not
    greater than any row, which is right where NULL sorts first."""
    return None not in after and all(
        c.stored and c.descending is columns[0].descending and not (c.descending and c.nullable) for c in columns
    )


def _beyond(compiler: Compiler, columns: Columns, after: list[object]) -> str:
    """Return a lexicographic comparison. It begins with a condition on the first column alone, which an index can seek
    to."""
    if not columns:
        return "0"
    first = columns[0]
    if len(columns) > 1 and _compare_as_row(columns, after):
        row, bounds = ",".join(c.sql for c in columns), ",".join(map(compiler.bind, after))
        return f"({row}){first.sign}({bounds})"
    if after[0] is None:
        strictly = "0" if first.descending else f"{first.sql} IS NOT NULL"
        return f"({strictly} OR ({first.sql} IS NULL AND {_beyond(compiler, columns[1:], after[1:])}))"
    bound = compiler.bind(after[0])
    rest = _beyond(compiler, columns[1:], after[1:])
    nulls = f" OR {first.sql} IS NULL" if first.descending and first.nullable else ""
    exact = f"({first.sql}{first.sign}{bound}{nulls} OR ({first.sql}={bound} AND {rest}))"
    return exact if nulls else f"({first.sql}{first.sign}={bound} AND {exact})"
