"""MongoDB's total order of BSON values, in Python: `stores.ordering` with the types that JSON does not have.

Source: MongoDB manual, "Comparison/Sort Order". NaN is a type of its own here: it is less than every number, and equal
to no number.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

import bson
from bson import Binary, Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS

from stores.ordering import MISSING_LEAF, encode_number, encode_text

TYPES: Final = (
    "empty",  # the sort value of an empty array
    "null",
    "nan",
    "number",
    "string",
    "object",
    "array",
    "binary",
    "id",
    "boolean",
    "date",
    "other",
)

_KINDS: Final[tuple[tuple[str, type | tuple[type, ...]], ...]] = (
    ("null", type(None)),
    ("boolean", bool),
    ("number", (int, float, Decimal128)),
    ("string", str),
    ("object", dict),
    ("array", list),
    ("binary", bytes),
    ("id", ObjectId),
    ("date", (datetime, DatetimeMS)),
)


def type_of(value: Any) -> str:
    """Return the type of `value`, one of `TYPES`."""
    if value is MISSING_LEAF:
        return "empty"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return next((name for name, kinds in _KINDS if isinstance(value, kinds)), "other")


def encode(value: Any) -> bytes:
    """Return bytes whose memcmp order is the order of the values."""
    kind = type_of(value)
    # 0 ends an array or object, so that it sorts before a longer one; hence + 1.
    return bytes((TYPES.index(kind) + 1,)) + _body(kind, value)


def _body(kind: str, value: Any) -> bytes:
    match kind:
        case "empty" | "null" | "nan":
            return b""
        case "number":
            return encode_number(float(value.to_decimal()) if isinstance(value, Decimal128) else value)
        case "string":
            return encode_text(value)
        case "object":
            return b"".join(map(_encode_member, value.items())) + b"\x00"
        case "array":
            return b"".join(map(encode, value)) + b"\x00"
        case "binary":
            subtype = value.subtype if isinstance(value, Binary) else 0
            return len(value).to_bytes(4) + bytes((subtype, *value))
        case "id":
            return bytes(value.binary)
        case "boolean":
            return b"\x01" if value else b"\x00"
        case "date":
            return encode_number(_milliseconds(value))
    return bson.encode({"": value})


def _encode_member(member: tuple[str, Any]) -> bytes:
    name, value = member
    encoded = encode(value)
    return encoded[:1] + encode_text(name) + encoded[1:]


def _milliseconds(value: datetime | DatetimeMS) -> int:
    return int(value) if isinstance(value, DatetimeMS) else round(value.astimezone(UTC).timestamp() * 1000)
