"""The matches of a bulk change: the numbers of their rows, found by the writer or by a reader."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, TypeAlias

import apsw

from stores.query import Filter
from stores.sqlite.compile import Compiler
from stores.sqlite.compounds import served_conditions
from stores.sqlite.tables import StoreTable
from stores.sqlite.visibility_index import narrowing

Rows: TypeAlias = "array[int]"
"""Numbers of rows: 8 bytes for each of many entities, as a bulk change needs them before it writes."""


@dataclass(frozen=True, slots=True)
class Found:
    """The entities that a reader has found for a bulk change: the numbers of their rows, by creation, and what
    `state_of` returns for each."""

    rows: Rows
    states: Rows


def state_of(id: str, rev: int) -> int:
    """Return a number that tells whether a row still holds this revision of this entity. In 8 bytes, since it is kept
    for each of many entities; `hash` is keyed, so nobody can choose ids with equal numbers."""
    return hash((id, rev))


def new_rows() -> Rows:
    return array("q")


def search_sql(
    connection: apsw.Connection, table: StoreTable, columns: str, where: Filter, limit: int
) -> tuple[str, list[Any]]:
    """Return the statement and the values of a search for the matches of a bulk change, by creation: for one more than
    `limit`."""
    compiler = Compiler(table)
    condition = compiler.condition(where) + served_conditions(table, where)
    source = table.table + narrowing(connection, compiler, where)
    return f"SELECT {columns} FROM {source} {condition} ORDER BY time, id LIMIT {limit + 1}", compiler.values
