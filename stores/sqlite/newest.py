"""The newest entities for each of several values (`stores.newest`).

An index leads from each value to its newest entities, whatever their number. Where there is no such index, because
values are in lists, and where the reader sees little of the store, one scan from the newest entity on finds them, and
those of rare values are looked up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import apsw
import orjson

from stores.errors import ReadTooLarge
from stores.newest import Collected, Newest, Texts
from stores.paths import Path
from stores.protocol import UNBOUNDED
from stores.query import NEWEST_FIRST, WHOLE, Equal, In, Projection, Query
from stores.relation import Value, values_along
from stores.sqlite import reference_index
from stores.sqlite.allowance import allowance
from stores.sqlite.compile import Compiler
from stores.sqlite.feed import current_seq
from stores.sqlite.functions import parsed
from stores.sqlite.lists import Render, page_sql, renderer_of
from stores.sqlite.narrowing import most_looked_up
from stores.sqlite.readers import snapshot
from stores.sqlite.tables import StoreTable
from stores.sqlite.visibility_index import acl_key_of, sees_little

_PIECE = 20
"""Entities that are measured together."""


def read_newest(connection: apsw.Connection, table: StoreTable, wanted: Newest, projection: Projection) -> Texts:
    """Return the texts of the entities as the projection shows them. Raises ReadTooLarge."""
    with snapshot(connection):
        current_seq(connection)
        if is_unique(table, wanted.path):
            return _by_key(connection, table, wanted, projection)
        render = renderer_of(projection)
        if _has_index(connection, table, wanted):
            return _by_value(connection, table, wanted, render)
        collected = Collected(wanted)
        for values in _rare_and_others(connection, table, wanted):
            _scan(connection, table, replace(wanted, values=values), render, collected)
        return collected.texts


def is_unique(table: StoreTable, path: Path) -> bool:
    """Return whether each value of the path leads to one entity at most, by an index."""
    if path == ("_id",):
        return True
    name = ".".join(path)
    indexed = table.paths.get(name)
    if indexed is None or not indexed.unique or name in table.listed:
        return False
    return Compiler(table).plain_value(path) is not None


def _has_index(connection: apsw.Connection, table: StoreTable, wanted: Newest) -> bool:
    """Return whether looking up each value is less work than a scan."""
    if Compiler(table).plain_value(wanted.path) is None or ".".join(wanted.path) in table.listed:
        return False
    condition = wanted.condition
    key = acl_key_of(condition)
    return key is None or not sees_little(connection, table, key, condition)


_DOCUMENT: Final = "CAST(doc AS BLOB)"
_ID_ALONE: Final = "CAST(json_object('_id', id) AS BLOB)"


def by_key_sql(table: StoreTable, wanted: Newest, text: str = _DOCUMENT) -> tuple[str, list[Any]]:
    """Return the statement, and its values, for rows (value, text) of a path with unique values."""
    compiler = Compiler(table)
    where = compiler.condition(wanted.where)  # first: see `Compiler.kept_choice`
    values = compiler.bind(orjson.dumps(wanted.values).decode())
    sql = (
        f"SELECT wanted, {text} FROM (SELECT value AS wanted FROM json_each({values}))"
        f" CROSS JOIN {table.table} WHERE {compiler.plain_value(wanted.path)}=wanted AND {where}"
    )
    return sql, compiler.values


def _by_key(connection: apsw.Connection, table: StoreTable, wanted: Newest, projection: Projection) -> Texts:
    is_id_alone = projection.only in ((), (("_id",),))  # large documents need not be read
    sql, values = by_key_sql(table, wanted, _ID_ALONE if is_id_alone else _DOCUMENT)
    rows: Iterator[tuple[Any, ...]] = connection.execute(sql, values)
    if projection.everything and allowance.on_loop:
        # Measured piece by piece: one by one it would take a tenth of the time.
        whole: Texts = {}
        read = 0
        while piece := list(islice(rows, _PIECE)):
            whole.update((value, [doc]) for value, doc in piece)
            read += sum(len(doc) for _, doc in piece)
            if read > wanted.most_bytes:
                raise ReadTooLarge(wanted.most_bytes)
        return whole
    render = renderer_of(WHOLE if is_id_alone else projection)
    texts: Texts = {}
    size = 0
    for value, doc in rows:
        text = render(doc)
        size += len(text)
        if size > wanted.most_bytes:
            raise ReadTooLarge(wanted.most_bytes)
        texts[value] = [text]
    return texts


def newest_sql(table: StoreTable, wanted: Newest) -> tuple[str, list[Any]]:
    """Return the statement, and its values, for rows (number of the value, time, id, document)."""
    compiler = Compiler(table)
    where = compiler.condition(wanted.where)  # first: see `Compiler.kept_choice`
    value = compiler.plain_value(wanted.path)
    values = compiler.bind(orjson.dumps(wanted.values).decode())
    newest = (
        f"SELECT row FROM {table.table} WHERE {value}=wanted.value AND {where}"
        f" ORDER BY time DESC, id DESC LIMIT {wanted.each}"
    )
    sql = (
        f"SELECT wanted.key, found.time, found.id, CAST(found.doc AS BLOB)"
        f" FROM json_each({values}) wanted CROSS JOIN {table.table} found WHERE found.row IN ({newest})"
    )
    return sql, compiler.values


def _by_value(connection: apsw.Connection, table: StoreTable, wanted: Newest, render: Render) -> Texts:
    sql, values = newest_sql(table, wanted)
    collected = Collected(wanted)
    found: dict[int, list[tuple[tuple[float, str], bytes]]] = {}
    for number, time, id, doc in connection.execute(sql, values):
        text = render(doc)
        collected.count(text)
        found.setdefault(number, []).append(((-math.inf if time is None else time, id), text))
    # Sorted here: SQL would carry the documents through its sorter.
    return {wanted.values[number]: [text for _, text in sorted(texts, reverse=True)] for number, texts in found.items()}


def _rare_and_others(connection: apsw.Connection, table: StoreTable, wanted: Newest) -> Iterator[tuple[Value, ...]]:
    """Yield the values that so few entities have that they are looked up in the index of references, and the others. A
    scan for a rare value would end at the oldest entity only."""
    left = most_looked_up(connection, table)
    rare: list[Value] = []
    if reference_index.sought(connection, table, In(wanted.path, wanted.values)) is not None:
        for value in wanted.values:
            count = reference_index.count(connection, table, Equal(wanted.path, value), left)
            if count <= left:
                left -= count
                rare.append(value)
    yield tuple(rare)
    known = frozenset(rare)
    yield tuple(value for value in wanted.values if value not in known)


def _scan(connection: apsw.Connection, table: StoreTable, wanted: Newest, render: Render, collected: Collected) -> None:
    """Collect the entities of some of the values from the newest one on."""
    left = len(wanted.values)
    if not left:
        return
    sought: frozenset[Value] = frozenset(wanted.values)
    sql, values = page_sql(connection, table, Query(wanted.condition, NEWEST_FIRST), UNBOUNDED)
    for (doc,) in connection.execute(sql, values):
        had = [value for value in values_along(parsed(doc), wanted.path) & sought if collected.takes(value)]
        if had:
            text = render(doc)
            for value in had:
                collected.add(value, text)
                left -= not collected.takes(value)
            if not left:
                break
