"""Keyset paging: the match expression for entities after a sort key, and the sort key of a document.

Source of the order of types: MongoDB manual, "Comparison/Sort Order". An entity sorts by the lowest of its values (the
highest when descending), so it comes after a key when none of its values is at or before the key. The conditions are
negations: they are right for arrays, and the planner still turns them into bounds of an index scan.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from typing import Any, Final

import bson
from bson import Int64, ObjectId
from bson.errors import BSONError

from stores import ordering
from stores.cursor import BSON, EMPTY, Key, is_empty
from stores.errors import InvalidQuery
from stores.mongo.bson_order import TYPES, encode, type_of
from stores.mongo.codec import CODEC, Document, to_id
from stores.mongo.compile import Match, conjunction, field_name
from stores.ordering import MISSING_LEAF
from stores.paths import sort_values
from stores.query import Sort

Order = tuple[Sort, ...]

_OF_TYPE: Final[dict[str, Match]] = {
    "empty": {"$size": 0},
    "null": {"$eq": None},
    "nan": {"$eq": math.nan},
    "number": {"$gte": -math.inf},
    "string": {"$gte": ""},
    "object": {"$gte": {}},
    "array": {"$elemMatch": {"$type": "array"}},
    "binary": {"$type": "binData"},
    "id": {"$type": "objectId"},
    "boolean": {"$gte": False},
    "date": {"$type": "date"},
    "other": {"$type": ["timestamp", "regex"]},
}
"""Type → condition that one of the values at a path is of the type."""


def is_exact(sort: Order) -> bool:
    """Return whether the expression of `beyond` is exact for this sort. Several paths into objects may lead into the
    same array; a match expression cannot relate values of the same element. Top-level fields have no such case."""
    return all(len(s.path) == 1 for s in sort)


def beyond(sort: Order, after: Key) -> Match:
    """Return a condition that every entity after the key `after` meets. If `is_exact(sort)`, no other entity meets
    it."""
    values = [_from_key(value, s) for value, s in zip(after, sort, strict=True)]
    at_least = _all(_not_before(sort[0], values[0]))
    return {"$and": [at_least, {"$or": _alternatives(sort, values)}]} if is_exact(sort) else at_least


def each_beyond(match: Match, sort: Order, after: Key) -> Match:
    """Return the condition for the entities that meet `match` and come after the key `after`, if `is_exact(sort)`.

    It is in the form for which the server plans each alternative by itself, and merges what they find. Otherwise it
    tries some of the combinations of indexes only, and may miss the one that is in the order of the sort. Without an
    index in this order it would read more than needed."""
    values = [_from_key(value, s) for value, s in zip(after, sort, strict=True)]
    return {"$or": [conjunction(match, alternative) for alternative in _alternatives(sort, values)]}


def _alternatives(sort: Order, values: list[Any]) -> list[Match]:
    """Return the conditions of which one holds for each entity after a key with these values: that it has the same
    first values, and then a later one."""
    alternatives: list[Match] = []
    ties: list[Match] = []
    for field, value in zip(sort, values, strict=True):
        alternatives.append(_all([*ties, *_beyond(field, value)]))
        ties += [_tie(field, value), *_not_before(field, value)]
    return alternatives


def beyond_key(sort: Order, after: Key, key: str) -> Match:
    """Return the exact condition on a sort key that an aggregation has stored in the field `key`."""
    alternatives: list[Any] = []
    ties: list[Any] = []
    for index, (value, field) in enumerate(zip(after, sort, strict=True)):
        have = {"$arrayElemAt": [f"${key}", index]}
        want = _from_key(value, field)
        alternatives.append({"$and": [*ties, _compare(have, want, "$lt" if field.descending else "$gt")]})
        ties.append(_compare(have, want, "$eq"))
    return {"$expr": {"$or": alternatives}}


def _compare(have: Any, want: Any, operator: str) -> Any:
    if want is not MISSING_LEAF:
        return {operator: [have, {"$literal": want}]}
    # In a sort key an empty array is the deprecated `undefined`, for which there is no literal. Null is the next value.
    if operator == "$lt":
        return False
    return {"$lt" if operator == "$eq" else "$gte": [have, None]}


def _all(conditions: list[Match]) -> Match:
    return conditions[0] if len(conditions) == 1 else {"$and": conditions} if conditions else {}


def _not(field: Sort, condition: Match) -> Match:
    return {field_name(field.path): {"$not": condition}}


def _not_before(field: Sort, value: Any) -> list[Match]:
    """Return conditions that no value is before `value`, neither of an earlier type nor of the same type."""
    own = TYPES.index(type_of(value))
    types = TYPES[own + 1 :] if field.descending else TYPES[:own]
    conditions = [_not(field, _OF_TYPE[name]) for name in types]
    if own > TYPES.index("nan"):
        operator = "$gt" if field.descending else "$lt"
        conditions.append(_not(field, _own(value, {operator: value})))
    return conditions


def _beyond(field: Sort, value: Any) -> list[Match]:
    """Return conditions that no value is before `value` or equal to it."""
    return [*_not_before(field, value), _not(field, _same(value))]


def _tie(field: Sort, value: Any) -> Match:
    return {field_name(field.path): _same(value)}


def _same(value: Any) -> Match:
    if value is MISSING_LEAF:
        return _OF_TYPE["empty"]
    return _own(value, {"$eq": value})


def _own(value: Any, condition: Match) -> Match:
    # An array as a value is an element of another array: $elemMatch keeps the outer array out of the comparison.
    return {"$elemMatch": condition} if isinstance(value, list) else condition


def _from_key(value: Any, field: Sort) -> Any:
    """Return a value of a key as a BSON value. Raises InvalidQuery for a forged one."""
    if is_empty(value):
        return MISSING_LEAF
    if isinstance(value, dict) and value.keys() == {BSON}:
        return _decode(value[BSON])
    return to_id(value) if field.path == ("_id",) else value


def _decode(text: str) -> Any:
    try:
        return bson.decode(b64decode(text, validate=True), CODEC)["v"]
    except (BSONError, KeyError, ValueError):
        raise InvalidQuery("after", "this is not a cursor") from None


def key_of(document: Document, sort: Order) -> Key:
    """Return the sort key of a document for a cursor, as `stores.cursor.sort_key_of` does for JSON."""
    offered = list(sort_values(document, [s.path for s in sort]))
    lowest = offered[0] if len(offered) == 1 else min(offered, key=lambda values: _comparable(values, sort))
    return tuple(_to_key(value, s) for value, s in zip(lowest, sort, strict=True))


def _to_key(value: Any, field: Sort) -> Any:
    if value is MISSING_LEAF:
        return {EMPTY: True}
    if field.path == ("_id",) and isinstance(value, ObjectId):
        return str(value)
    return value if _is_json(value) else {BSON: b64encode(bson.encode({"v": value})).decode()}


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    return (type(value) in (str, int, bool, Int64) or value is None) or (type(value) is float and math.isfinite(value))


def _comparable(values: tuple[Any, ...], sort: Order) -> bytes:
    return ordering.sort_key([(encode(value), s.descending) for value, s in zip(values, sort, strict=True)])
