"""Aggregations: the accumulator of `stores.accumulator` is fed with the matching rows of one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import apsw

from stores.accumulator import Accumulator
from stores.aggregation import MOST_GROUPS, Aggregated, Aggregation
from stores.paths import Path
from stores.query import EVERYTHING, Filter
from stores.records import Entity
from stores.sqlite.allowance import spend
from stores.sqlite.compile import Compiler, is_column
from stores.sqlite.feed import current_seq
from stores.sqlite.functions import parsed
from stores.sqlite.narrowing import narrowing
from stores.sqlite.readers import snapshot
from stores.sqlite.tables import StoreTable
from stores.sqlite.value_texts import add_rows, is_readable


def aggregate(
    connection: apsw.Connection, table: StoreTable, where: Filter, aggregation: Aggregation, at: Callable[[int], str]
) -> Aggregated:
    """See `stores.protocol.Engine.aggregate`. `at` returns the position of a `seq`."""
    accumulator = Accumulator(aggregation, spend)
    with snapshot(connection):
        seq = current_seq(connection)
        compiler = Compiler(table)
        condition = compiler.condition(where)
        rows = f"{table.table}{narrowing(connection, compiler, where, whole=True)} {condition}"
        if not _is_simple(compiler, aggregation) and is_readable(aggregation):
            add_rows(connection, compiler, aggregation, accumulator, rows)
        else:
            for entity, count in _counted(connection, compiler, aggregation, rows):
                accumulator.add(entity, count)
    return Aggregated(at(seq), accumulator.result())


def _is_simple(compiler: Compiler, aggregation: Aggregation) -> bool:
    """Return whether SQLite counts, or has all values in columns."""
    paths, counted = aggregation.paths, aggregation.counted_path
    if counted is not None and ordered_value(compiler, counted) is not None:
        return True
    return all(map(is_column, paths))


def _counted(
    connection: apsw.Connection, compiler: Compiler, aggregation: Aggregation, rows: str
) -> Iterator[tuple[Entity, int]]:
    """Yield what is needed of the entities in `rows`, and how many there are with equal values."""
    paths, counted = aggregation.paths, aggregation.counted_path
    if not paths:
        yield {}, cast(int, connection.execute(f"SELECT count(*) FROM {rows}", compiler.values).get)
    elif counted is not None and (value := ordered_value(compiler, counted)) is not None:
        # An index of the path answers this, a group at a time. One group more than allowed is refused.
        sql = f"SELECT {value},count(*) FROM {rows} GROUP BY 1 LIMIT {MOST_GROUPS + 1}"
        for found, count in connection.execute(sql, compiler.values):
            yield _entity_with(counted, found), cast(int, count)
    elif all(map(is_column, paths)):
        names = [path[0] for path in paths]
        columns = ",".join(str(compiler.plain_value(path)) for path in paths)
        for values in connection.execute(f"SELECT {columns} FROM {rows}", compiler.values):
            yield dict(zip(names, values, strict=True)), 1
    else:
        for (doc,) in connection.execute(f"SELECT CAST(doc AS BLOB) FROM {rows}", compiler.values):
            yield parsed(cast(bytes, doc)), 1


def ordered_value(compiler: Compiler, path: Path) -> str | None:
    """Return the SQL value of a path whose values are in the order of an index, or in a column; None for others, which
    SQLite would sort in a temporary table."""
    value = compiler.plain_value(path)
    if value is None or is_column(path):
        return value
    name, table = ".".join(path), compiler.table
    whole = (index for index in table.compounds.values() if index.where == EVERYTHING)
    is_ordered = table.paths[name].unique is not None or any(index.paths[0] == name for index in whole)
    return value if is_ordered else None


def _entity_with(path: Path, value: object) -> Entity:
    for segment in reversed(path):
        value = {segment: value}
    return cast(Entity, value)
