"""Aggregations as values: what is computed of the entities that match a filter, and by what they are grouped.

The semantics are in `stores/accumulator.py`, which both engines feed with entities.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final, Literal

from stores.bounds import Limit
from stores.paths import Path
from stores.records import Json

Function = Literal["count", "sum", "avg", "min", "max"]
Unit = Literal["minute", "hour", "day", "week", "month", "year"]

FUNCTIONS: Final[tuple[Function, ...]] = ("count", "sum", "avg", "min", "max")
UNITS: Final[tuple[Unit, ...]] = ("minute", "hour", "day", "week", "month", "year")
UTC: Final = "UTC"

MOST_GROUPS: Annotated[int, Limit("request", "groups", "400")] = 1_000
"""Groups of one aggregation, before its `limit`."""

MOST_MEASURES: Annotated[int, Limit("request", "functions of an aggregation", "400")] = 16
MOST_DIMENSIONS: Annotated[int, Limit("request", "fields of a `by`", "400")] = 16

MOST_GROUP_BYTES: Annotated[int, Limit("request", "bytes of groups", "400")] = 4_194_304
"""Bytes of the texts, arrays and objects that the groups of one aggregation hold: as values of groups, least values and
greatest values."""

MOST_PASSING_GROUP_BYTES: Annotated[int, Limit("request", "bytes of groups in passing", "400")] = 33_554_432
"""The same bytes while entities are added: a least or greatest value may be long before a shorter one replaces it. The
order in which an engine adds entities decides how many they are; the answer depends on it only beyond this limit."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One function of the values at a path; `count` has no path. `decimal`: the values are decimals, so that their sum
    is one: 0.1 and 0.2 make 0.3."""

    function: Function
    path: Path = ()
    decimal: bool = False

    @property
    def name(self) -> str:
        return f"{self.function}:{'.'.join(self.path)}" if self.path else self.function


@dataclass(frozen=True, slots=True)
class Dimension:
    """A path by whose values entities are grouped; with a `unit`, by the periods in the IANA time zone `zone` in which
    the values are as times."""

    path: Path
    unit: Unit | None = None
    zone: str = UTC

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class GroupSort:
    """A term of the order of groups. `column` counts the measures of the aggregation, and then its dimensions."""

    column: int
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The groups are those of all combinations of values in `by`; without `by` all entities are one group.

    The groups are ordered by `sort`, then by their values in `by`, and cut after `limit`.
    """

    measures: tuple[Measure, ...]
    by: tuple[Dimension, ...] = ()
    sort: tuple[GroupSort, ...] = ()
    limit: int = MOST_GROUPS

    @property
    def measured(self) -> tuple[Path, ...]:
        """The paths whose values the measures take."""
        return tuple(dict.fromkeys(measure.path for measure in self.measures if measure.path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths whose values are needed."""
        return tuple(dict.fromkeys([*self.measured, *(d.path for d in self.by)]))

    @property
    def counted_path(self) -> Path | None:
        """The path, if the aggregation counts the entities with each value at one path and does nothing else."""
        if len(self.by) != 1 or self.by[0].unit is not None or any(measure.path for measure in self.measures):
            return None
        return self.by[0].path


Value = Json | Decimal
"""The value of a measure. Sums of integers are integers of any size, and sums of decimals decimals of any length."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its values in `by`, and the values of the measures, both in the order of the aggregation."""

    by: tuple[Json, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The groups of an aggregation, and the feed position at which they are true."""

    position: str
    groups: list[Group]
