"""Whether a field has a value: null counts as none, and for a required field the empty text does, too."""

from __future__ import annotations

from stores.paths import Path
from stores.query import And, ElemMatch, Equal, Filter, Not, Or
from stores.records import Json


def has_value(path: Path) -> Filter:
    """Return the filter for a value other than null at the path. A list is such a value, even if it contains null."""
    return Or((Not(Equal(path, None)), _lists(path, None)))


def has_none(path: Path) -> Filter:
    """Return the filter for the lack of a value at the path."""
    return Not(has_value(path))


def lacks(path: Path) -> Filter:
    """Return the filter for the lack of a value that is required at the path: the empty string is none either."""
    return Or((has_none(path), And((Equal(path, ""), Not(_lists(path, ""))))))


def is_lacking(value: Json, *, required: bool) -> bool:
    """Return whether a field has no value."""
    return value is None or (required and value == "")


def _lists(path: Path, value: str | None) -> Filter:
    """Return the filter for a list that contains the value at the path."""
    return ElemMatch(path, Equal((), value), True)
