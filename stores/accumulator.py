"""Computes an aggregation from the matching entities, the same for both engines.

An entity has these values at a path: the value there, or the elements of the array there. In an array in the middle of
the path, the path goes on in each element that is an object. Where an element, or the entity itself, has no value, that
counts as null.

An entity is in the group of each of its values once; with several dimensions, of each combination. Values are equal as
in filters: 1 is 1.0, true is not 1. `sum` and `avg` take every number among the values, `min` and `max` every value but
null, in the order of lists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from stores import ordering
from stores.aggregation import (
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    MOST_PASSING_GROUP_BYTES,
    Aggregation,
    Dimension,
    Group,
    Measure,
    Value,
)
from stores.errors import InvalidQuery
from stores.exact_sum import ExactSum
from stores.numbers import with_whole_numbers
from stores.paths import Path
from stores.records import Entity, Json
from stores.steps import Spend, free
from stores.time_units import TimeLabels

Key = tuple[Any, ...]
"""What two groups with equal values have in common: one hashable part for each dimension."""

_NOTHING: Final[Sequence[Any]] = ()
_NULL: Final[dict[Any, Any]] = {None: None}
_STEPS: Final = 4
"""The cost in steps (see `stores.steps`) of one value of one measure or dimension."""
_FEW: Final = 16
"""Values that are compared one by one."""
_AT_ONCE: Final = 4_000
"""Values that are compared in one call of the interpreter."""
_NUMBERS: Final = frozenset((int, float))
_STEPS_OF_GROUP: Final = 10
"""The cost in steps of making one value of a group, and of sorting the groups by it."""


class Accumulator:
    """The groups of an aggregation. `add` and `result` raise InvalidQuery for groups that are too many or too large.

    `spend` is called with the steps that arrays and groups take.
    """

    def __init__(self, aggregation: Aggregation, spend: Spend = free) -> None:
        self._aggregation = aggregation
        self._spend = spend
        self._dimensions = [_dimension(d, spend) for d in aggregation.by]
        self.measured = aggregation.measured
        self._size = _Size()
        self._groups: dict[Key, _Group] = {}
        if not aggregation.by:
            self._new((), ())

    def add(self, entity: Entity, count: int = 1) -> None:
        """Add an entity. With `count` it represents that many entities, equal in all needed values; then the measures
        must all be `count`."""
        read = [values_at(entity, path, self._spend) for path in self.measured]
        self.add_alike(entity, count, read)

    def add_alike(self, entity: Entity, count: int, read: Sequence[Sequence[Any]]) -> None:
        """Add `count` entities that are in the same groups. `entity` has their values in `by`; `read` are the values of
        all of them at each of the `measured` paths."""
        for key, shown in self.groups_of(entity):
            group = self._groups.get(key)
            if group is None:
                group = self._new(key, shown)
            group.count += count
            for cell, index in group.fed:
                values = read[index]
                if len(values) > 1:
                    self._spend(_STEPS * len(values))
                cell.add(values)

    def groups_of(self, entity: Entity) -> Iterator[tuple[Key, tuple[Json, ...]]]:
        """Yield the groups that an entity is in: the key, and the values in `by`. Raises InvalidQuery when they are
        more than MOST_GROUPS."""
        if not self._dimensions:
            return iter((((), ()),))
        found = [dimension(entity) for dimension in self._dimensions]
        combinations = math.prod(map(len, found))
        if combinations > MOST_GROUPS:
            raise _too_many()
        if len(found) == 1:
            return (((key,), (value,)) for key, value in found[0].items())
        self._spend(_STEPS * combinations)
        return (
            (tuple(key for key, _ in parts), tuple(value for _, value in parts))
            for parts in itertools.product(*(each.items() for each in found))
        )

    def result(self) -> list[Group]:
        """Return the groups in their order."""
        self._size.check()
        columns = 1 + len(self._aggregation.measures) + len(self._aggregation.sort)
        self._spend(_STEPS_OF_GROUP * columns * len(self._groups))
        groups = [group.result() for group in self._groups.values()]
        groups.sort(key=lambda group: [sort_key(value) for value in group.by])
        for term in reversed(self._aggregation.sort):
            groups.sort(key=lambda group: sort_key((*group.values, *group.by)[term.column]), reverse=term.descending)
        return groups[: self._aggregation.limit]

    def _new(self, key: Key, values: tuple[Json, ...]) -> _Group:
        if len(self._groups) >= MOST_GROUPS:
            raise _too_many()
        self._spend(_STEPS_OF_GROUP * (1 + len(self._aggregation.measures)))
        self._size.keep(sum(map(_size_of, values)))
        group = _Group(self._aggregation.measures, self.measured, tuple(map(with_whole_numbers, values)), self._size)
        self._groups[key] = group
        return group


def _too_many() -> InvalidQuery:
    text = f"there are more than {MOST_GROUPS} groups (MOST_GROUPS): filter the entities, or group by less"
    return InvalidQuery("by", text).at("MOST_GROUPS")


class _Size:
    """The bytes of what the groups hold. The methods raise InvalidQuery."""

    def __init__(self) -> None:
        self._bytes = 0
        self._kept = 0

    def keep(self, more: int) -> None:
        """Count what stays in the groups to the end."""
        self._kept += more
        self.change(more)
        if self._kept > MOST_GROUP_BYTES:
            raise _too_large("exceed", MOST_GROUP_BYTES, "MOST_GROUP_BYTES")

    def change(self, more: int) -> None:
        """Count what may be replaced. Only memory is bounded here: the engines add entities in different orders."""
        self._bytes += more
        if self._bytes > MOST_PASSING_GROUP_BYTES:
            raise _too_large("exceed, in passing,", MOST_PASSING_GROUP_BYTES, "MOST_PASSING_GROUP_BYTES")

    def check(self) -> None:
        """Check what the groups hold when all entities have been added."""
        if self._bytes > MOST_GROUP_BYTES:
            raise _too_large("exceed", MOST_GROUP_BYTES, "MOST_GROUP_BYTES")


def _too_large(exceed: str, most: int, limit: str) -> InvalidQuery:
    return InvalidQuery("aggregate", f"the values of the groups {exceed} {most} bytes together ({limit})").at(limit)


# Values.


def values_at(entity: Any, path: Path, spend: Spend = free) -> Sequence[Any]:
    """Return the values at a path; none where there is no value or null."""
    node = entity
    for depth, segment in enumerate(path):
        if type(node) is not dict:
            return _NOTHING
        node = node.get(segment)
        if type(node) is list:
            spend(_STEPS * len(node))
            rest = path[depth + 1 :]
            return node if not rest else [v for each in node if type(each) is dict for v in _inside(each, rest, spend)]
    return _NOTHING if node is None else (node,)


def elements_of(values: Sequence[Any], spend: Spend = free) -> list[Any]:
    """Return the values at a path in several entities: an array among `values` is replaced by its elements."""
    elements: list[Any] = []
    for value in values:
        if type(value) is list:
            spend(_STEPS * len(value))
            elements += value
        else:
            elements.append(value)
    return elements


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are integers or doubles."""
    return _NUMBERS.issuperset(map(type, values))


