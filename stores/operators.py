"""Operators that change an entity in place: `Operators` is a parsed set of them, `apply` their effect on an entity.

A path leads through objects only. null counts as missing: operators that write make the objects on their path. No two
operations of a set share a path, or a path and its parent, so their order does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

import orjson

from stores.bounds import Limit
from stores.errors import InvalidEntity, Violation
from stores.fields.base import Rejected, add_numbers
from stores.numbers import whole_number
from stores.paths import Path
from stores.records import Entity, Json, same
from stores.schema import StoreDefinition

MOST_OPERATIONS: Annotated[int, Limit("body or item of an array", "paths of operators", "400")] = 1_000
"""Paths that the operators of one body may name."""


class Operator(StrEnum):
    """The operators by their names in a body."""

    INC = "$inc"
    MIN = "$min"
    MAX = "$max"
    SET = "$set"
    UNSET = "$unset"
    PUSH = "$push"
    PULL = "$pull"
    ADD_TO_SET = "$addToSet"


LISTING: Final = frozenset({Operator.PUSH, Operator.ADD_TO_SET})
"""Operators that add elements to a list."""

SETTING: Final = frozenset({Operator.SET, Operator.UNSET})
"""Operators whose effect does not depend on the value that they find."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator at one path. `value` is the list of elements for an operator in LISTING, None for $unset."""

    operator: Operator
    path: Path
    value: Json = None

    @property
    def location(self) -> str:
        """The dotted path."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Operators:
    """The operators of one body. `size` is the number of bytes of their arguments as JSON text."""

    operations: tuple[Operation, ...] = ()
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.operations)

    @cached_property
    def names(self) -> frozenset[str]:
        """The top-level fields that they may change."""
        return frozenset(operation.path[0] for operation in self.operations)


NO_OPERATORS: Final = Operators()


def apply(operators: Operators, entity: Entity, definition: StoreDefinition) -> Entity:
    """Return the entity after the operators. `entity` itself is not altered, but shares what is not changed.

    Raises InvalidEntity for every path at which an operator does not fit the value. The result is not checked against
    the definition: it only tells how numbers of a field are added."""
    editing = _Editing(entity, definition)
    violations: list[Violation] = []
    for operation in operators.operations:
        try:
            _EFFECTS[operation.operator](editing, operation)
        except Rejected as refusal:
            rule, detail = refusal.args
            violations.append(Violation(operation.location, rule, detail))
    if violations:
        raise InvalidEntity(violations)
    return editing.after


class _Editing:
    """A copy of an entity, of which only the changed parts are copied."""

    def __init__(self, entity: Entity, definition: StoreDefinition) -> None:
        self.after = entity.copy()
        self._definition = definition
        self._copied = {id(self.after)}

    def inc(self, it: Operation) -> None:
        parent, current = self._reach(it)
        field = self._definition.field_at(it.path)
        add = add_numbers if field is None else field.add
        parent[it.path[-1]] = it.value if current is None else add(current, it.value)

    def min(self, it: Operation) -> None:
        self._choose(it, lambda new, current: new < current)

    def max(self, it: Operation) -> None:
        self._choose(it, lambda new, current: new > current)

    def _choose(self, it: Operation, is_better: Callable[[Any, Any], bool]) -> None:
        parent, current = self._reach(it)
        if current is not None and kind_of(current) != kind_of(it.value):
            raise Rejected(
                "invalid",
                f"{it.operator} compares numbers with numbers and text with text: this is {kind_of(current)}, and not "
                f"{kind_of(it.value)}.",
            )
        if current is None or is_better(it.value, current):
            parent[it.path[-1]] = it.value

    def set(self, it: Operation) -> None:
        parent, _ = self._reach(it)
        parent[it.path[-1]] = it.value

    def unset(self, it: Operation) -> None:
        parent = self._parent(it.path, make=False)
        if parent is not None:
            parent.pop(it.path[-1], None)

    def push(self, it: Operation) -> None:
        parent, current = self._reach(it)
        parent[it.path[-1]] = [*self._elements(current), *_values(it)]

    def add_to_set(self, it: Operation) -> None:
        parent, current = self._reach(it)
        found = list(self._elements(current))
        new = _values(it)
        if len(new) <= _FEW:
            for value in new:
                if not _holds(found, value):
                    found.append(value)
        else:
            known = set(map(_identity, found))
            for value in new:
                identity = _identity(value)
                if identity not in known:
                    known.add(identity)
                    found.append(value)
        parent[it.path[-1]] = found

    def pull(self, it: Operation) -> None:
        parent = self._parent(it.path, make=False)
        current = None if parent is None else parent.get(it.path[-1])
        if parent is not None and current is not None:
            parent[it.path[-1]] = _without(self._elements(current), it.value)

    def _reach(self, it: Operation) -> tuple[dict[str, Any], Json]:
        """Return the object that holds the path's last segment, made if it is missing, and the value there."""
        parent = self._parent(it.path, make=True)
        assert parent is not None
        return parent, parent.get(it.path[-1])

    def _parent(self, path: Path, *, make: bool) -> dict[str, Any] | None:
        node = self.after
        for depth, segment in enumerate(path[:-1], 1):
            inner = node.get(segment)
            if inner is None:
                if not make:
                    return None
                inner = {}
            elif not isinstance(inner, dict):
                raise Rejected("invalid", f"{'.'.join(path[:depth])!r} is {kind_of(inner)}, and not an object.")
            elif id(inner) in self._copied:
                node = inner
                continue
            else:
                inner = inner.copy()
            node[segment] = inner
            self._copied.add(id(inner))
            node = inner
        return node

    @staticmethod
    def _elements(current: Json) -> list[Any]:
        if current is None:
            return []
        if not isinstance(current, list):
            raise Rejected("invalid", f"This is {kind_of(current)}, and not a list.")
        return current


