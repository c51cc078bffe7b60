"""What is asked of a store, as values: one tree that engines compile and live events are matched against.

Semantics are MongoDB's: a missing field equals null, a condition on an array holds when it holds for one element,
comparisons stay inside a type. Negation is logical: `$ne` is the negation of `$eq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from stores.records import Json

Scalar = None | bool | int | float | str


class Filter:
    """Base of the nodes. A path is a tuple of segments: ``("address", "city")``."""

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
    """A condition on the values at one path; inside an `ElemMatch` the empty path is the element itself."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equal(Leaf):
    value: Json


@dataclass(frozen=True, slots=True)
class Compare(Leaf):
    """`value` is a scalar; a value of another type never compares."""

    op: Literal["gt", "gte", "lt", "lte"]
    value: Scalar


@dataclass(frozen=True, slots=True)
class In(Leaf):
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Exists(Leaf):
    """The path leads somewhere, be it to a null."""


@dataclass(frozen=True, slots=True)
class Size(Leaf):
    """An array of exactly `size` elements."""

    size: int


@dataclass(frozen=True, slots=True)
class Contains(Leaf):
    """A string that contains `text`, letter for letter."""

    text: str


@dataclass(frozen=True, slots=True)
class ContainsFolded(Leaf):
    """A string that contains `text` whatever the case of either (see `stores.folding`)."""

    text: str


@dataclass(frozen=True, slots=True)
class StartsWith(Leaf):
    text: str


@dataclass(frozen=True, slots=True)
class ElemMatch(Leaf):
    """An array with an element that meets `condition` as a whole. With `on_value` the condition's paths are empty
    and speak of the element itself; otherwise the element is an object (or array) and they start inside it."""

    condition: Filter
    on_value: bool


EVERYTHING: Final = And(())
NOTHING: Final = Or(())


def both(a: Filter, b: Filter) -> Filter:
    """The conjunction, without needless nesting."""
    if a == EVERYTHING:
        return b
    if b == EVERYTHING:
        return a
    parts = (a.parts if isinstance(a, And) else (a,)) + (b.parts if isinstance(b, And) else (b,))
    return And(parts)


def leaves(node: Filter) -> Iterator[Leaf]:
    """Every leaf of the tree, an `ElemMatch` itself but not what is inside it."""
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


CREATION: Final = (Sort(("time",)), Sort(("_id",)))
"""The default order: by creation, the id breaks ties."""


@dataclass(frozen=True, slots=True)
class Query:
    """A list: which entities, in which order, which range of them.

    `sort` ends in `_id`, so it is total. `after` is the sort key of an entity (see `stores.cursor`): only those
    beyond it are given. `limit` is at least 0.
    """

    where: Filter = EVERYTHING
    sort: tuple[Sort, ...] = CREATION
    offset: int = 0
    limit: int = 10_000
    after: tuple[Json, ...] | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """What of an entity is shown: the `only` paths (None: everything), of the `known` top-level fields (None: of all)
    and never the `hidden` ones.

    `_id` always comes along, but for a hidden field there is no way in."""

    only: tuple[tuple[str, ...], ...] | None = None
    hidden: frozenset[str] = field(default=frozenset())
    known: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        return self.only is None and not self.hidden and self.known is None

    def shows(self, name: str) -> bool:
        """Whether anything of a top-level field may be shown."""
        return name not in self.hidden and (self.known is None or name in self.known)


WHOLE: Final = Projection()


def total(sort: tuple[Sort, ...]) -> tuple[Sort, ...]:
    """`sort` with `_id` as the last resort, in the direction of the last field."""
    if not sort:
        return CREATION
    if any(s.path == ("_id",) for s in sort):
        return sort
    return (*sort, Sort(("_id",), sort[-1].descending))
