"""Index lookup for principals who can see only a small part of a large store.

Beside each table lies its access control list (ACL): the users and groups, other than the owner, that an entity lets
see it. What a principal sees is therefore found through an index. Whether that takes less work than a scan is
estimated now and then; the condition itself is tested on every row in either case.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from math import isqrt
from typing import Final

import apsw
import orjson

from stores.query import And, Compare, Equal, Filter, In, Or, StartsWith
from stores.records import Json
from stores.sqlite.compile import Compiler
from stores.sqlite.tables import AclKey, StoreTable

SMALL: Final = 500
"""Rows of a table that are quicker looked at than asked about."""

PAGE: Final = 100
"""Entities that a list usually wants."""

LITTLE: Final = 1_000
"""Rows that are looked up, when there is an index for what else is asked."""

MOST_IDS: Final = 200
"""Ids of one principal. What names more is a list that somebody asks for, not what a principal sees."""

SECONDS: Final = 10.0
"""For which an estimate holds."""

_OWNER: Final = ("owner",)
_SHARING: Final = frozenset({("access",), ("group",), ("branch",)})


def narrowing(connection: apsw.Connection, compiler: Compiler, where: Filter) -> str:
    """What leads from the table's name to the condition: ``WHERE``, and before it, if the principal of `where` sees
    little, that it is among that. Of the statement's values this binds the last."""
    key = acl_key_of(where)
    if key is None or not sees_little(connection, compiler.table, key, where):
        return " WHERE"
    # Without NOT INDEXED the order might be taken from an index, and all of the table be read in it.
    return f" NOT INDEXED WHERE row IN ({_rows_sql(compiler, key)}) AND"


def acl_key_of(where: Filter) -> AclKey | None:
    """Whose visibility a filter is limited to: that of `auth.policy.visible_to`, alone or with further conditions."""
    visibility = next((part for part in _conditions(where) if isinstance(part, Or)), None)
    if visibility is None:
        return None
    owners: list[str] = []
    others: list[str] = []
    for part in visibility.parts:
        if isinstance(part, Equal):
            values: tuple[Json, ...] = (part.value,)
        elif isinstance(part, In):
            values = part.values
        else:
            return None
        ids = owners if part.path == _OWNER else others if part.path in _SHARING else None
        if ids is None:
            return None
        for value in values:
            if not isinstance(value, str):
                return None
            ids.append(value)
    if len(owners) + len(others) > MOST_IDS:
        return None
    return tuple(owners), tuple(others)


def sees_little(connection: apsw.Connection, table: StoreTable, key: AclKey, where: Filter) -> bool:
    """Whether it is less work to look up all that the principal sees than to look for a page of it among everything."""
    now = time.monotonic()
    seen, until = table.seen.get(key, (None, 0.0))
    if now > until:
        seen = _seen(connection, table, key)
        table.note_seen(key, seen, now + SECONDS)
    return seen is not None and (seen <= LITTLE or not _has_index(table, where))


def _seen(connection: apsw.Connection, table: StoreTable, key: AclKey) -> int | None:
    """How many rows the principal sees, None when they are too many to look up."""
    rows = connection.execute(f"SELECT max(row) FROM {table.table}").get or 0
    if rows <= SMALL:
        return None
    # A page is found among some PAGE * rows / seen rows; that is as many as are seen at the square root.
    most = isqrt(PAGE * rows)
    compiler = Compiler(table)
    sql = f"SELECT count(*) FROM ({_rows_sql(compiler, key)} LIMIT {most + 1})"
    seen: int = connection.execute(sql, compiler.values).get
    return seen if seen <= most else None


def _rows_sql(compiler: Compiler, key: AclKey) -> str:
    """Rows that the principal may see, some twice, and maybe more: a group's id may stand where a user's belongs."""
    owners, others = (",".join(map(compiler.bind, ids)) for ids in key)
    table = compiler.table
    return (
        f"SELECT row FROM {table.table} WHERE owner IN ({owners})"
        f" UNION ALL SELECT row FROM {table.acl} WHERE viewer IN ({others})"
    )


def _conditions(where: Filter) -> tuple[Filter, ...]:
    """What must all hold."""
    return where.parts if isinstance(where, And) else (where,)


def _has_index(table: StoreTable, where: Filter) -> bool:
    """Whether a condition that must hold can be looked up in an index."""
    return any(
        isinstance(part, (Equal, In, Compare, StartsWith))
        and (part.path == ("_id",) or ".".join(part.path) in table.paths)
        for part in _conditions(where)
    )


def groups_held(
    connection: apsw.Connection, tables: Iterable[StoreTable], groups: Sequence[str]
) -> set[tuple[str, str]]:
    """The stores and groups where the store has an entity of that group, found in the ACLs."""
    wanted = orjson.dumps(list(groups)).decode()
    held: set[tuple[str, str]] = set()
    for table in tables:
        of_group = f"SELECT 1 FROM {table.acl} v JOIN {table.table} e USING(row) WHERE viewer=w.value"
        sql = f"""SELECT value FROM json_each(?) w WHERE EXISTS({of_group} AND e."group"=w.value)"""
        held.update((table.name, group) for (group,) in connection.execute(sql, (wanted,)))
    return held
