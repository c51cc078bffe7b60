"""Where a page begins: "beyond this sort key" as a match expression, and the sort key of a document.

Source of the order of types: MongoDB manual, "Comparison/Sort Order". An entity sorts by the lowest of its values
(the highest when descending), so it lies beyond a value when none of its values lies up to there. That is said by
negations, which are right for arrays and which the planner turns into bounds of an index scan all the same.
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
from stores.mongo.compile import Match, field_name
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
"""The condition that holds when one of the values at a path is of a type."""


def is_exact(sort: Order) -> bool:
    """Whether `beyond` says exactly what it should. Paths into objects may lead into one and the same array, whose
    elements hang together, which a match expression cannot follow; single fields cannot."""
    return all(len(s.path) == 1 for s in sort)


def beyond(sort: Order, after: Key) -> Match:
    """What every entity beyond `after` meets; when `is_exact`, nothing else does."""
    values = [_from_key(value, s) for value, s in zip(after, sort, strict=True)]
    at_least = _all(_not_before(sort[0], values[0]))
    if not is_exact(sort):
        return at_least
    alternatives: list[Match] = []
    ties: list[Match] = []
    for field, value in zip(sort, values, strict=True):
        alternatives.append(_all([*ties, *_beyond(field, value)]))
        ties += [_tie(field, value), *_not_before(field, value)]
    return {"$and": [at_least, {"$or": alternatives}]}


def beyond_key(sort: Order, after: Key, key: str) -> Match:
    """The exact condition on a sort key that an aggregation has put into the field `key`."""
    alternatives: list[Any] = []
    ties: list[Any] = []
    for place, (value, field) in enumerate(zip(after, sort, strict=True)):
        have = {"$arrayElemAt": [f"${key}", place]}
        want = _from_key(value, field)
        alternatives.append({"$and": [*ties, _compare(have, want, "$lt" if field.descending else "$gt")]})
        ties.append(_compare(have, want, "$eq"))
    return {"$expr": {"$or": alternatives}}


def _compare(have: Any, want: Any, operator: str) -> Any:
    if want is not MISSING_LEAF:
        return {operator: [have, {"$literal": want}]}
    # An empty array's place in a sort key is the deprecated `undefined`, which no literal can say; null is next to it.
    if operator == "$lt":
        return False
    return {"$lt" if operator == "$eq" else "$gte": [have, None]}


def _all(conditions: list[Match]) -> Match:
    return conditions[0] if len(conditions) == 1 else {"$and": conditions} if conditions else {}


def _not(field: Sort, condition: Match) -> Match:
    return {field_name(field.path): {"$not": condition}}


def _not_before(field: Sort, value: Any) -> list[Match]:
    """No value lies before `value`: none of a type before its own, none of its own type either."""
    own = TYPES.index(type_of(value))
    types = TYPES[own + 1 :] if field.descending else TYPES[:own]
    conditions = [_not(field, _OF_TYPE[name]) for name in types]
    if own > TYPES.index("nan"):
        operator = "$gt" if field.descending else "$lt"
        conditions.append(_not(field, _own(value, {operator: value})))
    return conditions


def _beyond(field: Sort, value: Any) -> list[Match]:
    """No value lies before `value` or equals it."""
    return [*_not_before(field, value), _not(field, _same(value))]


def _tie(field: Sort, value: Any) -> Match:
    return {field_name(field.path): _same(value)}


def _same(value: Any) -> Match:
    if value is MISSING_LEAF:
        return _OF_TYPE["empty"]
    return _own(value, {"$eq": value})


def _own(value: Any, condition: Match) -> Match:
    # An array can only be a value inside another one: the outer one itself is not to be compared.
    return {"$elemMatch": condition} if isinstance(value, list) else condition


def _from_key(value: Any, field: Sort) -> Any:
    """A value of a key as MongoDB has it. Raises InvalidQuery for a forged one."""
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
    """The sort key of a document as a cursor carries it (`stores.cursor.sort_key_of`, for BSON)."""
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
