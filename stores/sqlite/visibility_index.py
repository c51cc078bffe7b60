"""Index lookup for principals who can see only a small part of a large store, and for the entities of a group.

Each table has an access control list (ACL): the users and groups, other than the owner, that may see each entity. So an
index leads to the entities that a principal can see, and to those of a group. Now and then it is estimated whether the
lookup takes less work than a scan. The condition itself is tested on every row in either case.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from math import isqrt
from typing import Final

import apsw
import orjson

from stores.compound import implies, sought
from stores.query import And, Compare, Equal, Filter, In, Or, StartsWith
from stores.records import Json
from stores.sqlite.compile import Compiler
from stores.sqlite.compounds import is_indexed
from stores.sqlite.tables import AclKey, StoreTable

SMALL: Final = 500
"""Rows of a table up to which a scan is quicker than an estimate."""

PAGE: Final = 100
"""Entities in a usual list."""

LITTLE: Final = 1_000
"""Visible rows up to which they are looked up even if another condition of the filter has an index."""

MOST_IDS: Final = 200
"""Ids of one principal. A filter with more ids is a list in a request, not the visibility predicate of a principal."""

SECONDS: Final = 10.0
"""Seconds for which an estimate is used."""

_OWNER: Final = ("owner",)
_SHARING: Final = frozenset({("access",), ("group",), ("branch",)})


def acl_key_of(where: Filter) -> AclKey | None:
    """Return the ids in the visibility predicate of a filter, or in a condition on a group, or None. The predicate is
    one of `auth.policy.visible_to`, alone or with further conditions."""
    conditions = _conditions(where)
    visibility = next((part for part in conditions if isinstance(part, Or)), None)
    if visibility is not None:
        return _key_of(visibility.parts)
    sharing = next((part for part in conditions if isinstance(part, (Equal, In)) and part.path in _SHARING), None)
    return None if sharing is None else _key_of((sharing,))


def _key_of(choices: Sequence[Filter]) -> AclKey | None:
    """Return the ids in the choices; None if one of them does not lead to rows."""
    owners: list[str] = []
    others: list[str] = []
    for part in choices:
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
    """Return whether looking up all that the principal sees takes less work than scanning the table for a page of
    it."""
    now = time.monotonic()
    seen, until = table.seen.get(key, (None, 0.0))
    if now > until:
        seen = _seen(connection, table, key)
        table.note_seen(key, seen, now + SECONDS)
    return seen is not None and (seen <= LITTLE or not has_index(table, where))


def _seen(connection: apsw.Connection, table: StoreTable, key: AclKey) -> int | None:
    """Return how many rows the principal sees; None when they are too many to look up."""
    rows = connection.execute(f"SELECT max(row) FROM {table.table}").get or 0
    if rows <= SMALL:
        return None
    # A scan for a page reads about PAGE * rows / seen rows, a lookup `seen` rows. The two are equal at
    # seen = sqrt(PAGE * rows).
    most = isqrt(PAGE * rows)
    compiler = Compiler(table)
    sql = f"SELECT count(*) FROM ({rows_sql(compiler, key)} LIMIT {most + 1})"
    seen: int = connection.execute(sql, compiler.values).get
    return seen if seen <= most else None


def rows_sql(compiler: Compiler, key: AclKey) -> str:
    """Return the SQL for the rows that the principal may see. It may return a row twice, and rows that the principal
    may not see: the ACL does not distinguish the ids of users and groups."""
    owners, others = key
    table = compiler.table
    parts: list[str] = []
    if owners:
        parts.append(f"SELECT row FROM {table.table} WHERE owner IN ({','.join(map(compiler.bind, owners))})")
    if others:
        parts.append(f"SELECT row FROM {table.acl} WHERE viewer IN ({','.join(map(compiler.bind, others))})")
    return " UNION ALL ".join(parts) or "SELECT NULL"


def _conditions(where: Filter) -> tuple[Filter, ...]:
    """Return the conditions that must all hold."""
    return where.parts if isinstance(where, And) else (where,)


def has_index(table: StoreTable, where: Filter) -> bool:
    """Return whether one of the conditions that must all hold, or two of them together, can be looked up in an
    index."""
    return any(
        isinstance(part, (Equal, In, Compare, StartsWith)) and (part.path == ("_id",) or is_indexed(table, part.path))
        for part in _conditions(where)
    ) or any(sought(index, where) > 1 and implies(where, index.where) for index in table.compounds.values())


def groups_in_use(
    connection: apsw.Connection, tables: Iterable[StoreTable], groups: Sequence[str]
) -> set[tuple[str, str]]:
    """Return the pairs of store and group for which the store has an entity of that group. Uses the ACLs."""
    wanted = orjson.dumps(list(groups)).decode()
    in_use: set[tuple[str, str]] = set()
    for table in tables:
        of_group = f"SELECT 1 FROM {table.acl} v JOIN {table.table} e USING(row) WHERE viewer=w.value"
        sql = f"""SELECT value FROM json_each(?) w WHERE EXISTS({of_group} AND e."group"=w.value)"""
        in_use.update((table.name, group) for (group,) in connection.execute(sql, (wanted,)))
    return in_use