def _inside(element: Entity, rest: Path, spend: Spend) -> Sequence[Any]:
    """Return the values in an element of an array, where a missing one is null."""
    return values_at(element, rest, spend) or (None,)


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a key by which values compare in the order of lists; numbers exactly, whatever their size."""
    kind = type(value)
    if kind is int or kind is float:
        return ordering.RANK_NUMBER, value
    if kind is str:
        return ordering.RANK_STRING, value
    if value is None:
        return ordering.RANK_NULL, None
    if kind is bool:
        return ordering.RANK_BOOLEAN, value
    if kind is list or kind is dict:
        return ordering.rank(value), ordering.encode(value)
    return ordering.RANK_NUMBER, value  # a decimal


def _size_of(value: Any) -> int:
    """Return the bytes of a value, approximately; 0 for a small one."""
    if type(value) is str:
        return len(value.encode("utf-8", "surrogatepass"))
    return len(ordering.encode(value)) if isinstance(value, list | dict) else 0


# Dimensions.

_Groups = Callable[[Entity], dict[Any, Json]]
"""Returns the values of an entity by which it is grouped: the part of the key → the value."""


def _dimension(dimension: Dimension, spend: Spend) -> _Groups:
    path = dimension.path
    if dimension.unit is not None:
        label = TimeLabels(dimension.unit, dimension.zone).label

        def by_period(entity: Entity) -> dict[Any, Json]:
            values = values_at(entity, path, spend)
            return {text: text for text in map(label, values)} if values else _NULL

        return by_period

    def by_value(entity: Entity) -> dict[Any, Json]:
        values = values_at(entity, path, spend)
        if len(values) == 1:
            [value] = values
            return {_key(value): value}
        return {_key(value): value for value in values} if values else _NULL

    return by_value


def _key(value: Any) -> Any:
    """Return a value as a part of a key. Integers and doubles that are equal have equal hashes."""
    kind = type(value)
    if kind is bool:
        return (value,)
    return ordering.encode(value) if kind is list or kind is dict else value


# Measures.


class _Cell(Protocol):
    """The state of one measure of a group: what it keeps of the values at one path."""

    def add(self, values: Sequence[Any]) -> None: ...


class _Extreme:
    """The least or the greatest value but null."""

    __slots__ = ("_counted", "_greatest", "_size", "_sort_key", "value")

    def __init__(self, greatest: bool, size: _Size) -> None:
        self.value: Any = None
        self._greatest = greatest
        self._sort_key: tuple[int, Any] | None = None
        self._size = size
        self._counted = 0

    def add(self, values: Sequence[Any]) -> None:
        if len(values) > _FEW:
            values = self._candidates(values)
        for value in values:
            if value is None:
                continue
            own, found = self._sort_key, sort_key(value)
            if own is None or (found > own if self._greatest else found < own):
                self.value, self._sort_key = value, found
                if self._counted or found[0] != ordering.RANK_NUMBER:
                    self._count_size(_size_of(value))

    def _candidates(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return those of `values` among which is the result: of numbers, the first least or greatest one of each
        part, because a call for all of them could not be interrupted."""
        first = max if self._greatest else min
        found: list[Any] = []
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            found += (first(some),) if are_numbers(some) else some
        return found

    def _count_size(self, size: int) -> None:
        self._size.change(size - self._counted)
        self._counted = size


