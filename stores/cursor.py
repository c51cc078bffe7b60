"""The sort key of an entity, and its encoding as an opaque cursor for clients.

A key is a tuple of JSON values, one per field of the sort. Two values that JSON lacks have placeholders, which no
entity can hold, because field names never begin with ``$``: ``{"$empty": true}`` is the sort value of an empty array,
and ``{"$bson": "<base64>"}`` is a BSON value that another program wrote to MongoDB.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final

import orjson

from stores import base64url, ordering
from stores.errors import InvalidQuery
from stores.ordering import MISSING_LEAF
from stores.parse import check_value
from stores.paths import plain_values, sort_values, traverses_array, values_at
from stores.query import Sort
from stores.records import Entity, Json

Key = tuple[Json, ...]
Order = tuple[Sort, ...]

EMPTY: Final = "$empty"
BSON: Final = "$bson"

_DIGEST_BYTES = 6
_DEEPEST = 200  # levels of a value; entities have no more, and comparing takes two frames of the stack a level


def sort_key_of(entity: Entity, sort: Order) -> Key:
    """Return the sort key of `entity`. Where arrays offer several values, it is the lowest key in this order.

    Raises InvalidQuery when two fields lead into different arrays of the entity.
    """
    plain = plain_values(entity, [s.path for s in sort])
    if plain is not None:
        return plain
    lowest: tuple[Any, ...]
    if sum(traverses_array(entity, s.path) for s in sort) <= 1:
        # At most one field offers several values: the other fields have one value each.
        lowest = tuple(ordering.lowest(values_at(entity, s.path), s.descending) for s in sort)
    else:
        offered = sort_values(entity, [s.path for s in sort])
        lowest = min(offered, key=lambda values: _compound(values, sort))
    return tuple({EMPTY: True} if value is MISSING_LEAF else value for value in lowest)


def encode_key(key: Key, sort: Order) -> bytes:
    """Return bytes whose memcmp order is the order of the keys under `sort`, descending fields included."""
    return _compound(tuple(MISSING_LEAF if is_empty(value) else value for value in key), sort)


def is_empty(value: object) -> bool:
    """Return whether a value of a key is the placeholder of an empty array."""
    return isinstance(value, dict) and EMPTY in value


def _compound(values: tuple[Any, ...], sort: Order) -> bytes:
    parts = [(ordering.encode(value), s.descending) for value, s in zip(values, sort, strict=True)]
    return ordering.sort_key(parts)


def encode_cursor(key: Key, sort: Order) -> str:
    """Return `key` as text for a URL, bound to `sort`."""
    return base64url.encode(_digest(sort) + orjson.dumps(key))


def decode_cursor(text: str, sort: Order) -> Key:
    """Return the key in a cursor. Raises InvalidQuery for one that is malformed or was made for another sort."""
    try:
        data = base64url.decode(text)
        key = orjson.loads(data[_DIGEST_BYTES:])
    except ValueError:
        raise InvalidQuery("after", "this is not a cursor") from None
    if data[:_DIGEST_BYTES] != _digest(sort):
        raise InvalidQuery("after", "this cursor belongs to another sort")
    if not isinstance(key, list) or len(key) != len(sort):
        raise InvalidQuery("after", "this is not a cursor")
    for value in key:
        _check(value)
    return tuple(key)


@lru_cache(maxsize=200)
def _digest(sort: Order) -> bytes:
    description = orjson.dumps([(s.path, s.descending) for s in sort])
    return hashlib.sha256(description).digest()[:_DIGEST_BYTES]


def _check(value: Json) -> None:
    stands_in = value == {EMPTY: True} or (
        isinstance(value, dict) and value.keys() == {BSON} and isinstance(value[BSON], str)
    )
    if stands_in:
        return
    try:
        check_value("after", value, _DEEPEST)
    except (InvalidQuery, RecursionError):
        raise InvalidQuery("after", "this is not a cursor") from None
