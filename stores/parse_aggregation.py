"""Parsing of aggregations from the text of callers: ``count,sum:amount`` by ``status,time:month@America/Toronto``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stores.aggregation import (
    FUNCTIONS,
    MOST_DIMENSIONS,
    MOST_MEASURES,
    UNITS,
    UTC,
    Dimension,
    GroupSort,
    Measure,
)
from stores.errors import InvalidQuery
from stores.fields.texts import timezones
from stores.parse import MOST_SORTS, Check, any_path, parse_path
from stores.paths import Path, is_position


def no_decimal(_: str) -> bool:
    return False


def parse_measures(
    text: str, check: Check = any_path, is_decimal: Callable[[str], bool] = no_decimal
) -> tuple[Measure, ...]:
    """Parse the functions of an aggregation: ``count,sum:amount``. `is_decimal` returns whether the values at a dotted
    path are decimals. Raises InvalidQuery."""
    measures: list[Measure] = []
    for item in _items("aggregate", text, MOST_MEASURES, "MOST_MEASURES", "functions"):
        function, colon, path = item.partition(":")
        if function not in FUNCTIONS:
            raise InvalidQuery("aggregate", f"{item!r:.100} is not one of {', '.join(FUNCTIONS)}")
        if (function == "count") is bool(colon):
            how = "takes no field" if colon else f"takes a field: {function}:amount"
            raise InvalidQuery("aggregate", f"{function} {how}")
        measure = Measure(function) if not colon else Measure(function, _path("aggregate", path, check))
        if measure.path and is_decimal(path):
            measure = Measure(function, measure.path, decimal=True)
        measures.append(measure)
    _distinct("aggregate", [measure.name for measure in measures])
    return tuple(measures)


def parse_dimensions(text: str, check: Check = any_path) -> tuple[Dimension, ...]:
    """Parse what entities are grouped by: ``status,time:month@America/Toronto``. A path may contain colons if a unit
    follows. Raises InvalidQuery."""
    dimensions: list[Dimension] = []
    for item in _items("by", text, MOST_DIMENSIONS, "MOST_DIMENSIONS", "fields"):
        path, colon, period = item.rpartition(":")
        if not colon:
            dimensions.append(Dimension(_path("by", item, check)))
            continue
        unit, _, zone = period.partition("@")
        if unit not in UNITS:
            raise InvalidQuery("by", f"{item!r:.100}: a unit of times is one of {', '.join(UNITS)}")
        dimensions.append(Dimension(_path("by", path, check), unit, _zone(period, zone)))
    # One unit per field: the answer names the values of a group by their fields.
    _distinct("by", [dimension.name for dimension in dimensions])
    return tuple(dimensions)


def parse_group_sort(text: str, measures: Sequence[Measure], by: Sequence[Dimension]) -> tuple[GroupSort, ...]:
    """Parse the order of groups: ``-sum:amount,status``. If a field has the name of a function, it means the
    function. Raises InvalidQuery."""
    names = [*(measure.name for measure in measures), *(dimension.name for dimension in by)]
    items = _items("sort", text, MOST_SORTS, "MOST_SORTS", "fields")
    wanted = [item.removeprefix("-").strip() for item in items]
    for name in wanted:
        if name not in names:
            raise InvalidQuery("sort", f"{name!r:.100}: groups are sorted by one of {', '.join(names)}"[:500])
    _distinct("sort", wanted)
    return tuple(GroupSort(names.index(name), item.startswith("-")) for name, item in zip(wanted, items, strict=True))


def _items(parameter: str, text: str, most: int, limit: str, what: str) -> list[str]:
    items = text.split(",", most)
    if len(items) > most:
        raise InvalidQuery(parameter, f"at most {most} {what}").at(limit)
    return [item.strip() for item in items]


def _path(parameter: str, text: str, check: Check) -> Path:
    if not text:
        raise InvalidQuery(parameter, f"{parameter} takes field paths, separated by commas")
    path = parse_path(text, check)
    if any(map(is_position, path)):
        raise InvalidQuery(parameter, f"{text!r:.100}: cannot aggregate by a position of an array")
    return path


def _zone(period: str, zone: str) -> str:
    if "@" not in period:
        return UTC
    zone = zone.replace(" ", "+")  # a plus sign that was not percent-encoded arrives as a space
    if zone not in timezones():
        raise InvalidQuery("by", f"{zone!r:.100} is not an IANA time zone, such as America/Toronto")
    return zone


def _distinct(parameter: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidQuery(parameter, f"{name!r:.100} is named twice")
