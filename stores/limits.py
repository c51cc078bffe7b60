"""Limits of every entity, whatever its store. They are checked once, on the parsed body, before all other checks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import orjson

from stores.bounds import Limit
from stores.errors import InvalidEntity, Violation

MOST_VIOLATIONS: Final[Annotated[int, Limit("request", "errors", "the rest is not listed")]] = 1_000

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_FLOAT_FROM = 2.0**63
_MANY_DIGITS = re.compile(rb"[0-9]{19}")  # the smallest integer beyond 64 bits has 19 digits
_DEEPEST = 250  # levels; the interpreter's stack ends at about 500
_known_names: set[str] = set()
"""Names that any field may have: each entity has the same few."""
_MOST_KNOWN: Final = 4_096
_KNOWN_LENGTH: Final = 64
_CONTAINERS = frozenset({dict, list})
_ALWAYS_GOOD = frozenset({float, bool, type(None)})


_Path = tuple["_Path", str | int] | None
"""The path of the object or array around a value, and its name or position in it; None for the whole document."""


class _Enough(Exception):
    """MOST_VIOLATIONS have been found."""


@dataclass(frozen=True, slots=True)
class EntityLimits:
    """`depth`: levels of objects and arrays; `name_length`: characters of a field name; `nodes`: values in an entity
    that grows (of a body, its parser checks them); `filters`: fields in which objects may be filters, with operators
    and paths as names; `in_filter`: the document is inside of such a field."""

    depth: int = 32
    name_length: int = 200
    nodes: int = 100_000
    filters: frozenset[str] = frozenset()
    in_filter: bool = False

    def with_filters(self, fields: frozenset[str]) -> EntityLimits:
        """Return the limits of entities whose `fields` may hold filters."""
        return replace(self, filters=fields) if fields else self


def check_document(entity: dict[str, Any], limits: EntityLimits, prefix: str = "") -> list[Violation]:
    """Return the rules that `entity` breaks: names, NUL, integers beyond 64 bits, depth. Linear in its size; ends at
    MOST_VIOLATIONS."""
    found: list[Violation] = []
    path = (None, prefix) if prefix else None
    inside = {name: value for name, value in entity.items() if name in limits.filters} if limits.filters else {}
    outside = {name: value for name, value in entity.items() if name not in inside} if inside else entity
    try:
        _check_object(outside, path, limits, limits.depth, found)
        if inside:
            _check_object(inside, path, replace(limits, in_filter=True), limits.depth, found)
    except _Enough:
        pass
    return found


def _check_object(value: dict[str, Any], path: _Path, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    if depth == 0:
        _report(found, _text(path), "too_deep", limits.depth)
        return
    longest = limits.name_length
    for name, item in value.items():
        if name not in _known_names and not _may_name(name, limits):
            _report(found, _text((path, name)).replace("\0", "\\u0000"), "bad_name")
        elif len(name) > longest:
            _report(found, _text((path, name)), "name_too_long", longest)
        else:
            kind = type(item)
            # Texts and integers here, without a path and a call: most values are good.
            if kind is str:
                is_good = "\0" not in item
            else:
                is_good = kind in _ALWAYS_GOOD or (kind is int and _LEAST <= item <= _MOST)
            if not is_good:
                _check_value(item, (path, name), limits, depth - 1, found)


def _may_name(name: str, limits: EntityLimits) -> bool:
    """Return whether a field may have this name, whatever its length. Common names are known after their first use."""
    if not name or "\0" in name:
        return False
    if "." in name or name[0] == "$":
        return limits.in_filter
    if len(name) <= _KNOWN_LENGTH and len(_known_names) < _MOST_KNOWN:
        _known_names.add(name)
    return True


def _check_value(value: Any, path: _Path, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    kind = type(value)
    if kind is str:
        if "\0" in value:
            _report(found, _text(path), "nul")
    elif kind is int:
        if not _LEAST <= value <= _MOST:
            _report(found, _text(path), "integer_range")
    elif kind is dict:
        _check_object(value, path, limits, depth, found)
    elif kind is list:
        _check_array(value, path, limits, depth, found)


def _check_array(value: list[Any], path: _Path, limits: EntityLimits, depth: int, found: list[Violation]) -> None:
    if depth == 0:
        _report(found, _text(path), "too_deep", limits.depth)
        return
    for position, item in enumerate(value):
        if type(item) not in _ALWAYS_GOOD:
            _check_value(item, (path, position), limits, depth - 1, found)


def _report(found: list[Violation], field: str, rule: str, detail: object = "") -> None:
    found.append(Violation(field, rule, str(detail)))
    if len(found) >= MOST_VIOLATIONS:
        raise _Enough


def _text(path: _Path) -> str:
    """Return the dotted text of a path. It is made for violations only, because it may be long."""
    segments = []
    while path is not None:
        path, segment = path
        segments.append(str(segment))
    return ".".join(reversed(segments))


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
    """Return the JSON value of a text, with integers beyond 64 bits as such, for checks that name the location of one.
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
