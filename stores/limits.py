"""Limits of every entity, whatever its store. They are checked once, on the parsed body, before all other checks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from stores.errors import InvalidEntity, Violation

_FLOAT_FROM = 2.0**63
_MANY_DIGITS = re.compile(rb"[0-9]{19}")  # the smallest integer beyond 64 bits has 19 digits
_DEEPEST = 250  # levels; the interpreter's stack ends at about 500
_CONTAINERS = frozenset({dict, list})
_ALWAYS_GOOD = frozenset({float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class EntityLimits:
    """`depth`: levels of objects and arrays; `name_length`: characters of a field name."""

    depth: int = 32
    name_length: int = 200


def check_document(entity: dict[str, Any], limits: EntityLimits, prefix: str = "") -> list[Violation]:
    """Return the rules that `entity` breaks: names, NUL, integers beyond 64 bits, depth. Linear in its size."""
    found: list[Violation] = []
    _check_object(entity, prefix, limits, limits.depth, found)
    return found


def _check_object(value: dict[str, Any], path: str, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    if depth == 0:
        found.append(Violation(path, "too_deep", str(limits.depth)))
        return
    for name, item in value.items():
        if not name or "." in name or name[0] == "$" or "\0" in name:
            found.append(Violation(_join(path, name).replace("\0", "\\u0000"), "bad_name"))
        elif len(name) > limits.name_length:
            found.append(Violation(_join(path, name)[: limits.name_length], "name_too_long", str(limits.name_length)))
        elif type(item) not in _ALWAYS_GOOD:
            _check_value(item, path, name, limits, depth - 1, found)


def _check_value(value: Any, path: str, name: str, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    kind = type(value)
    if kind is str:
        if "\0" in value:
            found.append(Violation(_join(path, name), "nul"))
    elif kind is int:
        if not -(2**63) <= value < 2**63:
            found.append(Violation(_join(path, name), "integer_range"))
    elif kind is dict:
        _check_object(value, _join(path, name), limits, depth, found)
    elif kind is list:
        _check_array(value, _join(path, name), limits, depth, found)


def _check_array(value: list[Any], path: str, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    if depth == 0:
        found.append(Violation(path, "too_deep", str(limits.depth)))
        return
    for position, item in enumerate(value):
        if type(item) not in _ALWAYS_GOOD:
            _check_value(item, path, str(position), limits, depth - 1, found)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def nodes_of(value: Any) -> int:
    """Return the number of values in `value`, itself included."""
    kind = type(value)
    if kind is dict:
        return 1 + len(value) + sum(nodes_of(item) - 1 for item in value.values() if type(item) in _CONTAINERS)
    if kind is list:
        return 1 + len(value) + sum(nodes_of(item) - 1 for item in value if type(item) in _CONTAINERS)
    return 1


def parse_json(body: bytes) -> Any:
    """Return the JSON value of `body`. Raises ValueError for malformed JSON, and InvalidEntity for values nested too
    deep and for an integer beyond 64 bits, which the fast parser would silently turn into a float."""
    value = orjson.loads(body)
    if body.count(b"[") + body.count(b"{") > _DEEPEST:
        _check_depth(value)
    if _may_have_lost_digits(body, value):
        json.loads(body, parse_int=_checked_integer)
    return value


def parse_exactly(text: str) -> Any:
    """Return the JSON value of a text, with integers beyond 64 bits as such, for checks that name the place of one.
    Raises ValueError."""
    value = orjson.loads(text)
    try:
        return json.loads(text) if _may_have_lost_digits(text.encode(), value) else value
    except RecursionError:
        raise ValueError("nested too deep") from None


def _may_have_lost_digits(body: bytes, value: Any) -> bool:
    """Return whether the fast parser may have turned an integer of `body` into a float."""
    return bool(_MANY_DIGITS.search(body)) and _has_large_float(value)


def _check_depth(value: Any) -> None:
    """Raise InvalidEntity for values nested so deep that recursive functions in Python would fail on them."""
    try:
        orjson.dumps(value)  # it fails beyond 254 levels
    except TypeError:
        raise InvalidEntity([Violation("body", "too_deep", str(_DEEPEST))]) from None


def _has_large_float(value: Any) -> bool:
    kind: type = type(value)
    if kind is float:
        return bool(abs(value) >= _FLOAT_FROM)
    if kind is dict:
        return any(map(_has_large_float, value.values()))
    return bool(kind is list and any(map(_has_large_float, value)))


def _checked_integer(digits: str) -> int:
    # An integer of more than 20 characters is always out of range, and costly to convert.
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise InvalidEntity([Violation("body", "integer_range")])
    return int(digits)
