"""Lists: a page as a JSON array, in one piece or, when it is long, in several."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, cast

import apsw
import orjson

from stores.projection import compile_projection
from stores.protocol import Summary
from stores.query import CREATION_ORDER, Filter, Projection, Query, Sort
from stores.records import Entity, Json
from stores.sqlite.allowance import allowance, spend
from stores.sqlite.compile import Compiler
from stores.sqlite.compounds import chosen_index, served_conditions
from stores.sqlite.feed import current_seq
from stores.sqlite.functions import parsed, sort_key
from stores.sqlite.narrowing import EVERY_ROW, narrowing
from stores.sqlite.order import KeyRange, compile_order
from stores.sqlite.readers import snapshot
from stores.sqlite.tables import StoreTable, extract, identifier, json_path
from stores.steps import PARSE_SHIFT

Key = tuple[Json, ...]
Render = Callable[[bytes], bytes]

LONGEST_PAGE: Final = 1_048_576
"""Bytes of a list in one piece; a longer one is streamed."""


SMALL: Final = 2_048
"""Bytes of an entity up to which its projection is not counted as steps: `LONGEST_PAGE` bounds such entities."""


class LongPage(Exception):
    """The page is longer than `LONGEST_PAGE`."""


def page_sql(
    connection: apsw.Connection, table: StoreTable, query: Query, limit: int
) -> tuple[str, list[apsw.SQLiteValue]]:
    """Return the statement and the values of a page of at most `limit` entities. Call it inside the snapshot in which
    the statement runs (see `WriteExecutor.mark_mixed_paths`)."""
    compiler = Compiler(table)
    where = compiler.condition(query.where) + served_conditions(table, query.where)
    order = compile_order(compiler, query)
    narrowed = narrowing(connection, compiler, query.where)
    if narrowed == EVERY_ROW and (index := chosen_index(connection, compiler, query)):
        narrowed = f" INDEXED BY {identifier(index)} WHERE"
    source = table.table + narrowed
    key_ranges = [_range_sql(source, where, key_range, strict=order.strict) for key_range in order.key_ranges]
    if len(key_ranges) == 1:
        sql = key_ranges[0]
    else:
        # The ranges follow one another, each in its own order; SQLite stops at the limit.
        sql = " UNION ALL ".join(
            f"SELECT * FROM ({key_range} LIMIT {limit + query.offset})" for key_range in key_ranges
        )
    return f"{sql} LIMIT {limit} OFFSET {query.offset}", compiler.values


def _range_sql(source: str, where: str, key_range: KeyRange, *, strict: bool) -> str:
    condition = f"{where} AND {key_range.condition}"
    if strict:
        # Evaluate the sort key of every match, and of no other row. SQLite evaluates the parts of AND in any order,
        # CASE in the order written, and ORDER BY not at all where there can be one row only. The first part is for an
        # index.
        sorted_at = key_range.condition if key_range.condition != "1" else f"{key_range.columns[0].sql} IS NOT NULL"
        condition = f"{where} AND CASE WHEN {where} THEN {sorted_at} END"
    return f"SELECT CAST(doc AS BLOB) FROM {source} {condition} ORDER BY {key_range.terms}"


def read_page(
    connection: apsw.Connection, table: StoreTable, query: Query, limit: int, render: Render | None
) -> tuple[int, list[bytes], Key | None]:
    """Return, from one snapshot, the feed's `seq`, at most `limit` documents as they are shown, and the sort key of the
    last one if more follow. Raises LongPage."""
    with snapshot(connection):
        seq = current_seq(connection)
        sql, values = page_sql(connection, table, query, limit + 1)
        docs = _bounded(connection.execute(sql, values))
    last = None
    if len(docs) > limit:
        del docs[limit:]
        last = sort_key(docs[-1], query.sort) if docs else None
    return seq, docs if render is None else list(map(render, docs)), last


def _bounded(rows: Iterator[tuple[apsw.SQLiteValue, ...]]) -> list[bytes]:
    """Return the documents in `rows`. Raises LongPage for two or more that are longer than `LONGEST_PAGE` together."""
    if allowance.on_loop:
        # The time on the loop bounds the documents that can be read, so they are measured once at the end: row by row
        # it would take a tenth of the time of a list.
        read: list[bytes] = [doc for (doc,) in rows]  # type: ignore[misc]
        if sum(map(len, read)) > LONGEST_PAGE and len(read) > 1:
            raise LongPage
        return read
    docs: list[bytes] = []
    size = 0
    while piece := [doc for (doc,) in islice(rows, 20)]:
        docs += piece  # type: ignore[arg-type]
        size += sum(map(len, piece))  # type: ignore[arg-type]
        if size > LONGEST_PAGE and len(docs) > 1:
            raise LongPage
    return docs


def stream_page(
    connection: apsw.Connection, table: StoreTable, query: Query, render: Render, chunk_bytes: int
) -> Generator[tuple[int, Key | None] | bytes]:
    """Yield (`seq`, key of the last entity if more follow), then the pieces of the array."""
    with snapshot(connection):
        seq = current_seq(connection)
        yield seq, _last_key(connection, table, query)
        sql, values = page_sql(connection, table, query, query.limit)
        yield from _pieces(connection.execute(sql, values), render, chunk_bytes)


def _last_key(connection: apsw.Connection, table: StoreTable, query: Query) -> Key | None:
    """Return the key of the last entity if more follow. It is read before the rows, because the headers of an answer
    are sent before its body."""
    if query.limit == 0:
        return None
    ends = replace(query, offset=query.offset + query.limit - 1)
    sql, values = page_sql(connection, table, ends, 2)
    docs = [doc for (doc,) in connection.execute(sql, values)]
    return sort_key(docs[0], query.sort) if len(docs) == 2 else None


def _pieces(rows: Iterable[tuple[Any, ...]], render: Render, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the array of the shown documents in pieces. A piece ends with the document that reaches `chunk_bytes`."""
    part: list[bytes] = []
    size, before = 0, b"["
    for (doc,) in rows:
        text = render(doc)
        part.append(text)
        size += len(text)
        if size >= chunk_bytes:
            yield before + b",".join(part)
            part, size, before = [], 0, b","
    if part or before == b"[":
        yield before + b",".join(part) + b"]"
    else:
        yield b"]"


