"""Equal numbers in one form: JSON does not tell 1.0 from 1."""

from __future__ import annotations

from stores.records import Json


def whole_number(value: float) -> float:
    """Return the number, as an integer if it is a whole one of 64 bits."""
    return int(value) if value.is_integer() and -(2.0**63) <= value < 2.0**63 else value


def with_whole_numbers(value: Json) -> Json:
    """Return the value with whole numbers of 64 bits as integers, also within lists and objects."""
    if isinstance(value, float):
        return whole_number(value)
    if isinstance(value, list):
        return [*map(with_whole_numbers, value)]
    if isinstance(value, dict):
        return {name: with_whole_numbers(inner) for name, inner in value.items()}
    return value
