"""A filter as a function of one entity: what live events are matched by, and the reference for both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stores import ordering, query
from stores.folding import fold
from stores.paths import MISSING, Path, elements
from stores.query import Filter
from stores.records import Entity

Predicate = Callable[[Entity], bool]
Test = Callable[[Any], bool]


def compile_filter(node: Filter) -> Predicate:
    """The predicate of the tree. It never raises, whatever the entity holds."""
    if isinstance(node, query.And):
        parts = [compile_filter(p) for p in node.parts]
        if len(parts) == 1:
            return parts[0]
        return lambda entity: all(part(entity) for part in parts)
    if isinstance(node, query.Or):
        choices = [compile_filter(p) for p in node.parts]
        return lambda entity: any(choice(entity) for choice in choices)
    if isinstance(node, query.Not):
        inner = compile_filter(node.part)
        return lambda entity: not inner(entity)
    if isinstance(node, query.Leaf):
        return _leaf(node)
    raise TypeError(f"not a filter: {node!r}")


def matches(node: Filter, entity: Entity) -> bool:
    return compile_filter(node)(entity)


def _leaf(node: query.Leaf) -> Predicate:
    into_leaf = not isinstance(node, query.Exists | query.Size | query.ElemMatch)
    return _on_path(node.path, value_test(node), into_leaf)


def _on_path(path: Path, test: Test, into_leaf: bool) -> Predicate:
    if not path:  # the element of an array, inside an ElemMatch
        return test
    if len(path) > 1:
        return lambda entity: any(test(value) for value in elements(entity, path, into_leaf=into_leaf))
    name = path[0]

    def on_field(entity: Entity) -> bool:
        value = entity.get(name, MISSING)
        if into_leaf and isinstance(value, list) and any(map(test, value)):
            return True
        return test(value)

    return on_field


def value_test(node: query.Leaf) -> Test:
    """The test that a leaf puts to one value that its path leads to."""
    match node:
        case query.Equal(value=value):
            return _equal(value)
        case query.In(values=values):
            tests = [_equal(v) for v in values]
            return lambda value: any(test(value) for test in tests)
        case query.Compare(op=op, value=operand):
            return _compare(op, operand)
        case query.Exists():
            return lambda value: value is not MISSING
        case query.Size(size=size):
            return lambda value: isinstance(value, list) and len(value) == size
        case query.Contains(text=text):
            return lambda value: isinstance(value, str) and text in value
        case query.ContainsFolded(text=text):
            folded = fold(text)
            return lambda value: isinstance(value, str) and folded in fold(value)
        case query.StartsWith(text=text):
            return lambda value: isinstance(value, str) and value.startswith(text)
        case query.ElemMatch():
            return _element_match(node)
    raise TypeError(f"not a leaf: {node!r}")


def _equal(operand: Any) -> Test:
    if operand is None:
        return lambda value: value is None or value is MISSING
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and value == operand
    return lambda value: value is not MISSING and ordering.equal(operand, value)


def _compare(op: str, operand: Any) -> Test:
    if operand is None:
        # Nothing is above or below null, but null is at least and at most null.
        return _equal(None) if op in ("gte", "lte") else lambda value: False
    kind = ordering.rank(operand)
    compare: Callable[[Any, Any], bool] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }[op]
    return lambda value: value is not MISSING and ordering.rank(value) == kind and compare(value, operand)


def _element_match(node: query.ElemMatch) -> Test:
    condition = compile_filter(node.condition)
    if node.on_value:
        return lambda value: isinstance(value, list) and any(map(condition, value))
    return lambda value: isinstance(value, list) and any(condition(e) for e in map(_as_object, value) if e is not None)


def _as_object(element: Any) -> Entity | None:
    """An element that paths can start in; an array counts as an object of its positions."""
    if isinstance(element, dict):
        return element
    if isinstance(element, list):
        return {str(i): value for i, value in enumerate(element)}
    return None
