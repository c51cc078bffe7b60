"""Queries as values: one tree, which engines compile and which live events are matched against.

Semantics are MongoDB's: a missing field equals null, a condition on an array holds when it holds for one element, and
values of different types do not compare. Negation is logical: `$ne` is the negation of `$eq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from stores.records import Json

Scalar = None | bool | int | float | str


class Filter:
    """Base of the nodes of a filter. A path is a tuple of segments: ``("address", "city")``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class And(Filter):
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or(Filter):
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not(Filter):
    part: Filter


@dataclass(frozen=True, slots=True)
class Leaf(Filter):
    """A condition on the values at one path. Inside an `ElemMatch` the empty path is the element itself."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equal(Leaf):
    value: Json


@dataclass(frozen=True, slots=True)
class Compare(Leaf):
    """A comparison with a scalar. It is false for values of another type."""

    op: Literal["gt", "gte", "lt", "lte"]
    value: Scalar


@dataclass(frozen=True, slots=True)
class In(Leaf):
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Exists(Leaf):
    """The path leads to a value, which may be null."""


@dataclass(frozen=True, slots=True)
class Size(Leaf):
    """An array of exactly `size` elements."""

    size: int


@dataclass(frozen=True, slots=True)
class Contains(Leaf):
    """A string that contains `text`, with the same case."""

    text: str


@dataclass(frozen=True, slots=True)
class ContainsFolded(Leaf):
    """A string that contains `text`, case-insensitively (see `stores.folding`)."""

    text: str


@dataclass(frozen=True, slots=True)
class StartsWith(Leaf):
    text: str


@dataclass(frozen=True, slots=True)
class ElemMatch(Leaf):
    """An array with one element that meets all of `condition`. With `on_value` the condition's paths are empty and mean
    the element itself; otherwise the element is an object (or array) and paths start inside it."""

    condition: Filter
    on_value: bool


EVERYTHING: Final = And(())
NOTHING: Final = Or(())


def both(a: Filter, b: Filter) -> Filter:
    """Return the conjunction, without needless nesting."""
    if a == EVERYTHING:
        return b
    if b == EVERYTHING:
        return a
    parts = (a.parts if isinstance(a, And) else (a,)) + (b.parts if isinstance(b, And) else (b,))
    return And(parts)


def leaves(node: Filter) -> Iterator[Leaf]:
    """Yield every leaf of the tree. The condition inside an `ElemMatch` is not entered."""
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from leaves(part)
    elif isinstance(node, Not):
        yield from leaves(node.part)
    elif isinstance(node, Leaf):
        yield node


@dataclass(frozen=True, slots=True)
class Sort:
    path: tuple[str, ...]
    descending: bool = False


CREATION_ORDER: Final = (Sort(("time",)), Sort(("_id",)))
"""The default order: by creation; the id breaks ties."""

NEWEST_FIRST: Final = tuple(Sort(each.path, descending=True) for each in CREATION_ORDER)


@dataclass(slots=True)  # not frozen: each list makes two, and a frozen one takes three times as long to make
class Query:
    """A query for a list of entities.

    `sort` ends in `_id`, so it is total. `after` is the sort key of an entity (see `stores.cursor`): the list begins
    after it. `limit` is at least 0.
    """

    where: Filter = EVERYTHING
    sort: tuple[Sort, ...] = CREATION_ORDER
    offset: int = 0
    limit: int = 10_000
    after: tuple[Json, ...] | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """The parts of an entity that are shown: the `only` paths (None: everything) within the `known` top-level fields
    (None: all), without the `hidden` fields.

    `_id` is always shown. A hidden field is never shown, even if `only` names it."""

    only: tuple[tuple[str, ...], ...] | None = None
    hidden: frozenset[str] = field(default=frozenset())
    known: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        return self.only is None and not self.hidden and self.known is None

    def shows(self, name: str) -> bool:
        """Return whether a top-level field, or a part of it, may be shown."""
        return name not in self.hidden and (self.known is None or name in self.known)


WHOLE: Final = Projection()


def total(sort: tuple[Sort, ...]) -> tuple[Sort, ...]:
    """Return `sort` with `_id` as the last field, in the direction of the one before it."""
    if not sort:
        return CREATION_ORDER
    if any(s.path == ("_id",) for s in sort):
        return sort
    return (*sort, Sort(("_id",), sort[-1].descending))