_EFFECTS: Final[Mapping[Operator, Callable[[_Editing, Operation], None]]] = {
    Operator.INC: _Editing.inc,
    Operator.MIN: _Editing.min,
    Operator.MAX: _Editing.max,
    Operator.SET: _Editing.set,
    Operator.UNSET: _Editing.unset,
    Operator.PUSH: _Editing.push,
    Operator.PULL: _Editing.pull,
    Operator.ADD_TO_SET: _Editing.add_to_set,
}


def _values(it: Operation) -> list[Any]:
    assert isinstance(it.value, list)
    return it.value


_MAY_HAVE_FLOATS: Final = re.compile(rb"\d[.e]")
"""Matches any JSON text that may hold a float."""


def kind_of(value: Json) -> str:
    """Return the kind of a value, for error texts."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "null" if value is None else "an object" if isinstance(value, dict) else "a list"


_FEW: Final = 8
"""Values that are compared with each element of a list: up to so many, that is faster than the identities of all
elements, which take 2 µs for each object."""


def _holds(found: list[Any], value: Json) -> bool:
    """Return whether a list has the value."""
    # Values that are the same are equal to Python, which compares them a hundred times as fast.
    return value in found and any(same(each, value) for each in found)


def _without(found: list[Any], value: Json) -> list[Any]:
    return [each for each in found if each != value or not same(each, value)]


def _identity(value: Json) -> str | float | bytes:
    """Return a value that two JSON values share if they are `same`. Unlike those of tuples, hashes of texts cannot be
    made to collide, and those of numbers of 64 bits hardly."""
    if isinstance(value, str) or type(value) is int:
        return value
    if isinstance(value, float):
        return whole_number(value)
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return orjson.dumps(_comparable(value), option=orjson.OPT_SORT_KEYS) if _MAY_HAVE_FLOATS.search(text) else text


def _comparable(value: Json) -> Json:
    """Return the value with whole numbers as integers."""
    if isinstance(value, float):
        return whole_number(value)
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    return [_comparable(item) for item in value] if isinstance(value, list) else value
