"""Compilation of filters to Python predicates. They match live events, and are the reference for both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from stores import ordering, query
from stores.folding import fold
from stores.limits import nodes_of
from stores.paths import MISSING, Path, elements
from stores.query import Filter
from stores.records import Entity
from stores.steps import FOLD_SHIFT, SEARCH_SHIFT, Spend, any_of, free

Predicate = Callable[[Entity], bool]
Test = Callable[[Any], bool]

MANY: Final = 8
"""Equalities on one path that are tested one by one; from this number on they are looked up in a set."""


def compile_filter(node: Filter, spend: Spend = free) -> Predicate:
    """Return the predicate of the tree. The predicate calls `spend` with the steps that arrays, objects and long texts
    take (see `stores.steps`), and raises only the errors of `spend`, whatever the entity holds."""
    if isinstance(node, query.And):
        parts = [compile_filter(p, spend) for p in gathered(node.parts)]
        if len(parts) == 1:
            return parts[0]
        return lambda entity: all(part(entity) for part in parts)
    if isinstance(node, query.Or):
        choices = [compile_filter(p, spend) for p in node.parts]
        return lambda entity: any(choice(entity) for choice in choices)
    if isinstance(node, query.Not):
        inner = compile_filter(node.part, spend)
        return lambda entity: not inner(entity)
    if isinstance(node, _All):
        return _all(node, spend)
    if isinstance(node, query.Leaf):
        return _leaf(node, spend)
    raise TypeError(f"not a filter: {node!r}")


def matches(node: Filter, entity: Entity) -> bool:
    return compile_filter(node)(entity)


def weight_of(node: Filter) -> int:
    """Return the steps that the conditions of a filter take on an entity without arrays."""
    if isinstance(node, query.And | query.Or):
        return 1 + sum(map(weight_of, node.parts))
    if isinstance(node, query.Not):
        return 1 + weight_of(node.part)
    return max(1, len(node.path)) if isinstance(node, query.Leaf) else 1


class _All(query.Leaf):
    """Equality with each of `values`, which are many: the entity's values are removed from a set of them."""

    __slots__ = ("values",)

    def __init__(self, path: Path, values: frozenset[Any]) -> None:
        super().__init__(path)
        object.__setattr__(self, "values", values)


def gathered(parts: Sequence[Filter]) -> list[Filter]:
    """Return the parts of a conjunction, with many equalities on one path (`$all` of a long list) merged into one."""
    if len(parts) < MANY:
        return list(parts)
    by_path: dict[Path, set[Any]] = {}
    others: list[Filter] = []
    for part in parts:
        if isinstance(part, query.Equal) and part.path and isinstance(part.value, str | int | float):
            by_path.setdefault(part.path, set()).add(_key(part.value))
        else:
            others.append(part)
    return [*others, *(_All(path, frozenset(values)) for path, values in by_path.items())]


def _key(value: Any) -> Any:
    """Return a scalar as a member of a set, equal as in a filter: 1 equals 1.0 but not True."""
    return (bool, value) if isinstance(value, bool) else value


def _all(node: _All, spend: Spend) -> Predicate:
    path, wanted = node.path, node.values  # type: ignore[attr-defined]

    def on_values(entity: Entity) -> bool:
        missing = set(wanted)
        for value in elements(entity, path, spend=spend):
            if isinstance(value, str | int | float):
                missing.discard(_key(value))
        return not missing

    return on_values


def _leaf(node: query.Leaf, spend: Spend) -> Predicate:
    into_leaf = not isinstance(node, query.Exists | query.Size | query.ElemMatch)
    return _on_path(node.path, value_test(node, spend), into_leaf, spend)


def _on_path(path: Path, test: Test, into_leaf: bool, spend: Spend) -> Predicate:
    if not path:  # inside an ElemMatch: the element of the array itself
        return test
    if len(path) > 1:
        return lambda entity: any(map(test, elements(entity, path, into_leaf=into_leaf, spend=spend)))
    name = path[0]

    def on_field(entity: Entity) -> bool:
        value = entity.get(name, MISSING)
        if into_leaf and isinstance(value, list) and any_of(test, value, 2, spend):
            return True
        return test(value)

    return on_field


