"""Values for an aggregation, read as JSON texts: SQLite takes them out of the documents, and those of many rows are
parsed together.

A document has many more values than an aggregation needs, so parsing it takes several times as long. Rows that are
grouped by the same texts are collected, and added to their group in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import apsw
import orjson

from stores.accumulator import Accumulator, elements_of
from stores.aggregation import Aggregation
from stores.paths import Path
from stores.records import Entity
from stores.sqlite.allowance import spend
from stores.sqlite.compile import DEEPEST, Compiler, arrays_before
from stores.sqlite.functions import parsed
from stores.sqlite.tables import json_path
from stores.steps import PARSE_SHIFT

_SMALL: Final = 2_048
"""Bytes of a document up to which its values are collected."""
_MOST_ROWS: Final = 4_000
_MOST_TEXT: Final = 131_072
"""Rows, and characters of their values, that are collected before they are added to their groups. Parsing more in one
call would hold the interpreter, and with it the event loop."""

_Texts = tuple[str | None, ...]


def is_readable(aggregation: Aggregation) -> bool:
    """Return whether the values can be read as texts: no path is too deep for SQLite, and none leads into another."""
    paths = sorted(aggregation.paths)
    return all(len(path) <= DEEPEST for path in paths) and not any(b[: len(a)] == a for a, b in pairwise(paths))


def add_rows(
    connection: apsw.Connection, compiler: Compiler, aggregation: Aggregation, accumulator: Accumulator, rows: str
) -> None:
    """Add the entities in `rows` to the accumulator."""
    by = [each.path for each in aggregation.by]
    measured = accumulator.measured
    count = len(by)
    collected: dict[_Texts, list[_Texts]] = {}
    left, size = _MOST_ROWS, 0
    for whole, *texts in connection.execute(_sql([*by, *measured], rows), compiler.values):
        if whole is not None:
            accumulator.add(parsed(whole))
            continue
        key = tuple(texts[:count])
        found = collected.get(key)
        if found is None:
            collected[key] = [texts[count:]]
        else:
            found.append(texts[count:])
        left -= 1
        size += sum(map(len, filter(None, texts)))
        if not left or size > _MOST_TEXT:
            spend(size >> PARSE_SHIFT)
            _add(accumulator, by, collected)
            collected, left, size = {}, _MOST_ROWS, 0
    spend(size >> PARSE_SHIFT)
    _add(accumulator, by, collected)


def _sql(paths: Sequence[Path], rows: str) -> str:
    """Return the statement for rows of the document, where it is needed, and the text of the value at each path. It is
    needed if it is large, and if a path leads through an array."""
    through = [arrays_before(path) for path in dict.fromkeys(paths) if len(path) > 1]
    is_whole = " OR ".join([f"octet_length(doc)>{_SMALL}", *through])
    texts = [f"CASE WHEN octet_length(doc)<={_SMALL} THEN doc->{json_path(path)} END" for path in paths]
    return f"SELECT {','.join([f'CASE WHEN {is_whole} THEN CAST(doc AS BLOB) END', *texts])} FROM {rows}"


def _add(accumulator: Accumulator, by: Sequence[Path], collected: dict[_Texts, list[_Texts]]) -> None:
    for key, rows in collected.items():
        spend(len(rows))
        accumulator.add_alike(_entity(by, key), len(rows), [*map(_values, zip(*rows, strict=True))])


def _entity(paths: Sequence[Path], texts: _Texts) -> Entity:
    """Return an entity with these values at the paths."""
    entity: Entity = {}
    for path, text in zip(paths, texts, strict=True):
        inner = entity
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = None if text is None else orjson.loads(text)
    return entity


def _values(texts: _Texts) -> Sequence[Any]:
    """Return the values of one path in several rows."""
    text = ",".join([each for each in texts if each is not None])
    values: list[Any] = orjson.loads(f"[{text}]")
    return elements_of(values, spend) if "[" in text else values
