"""SQL functions in Python, for MongoDB's semantics that SQL cannot express. They use the code shared with the
matcher."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import apsw
import orjson

from stores import ordering
from stores.cursor import encode_key, sort_key_of
from stores.folding import fold
from stores.matcher import Predicate, compile_filter
from stores.parse import parse_filter
from stores.paths import values_at
from stores.query import Sort
from stores.records import Entity, Json
from stores.sqlite.allowance import spend
from stores.sqlite.order import special_parts
from stores.steps import FOLD_SHIFT, PARSE_SHIFT, SEARCH_SHIFT, SORT_SHIFT


def register(connection: apsw.Connection) -> None:
    """Register the functions that compiled queries call."""
    functions: dict[str, tuple[Callable[..., apsw.SQLiteValue], int]] = {
        "hub_match": (_match, 2),
        "hub_contains": (_contains, 2),
        "hub_contains_folded": (_contains_folded, 2),
        "hub_rank": (lambda doc, path, descending: _parts(doc, path, descending)[0], 3),
        "hub_value": (lambda doc, path, descending: _parts(doc, path, descending)[1], 3),
        "hub_sort_key": (_sort_key, 2),
    }
    for name, (function, arguments) in functions.items():
        connection.create_scalar_function(name, function, arguments)
    connection.create_scalar_function("hub_meets", _meets, 2, deterministic=True)  # in the conditions of indexes


def parsed(doc: str | bytes) -> Entity:
    """Return the entity in a stored text."""
    spend(len(doc) >> PARSE_SHIFT)
    entity: Entity = orjson.loads(doc)
    return entity


def sort_key(doc: str | bytes, sort: tuple[Sort, ...]) -> tuple[Json, ...]:
    """Return the sort key of the entity in a stored text."""
    spend(len(doc) >> SORT_SHIFT)
    return sort_key_of(orjson.loads(doc), sort)


def _match(doc: str, predicate: Callable[[Entity], int]) -> int:
    return predicate(parsed(doc))


def _meets(*arguments: apsw.SQLiteValue) -> int:
    doc, condition = map(str, arguments)
    return int(_predicate(condition)(orjson.loads(doc)))


@lru_cache(maxsize=1000)
def _predicate(condition: str) -> Predicate:
    return compile_filter(parse_filter(orjson.loads(condition)))


def _contains(value: apsw.SQLiteValue, text: str) -> int:
    # SQLite may evaluate both sides of an AND, so this is called with values of other types too.
    if not isinstance(value, str):
        return 0
    spend(len(value) >> SEARCH_SHIFT)
    return int(text in value)


def _contains_folded(value: apsw.SQLiteValue, text: str) -> int:
    if not isinstance(value, str):
        return 0
    spend(len(value) >> (SEARCH_SHIFT if value.isascii() else FOLD_SHIFT))
    return int(fold(text) in fold(value))


def _sort_key(doc: str, sort: tuple[Sort, ...]) -> bytes:
    return encode_key(sort_key(doc, sort), sort)


@lru_cache(maxsize=2)
def _parts(doc: str, path: str, descending: int) -> tuple[int, apsw.SQLiteValue]:
    """Return the rank and the value by which the entity sorts. SQL asks for one right after the other, hence the small
    cache."""
    spend(len(doc) >> SORT_SHIFT)
    segments = tuple(_segments(path))
    lowest = ordering.lowest(values_at(orjson.loads(doc), segments), bool(descending))
    rank, value = special_parts(lowest)
    return rank, value


@lru_cache(maxsize=256)
def _segments(path: str) -> list[str]:
    """Return the segments of a JSON path as `tables.json_path` writes it."""
    segments: list[str] = orjson.loads("[" + path[2:].replace('"."', '","') + "]")
    return segments