def value_test(node: query.Leaf, spend: Spend = free) -> Test:
    """Return the test of a leaf, a function of one value at its path."""
    match node:
        case query.Equal(value=value):
            return _equal(value, spend)
        case query.In(values=values):
            return _one_of(values, spend)
        case query.Compare(op=op, value=operand):
            return _compare(op, operand)
        case query.Exists():
            return lambda value: value is not MISSING
        case query.Size(size=size):
            return lambda value: isinstance(value, list) and len(value) == size
        case query.Contains() | query.ContainsFolded() | query.StartsWith():
            return _text(node, spend)
        case query.ElemMatch():
            return _element_match(node, spend)
    raise TypeError(f"not a leaf: {node!r}")


def _text(node: query.Contains | query.ContainsFolded | query.StartsWith, spend: Spend) -> Test:
    text = node.text
    if isinstance(node, query.StartsWith):
        return lambda value: isinstance(value, str) and value.startswith(text)
    folded = fold(text)

    def contains(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        spend(len(value) >> SEARCH_SHIFT)
        return text in value

    def contains_folded(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        spend(len(value) >> (SEARCH_SHIFT if value.isascii() else FOLD_SHIFT))
        return folded in fold(value)

    return contains if isinstance(node, query.Contains) else contains_folded


def _equal(operand: Any, spend: Spend) -> Test:
    if operand is None:
        return lambda value: value is None or value is MISSING
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and value == operand
    if not isinstance(operand, list | dict):
        return lambda value: value is not MISSING and ordering.equal(operand, value)
    kind, count, size = type(operand), len(operand), 2 * nodes_of(operand)

    def equal(value: Any) -> bool:
        if not isinstance(value, kind) or len(value) != count:
            return False
        spend(size)
        return ordering.equal(operand, value)

    return equal


def _one_of(operands: Iterable[Any], spend: Spend) -> Test:
    """Return a test for `$in`: it looks scalars up in a set, and compares objects and arrays one by one."""
    null = False
    scalars: set[Any] = set()
    composites: list[Test] = []
    for operand in operands:
        if operand is None:
            null = True
        elif isinstance(operand, list | dict):
            composites.append(_equal(operand, spend))
        else:
            scalars.add(_key(operand))

    def test(value: Any) -> bool:
        if isinstance(value, bool):
            return (bool, value) in scalars
        if isinstance(value, str | int | float):
            return value in scalars
        if value is None or value is MISSING:
            return null
        spend(len(composites))
        return any(composite(value) for composite in composites)

    return test


def _compare(op: str, operand: Any) -> Test:
    if operand is None:
        # No value is greater or less than null; `gte` and `lte` null are true of null.
        return _equal(None, free) if op in ("gte", "lte") else lambda value: False
    kind = ordering.rank(operand)
    compare: Callable[[Any, Any], bool] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }[op]
    return lambda value: value is not MISSING and ordering.rank(value) == kind and compare(value, operand)


def _element_match(node: query.ElemMatch, spend: Spend) -> Test:
    condition = compile_filter(node.condition, spend)
    weight = weight_of(node.condition)
    if node.on_value:
        return lambda value: isinstance(value, list) and any_of(condition, value, weight, spend)

    def on_object(element: Any) -> bool:
        fields = _as_object(element, spend)
        return fields is not None and condition(fields)

    return lambda value: isinstance(value, list) and any_of(on_object, value, 2 + weight, spend)


def _as_object(element: Any, spend: Spend) -> Entity | None:
    """Return an element as an object in which paths can start, or None. An array counts as an object of its
    positions."""
    if isinstance(element, dict):
        return element
    if isinstance(element, list):
        spend(2 * len(element))
        return {str(i): value for i, value in enumerate(element)}
    return None
