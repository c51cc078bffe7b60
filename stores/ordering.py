"""MongoDB's total order of JSON values, in Python: null < numbers < strings < objects < arrays < booleans.

Source: MongoDB manual, "Comparison/Sort Order". Strings compare by code point (the same order as by UTF-8 byte),
objects field by field (type, name, value), arrays element by element.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from stores.records import Json

MISSING_LEAF = object()
"""The sort value of an empty array: lower than null (MongoDB's `undefined`)."""

RANK_EMPTY, RANK_NULL, RANK_NUMBER, RANK_STRING, RANK_OBJECT, RANK_ARRAY, RANK_BOOLEAN = range(7)


def rank(value: object) -> int:
    """Return the rank of the value's type in the order."""
    if value is None:
        return RANK_NULL
    if value is MISSING_LEAF:
        return RANK_EMPTY
    if isinstance(value, bool):
        return RANK_BOOLEAN
    if isinstance(value, int | float):
        return RANK_NUMBER
    if isinstance(value, str):
        return RANK_STRING
    return RANK_OBJECT if isinstance(value, dict) else RANK_ARRAY


def encode(value: Any) -> bytes:
    """Return bytes whose memcmp order is the order of the values."""
    r = rank(value)
    head = bytes((r + 1,))
    if r in (RANK_EMPTY, RANK_NULL):
        return head
    if r == RANK_BOOLEAN:
        return head + (b"\x01" if value else b"\x00")
    if r == RANK_NUMBER:
        return head + encode_number(value)
    if r == RANK_STRING:
        return head + encode_text(value)
    if r == RANK_ARRAY:
        return head + b"".join(map(encode, value)) + b"\x00"
    return head + b"".join(map(encode_member, value.items())) + b"\x00"


def encode_member(member: tuple[str, Json]) -> bytes:
    name, value = member
    body = encode(value)
    return body[:1] + encode_text(name) + body[1:]


def encode_text(text: str) -> bytes:
    # NUL never occurs in text (see `stores.limits`), so it can end the text: a prefix sorts before longer texts.
    return text.encode() + b"\x00"


def encode_number(number: int | float) -> bytes:
    """Return the nearest double as sortable bytes, followed by the difference between a large integer and that
    double."""
    double = float(number) + 0.0  # + 0.0 turns -0.0 into 0.0, as the two are equal
    bits = struct.unpack(">Q", struct.pack(">d", double))[0]
    bits = bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63
    rest = number - int(double) if isinstance(number, int) else 0
    return struct.pack(">QH", bits, rest + 0x8000)


def lowest(values: Sequence[Any], descending: bool) -> Any:
    """Return the first value in the order, or with `descending` in the reverse order."""
    if len(values) == 1:
        return values[0]
    ranks = list(map(rank, values))
    first = max(ranks) if descending else min(ranks)
    among = [value for value, r in zip(values, ranks, strict=True) if r == first]
    if first in (RANK_NUMBER, RANK_STRING, RANK_BOOLEAN):  # Python's order of these is the order of their encoding
        return max(among) if descending else min(among)
    if first in (RANK_EMPTY, RANK_NULL):
        return among[0]
    return max(among, key=encode) if descending else min(among, key=encode)


def equal(a: Json, b: Json) -> bool:
    """Return whether two values are equal as in MongoDB: 1 = 1.0, true is not 1, objects are equal only with the same
    field order."""
    if isinstance(a, str) or a is None or a is True or a is False:
        return a is b or (isinstance(b, str) and a == b)
    if isinstance(a, int | float):
        return isinstance(b, int | float) and not isinstance(b, bool) and a == b
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    if not isinstance(b, dict) or len(a) != len(b):
        return False
    return all(k == m and equal(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True))


def sort_key(parts: Sequence[tuple[bytes, bool]]) -> bytes:
    """Return one memcmp-ordered key of several encoded parts; a part with True sorts descending."""
    return b"".join(invert(encoded) if descending else encoded for encoded, descending in parts)


_INVERT = bytes(range(255, -1, -1))


def invert(encoded: bytes) -> bytes:
    # No encoded value is a prefix of another, so inverting every byte reverses the order.
    return encoded.translate(_INVERT)
