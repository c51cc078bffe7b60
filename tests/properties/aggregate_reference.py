"""The reference answer to an aggregation, written from its description in docs/platform-api.md without the hub's code
for it. It is slow: it knows the sum of a group only by adding up fractions, and a doubled hour only by trying instants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

from stores.aggregation import Aggregation, Dimension, Measure
from stores.ordering import encode
from stores.records import Entity, Json

FORMATS = {
    "minute": "%Y-%m-%d %H:%M",
    "hour": "%Y-%m-%d %H",
    "day": "%Y-%m-%d",
    "week": "%G-W%V",
    "month": "%Y-%m",
    "year": "%Y",
}
MOST = 1_000


class Refused(Exception):
    """The hub answers 400."""


Row = tuple[tuple[Json, ...], tuple[Any, ...]]
"""A group: its values in `by`, and those of the measures."""


def aggregated(entities: Sequence[Entity], aggregation: Aggregation) -> list[Row]:
    """Return the groups of these entities, in order and cut. Raises Refused."""
    members: dict[bytes, list[Entity]] = {}
    shown: dict[bytes, tuple[Json, ...]] = {}
    if not aggregation.by:
        members[encode([])], shown[encode([])] = [], ()
    for entity in entities:
        groups = {encode([*group]): group for group in product(*(parts(entity, d) for d in aggregation.by))}
        for key, group in groups.items():
            members.setdefault(key, []).append(entity)
            shown.setdefault(key, group)
    if len(members) > MOST:
        raise Refused
    rows = [(shown[key], tuple(measured(found, m) for m in aggregation.measures)) for key, found in members.items()]
    rows.sort(key=lambda row: [encode(value) for value in row[0]])
    for term in reversed(aggregation.sort):
        rows.sort(key=lambda row: rank((*row[1], *row[0])[term.column]), reverse=term.descending)
    return rows[: aggregation.limit]


def rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        return encode(1)[0], Fraction(value)
    return encode(value)[0], encode(value)


def values_of(entity: Entity, path: tuple[str, ...]) -> list[Json]:
    """Return the values at a path, each element of an array for itself."""
    found = list(walk(entity, path))
    return found or [None]


def walk(node: Any, path: tuple[str, ...]) -> Iterator[Json]:
    if not path:
        if isinstance(node, list):
            yield from node
        else:
            yield node
    elif isinstance(node, dict):
        below = node.get(path[0])
        if isinstance(below, list) and len(path) > 1:
            for element in below:
                if isinstance(element, dict):
                    yield from values_of(element, path[1:])
        else:
            yield from walk(below, path[1:])
    else:
        yield None


def parts(entity: Entity, dimension: Dimension) -> list[Json]:
    values = values_of(entity, dimension.path)
    return values if dimension.unit is None else [label(value, dimension) for value in values]


def label(value: Json, dimension: Dimension) -> str | None:
    moment = time_of(value)
    if moment is None or dimension.unit is None:
        return None
    if moment.tzinfo is None:
        return padded(moment, dimension.unit)
    zone = ZoneInfo(dimension.zone)
    try:
        text = padded(moment.astimezone(zone), dimension.unit)
    except OverflowError:
        return None
    if dimension.unit in ("hour", "minute") and len(offsets(moment, zone, dimension.unit)) > 1:
        return text + moment.astimezone(zone).isoformat()[-6:]
    return text


def padded(local: datetime, unit: str) -> str:
    year, rest = FORMATS[unit][:2], FORMATS[unit][2:]
    return local.strftime(year).zfill(4) + local.strftime(rest)  # `strftime` does not pad years before 1000


@cache
def offsets(moment: datetime, zone: tzinfo, unit: str) -> frozenset[timedelta | None]:
    """Return the offsets of all instants nearby, minute by minute, that have the same label."""
    around = range(-180, 181) if 1 < moment.year < 9999 else (0,)  # at the ends of the calendar no clock changes
    nearby = [(moment + timedelta(minutes=n)).astimezone(zone) for n in around]
    own = padded(moment.astimezone(zone), unit)
    return frozenset(each.utcoffset() for each in nearby if padded(each, unit) == own)


def time_of(value: Json) -> datetime | None:
    """Return an instant in UTC, or the beginning of a date without a zone."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=math.floor(value))
        if isinstance(value, str) and value[4:5] == value[7:8] == "-":
            moment = datetime.fromisoformat(value)
            if len(value) == 10:
                return moment
            return moment.replace(tzinfo=moment.tzinfo or UTC) if value[10] in "T " else None
    except (ValueError, OverflowError):
        pass
    return None


def measured(entities: Sequence[Entity], measure: Measure) -> Any:
    if measure.function == "count":
        return len(entities)
    values = [value for entity in entities for value in values_of(entity, measure.path) if value is not None]
    if measure.function in ("min", "max"):
        found = sorted(values, key=encode)
        return None if not found else found[0] if measure.function == "min" else found[-1]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if measure.function == "sum":
        return total(numbers, measure.decimal)
    return average(numbers, measure.decimal)


def total(numbers: list[int | float], decimal: bool) -> Any:
    if all(isinstance(n, int) for n in numbers):
        return sum(numbers)
    if decimal:
        exact = sum(map(as_decimal, numbers))
        assert isinstance(exact, Fraction)
        return int(exact) if exact.denominator == 1 else exact
    try:
        if all(isinstance(n, float) or abs(n) <= 2**53 for n in numbers):
            return float_sum(numbers)
        return float(sum(map(Fraction, numbers)))
    except OverflowError:
        raise Refused from None


def float_sum(numbers: list[int | float]) -> float:
    """Return the sum of doubles; `fsum` fails where only an intermediate result is beyond them."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return float(sum(map(Fraction, numbers)))


def as_decimal(number: int | float) -> Fraction:
    return Fraction(repr(number))


def average(numbers: list[int | float], decimal: bool) -> float | None:
    if not numbers:
        return None
    if decimal or all(isinstance(n, int) for n in numbers):
        return float(sum(map(as_decimal if decimal else Fraction, numbers)) / Fraction(len(numbers)))
    try:
        return float(total(numbers, decimal) / len(numbers))
    except Refused:
        return float(sum(map(Fraction, numbers)) / len(numbers))