class _Group:
    """The state of one group. `fed` are its cells, each with the index of its path."""

    __slots__ = ("_by", "_cells", "_measures", "count", "fed")

    def __init__(self, measures: Sequence[Measure], paths: Sequence[Path], by: tuple[Json, ...], size: _Size) -> None:
        self._measures = measures
        self._by = by
        self.count = 0
        self._cells: dict[tuple[str, Path, bool], Any] = {}
        self.fed: list[tuple[_Cell, int]] = []
        for measure in measures:
            cell = _cell_of(measure)
            if measure.path and cell not in self._cells:
                is_sum = cell[0] == "sum"
                made: _Cell = ExactSum(measure.decimal) if is_sum else _Extreme(cell[0] == "max", size)
                self._cells[cell] = made
                self.fed.append((made, paths.index(measure.path)))

    def result(self) -> Group:
        return Group(self._by, tuple(map(self._value, self._measures)))

    def _value(self, measure: Measure) -> Value:
        if not measure.path:
            return self.count
        cell = self._cells[_cell_of(measure)]
        if isinstance(cell, _Extreme):
            return with_whole_numbers(cell.value)
        assert isinstance(cell, ExactSum)
        if measure.function == "avg":
            return cell.average()
        try:
            return cell.total()
        except OverflowError:
            raise InvalidQuery("aggregate", f"{measure.name} is beyond the range of doubles") from None


def _cell_of(measure: Measure) -> tuple[str, Path, bool]:
    """Return what a measure is computed from: a sum and an average share one cell."""
    return ("sum" if measure.function == "avg" else measure.function), measure.path, measure.decimal
