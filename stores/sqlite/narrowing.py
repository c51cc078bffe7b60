"""The choice of the rows that a statement examines: those that the ACL, or the index of references, leads to if these
take less work than a scan."""

from __future__ import annotations

from math import isqrt
from typing import Final

import apsw

from stores.query import Filter
from stores.sqlite import reference_index, visibility_index
from stores.sqlite.compile import Compiler
from stores.sqlite.tables import StoreTable
from stores.sqlite.visibility_index import LITTLE, PAGE, SMALL, acl_key_of, has_index, sees_little

EVERY_ROW: Final = " WHERE"
"""What `narrowing` returns without a restriction."""


def narrowing(connection: apsw.Connection, compiler: Compiler, where: Filter, *, whole: bool = False) -> str:
    """Return the SQL between the table's name and the condition: ``WHERE``, and, if an index leads to few rows that may
    meet `where`, the restriction to these. It binds the last values of the statement.

    `whole`: the statement reads all matches, and not a page in some order."""
    key = acl_key_of(where)
    if key is not None and not sees_little(connection, compiler.table, key, where):
        key = None
    seen = None if key is None else compiler.table.seen[key][0]
    rows = _referring(connection, compiler, where, seen, whole=whole)
    if not rows:
        if key is None:
            return EVERY_ROW
        rows = visibility_index.rows_sql(compiler, key)
    # Without NOT INDEXED, SQLite might read the whole table in the order of an index.
    return f" NOT INDEXED WHERE row IN ({rows}) AND"


def source_of_any(connection: apsw.Connection, compiler: Compiler, where: Filter) -> str:
    """Return the SQL between FROM and the condition of a statement that takes any of the matches."""
    part = reference_index.sought(connection, compiler.table, where)
    serves = part is not None and not has_index(compiler.table, where)
    joined = reference_index.joined_sql(compiler, part) if part is not None and serves else ""
    return joined or compiler.table.table + narrowing(connection, compiler, where, whole=True)


def _referring(connection: apsw.Connection, compiler: Compiler, where: Filter, seen: int | None, *, whole: bool) -> str:
    """Return the SQL for the rows that refer to what `where` names; empty if a scan takes less work, another index, or
    the ACL, which leads to `seen` rows."""
    table = compiler.table
    part = reference_index.sought(connection, table, where)
    if part is None:
        return ""
    others = has_index(table, where)
    if others or not whole or seen is not None:
        most = LITTLE if others else most_looked_up(connection, table)
        if whole and not others and seen is not None:
            most = seen
        elif seen is not None:
            most = min(most, seen)
        if reference_index.count(connection, table, part, most) > most:
            return ""
    return reference_index.rows_sql(compiler, part)


def most_looked_up(connection: apsw.Connection, table: StoreTable) -> int:
    """Return how many rows a lookup may lead to, so that it takes less work than a scan for a page (see
    `visibility_index.sees_little`)."""
    rows = connection.execute(f"SELECT max(row) FROM {table.table}").get or 0
    return max(SMALL, isqrt(PAGE * rows))