def renderer_of(projection: Projection) -> Render:
    """Return a function from stored JSON text to the JSON text that is shown."""
    if projection.everything:
        return lambda doc: doc
    project = compile_projection(projection)

    def render(doc: bytes) -> bytes:
        if len(doc) > SMALL:
            spend(len(doc) >> PARSE_SHIFT)
        return orjson.dumps(project(orjson.loads(doc)))

    return render


def read_entities(connection: apsw.Connection, table: StoreTable, query: Query, most_bytes: int | None) -> list[Entity]:
    """See `stores.protocol.Engine.entities`."""
    with snapshot(connection):
        current_seq(connection)
        sql, values = page_sql(connection, table, query, query.limit)
        if most_bytes is None:
            return [parsed(doc) for (doc,) in connection.execute(sql, values)]
        found, size = [], 0
        for (doc,) in connection.execute(sql, values):
            found.append(parsed(doc))
            size += len(doc)
            if size >= most_bytes:
                break
        return found


def summarize(
    connection: apsw.Connection, table: StoreTable, where: Filter, render: Render, at: Callable[[int], str]
) -> Summary:
    with snapshot(connection):
        seq = current_seq(connection)
        compiler = Compiler(table)
        condition = compiler.condition(where) + served_conditions(table, where)
        source = table.table + narrowing(connection, compiler, where, whole=True)
        count = connection.execute(f"SELECT count(*) FROM {source} {condition}", compiler.values).get
        ends = []
        for backwards in (False, True):
            sort = tuple(Sort(s.path, backwards) for s in CREATION_ORDER)
            sql, values = page_sql(connection, table, Query(where, sort), 1)
            ends.append([render(doc) for (doc,) in islice(connection.execute(sql, values), 1)])
    first, last = ends
    return Summary(at(seq), count, first[0] if first else None, last[0] if last else None)


def count(
    connection: apsw.Connection, table: StoreTable, where: Filter, counts: Callable[[Entity], bool] | None
) -> int:
    """See `stores.protocol.Engine.count`."""
    with snapshot(connection):
        current_seq(connection)
        compiler = Compiler(table)
        condition = compiler.condition(where) + served_conditions(table, where)
        source = table.table + narrowing(connection, compiler, where, whole=True)
        if counts is None:
            return int(connection.execute(f"SELECT count(*) FROM {source} {condition}", compiler.values).get)
        docs = connection.execute(f"SELECT CAST(doc AS BLOB) FROM {source} {condition}", compiler.values)
        return sum(counts(parsed(doc)) for (doc,) in docs)


def count_duplicates(
    connection: apsw.Connection, table: StoreTable, paths: Sequence[str], where: Filter
) -> tuple[int, str]:
    """See `stores.protocol.Engine.count_duplicates`. Values are equal here if a unique index says so."""
    compiler = Compiler(table)
    condition = compiler.condition(where)
    kinds = " AND ".join(f"json_type(doc,{json_path(path)}) IN ('text','integer','real')" for path in paths)
    values = ",".join(map(extract, paths))
    groups = f"FROM {table.table} WHERE {kinds} AND {condition} GROUP BY {values} HAVING n>1"
    sql = f"SELECT coalesce(sum(n),0), coalesce(min(first),'') FROM (SELECT count(*) AS n, min(id) AS first {groups})"
    [found] = connection.execute(sql, compiler.values).fetchall()
    return cast(tuple[int, str], found)
