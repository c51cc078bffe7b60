"""The matches of a bulk change: the numbers of their rows, found by the writer or by a reader."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import apsw

from stores.query import Filter
from stores.sqlite.compile import Compiler
from stores.sqlite.compounds import served_conditions
from stores.sqlite.narrowing import narrowing, source_of_any
from stores.sqlite.tables import StoreTable

Rows: TypeAlias = "array[int]"
"""Numbers of rows: 8 bytes for each of many entities, as a bulk change needs them before it writes."""


CREATION_ORDER_SQL: Final = " ORDER BY time, id"


@dataclass(frozen=True, slots=True)
class Found:
    """The entities that a reader has found for a bulk change: the numbers of their rows, by creation, and what
    `state_of` returns for each."""

    rows: Rows
    states: Rows


def state_of(id: str, rev: int) -> int:
    """Return a number that identifies this revision of this entity. In 8 bytes, since it is kept
    for each of many entities; `hash` is keyed, so nobody can choose ids with equal numbers."""
    return hash((id, rev))


def new_rows() -> Rows:
    return array("q")


def search_sql(
    connection: apsw.Connection,
    table: StoreTable,
    columns: str,
    where: Filter,
    limit: int,
    order: str = CREATION_ORDER_SQL,
) -> tuple[str, list[Any]]:
    """Return the statement and the values of a search for `limit` matches, by creation unless `order` is empty. Call it
    inside the snapshot in which the statement runs."""
    compiler = Compiler(table)
    condition = compiler.condition(where) + served_conditions(table, where)
    if order:
        source = table.table + narrowing(connection, compiler, where, whole=True)
    else:
        source = source_of_any(connection, compiler, where)
    return f"SELECT {columns} FROM {source} {condition}{order} LIMIT {limit}", compiler.values
