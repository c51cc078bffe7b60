"""The canonical text of a filter: equal for equal trees, different for different ones, and the same in every
version."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores import ordering, query
from stores.canonical import filter_text, tree_of
from stores.parse import parse_filter
from stores.query import EVERYTHING, NOTHING, Contains, ContainsFolded, ElemMatch, Equal, Filter, In, Not, Or
from tests.properties.strategies import documents, paths, shallow

trees = st.one_of(
    documents(2, paths).map(parse_filter),
    st.builds(Equal, st.tuples(st.sampled_from("ab")), shallow),
    st.builds(lambda values: In(("a",), tuple(values)), st.lists(shallow, max_size=2)),
    st.sampled_from([EVERYTHING, NOTHING, Not(EVERYTHING), Or((NOTHING,)), ContainsFolded(("a",), "b")]),
)


def equal(a: Any, b: Any) -> bool:
    """Return whether two trees are equal, node by node, with values compared as in a filter."""
    if is_dataclass(a):
        return type(a) is type(b) and all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    return not (is_dataclass(b) or isinstance(b, tuple)) and ordering.equal(a, b)


@pytest.mark.generated
@given(trees, trees)
def test_equal_trees_have_equal_texts_and_others_do_not(one: Filter, other: Filter) -> None:
    assert (filter_text(one) == filter_text(other)) == equal(one, other)


def as_floats(value: Any) -> Any:
    """Return the value with each number as a float, if a float represents it exactly."""
    if isinstance(value, list | tuple):
        return type(value)(map(as_floats, value))
    if isinstance(value, dict):
        return {name: as_floats(inner) for name, inner in value.items()}
    is_exact = isinstance(value, int) and not isinstance(value, bool) and int(float(value)) == value
    return float(value) if is_exact else value


@pytest.mark.generated
@given(shallow)
def test_numbers_are_equal_however_they_are_written(value: Any) -> None:
    assert filter_text(Equal(("a",), as_floats(value))) == filter_text(Equal(("a",), value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Equal(("a",), 1), Equal(("a",), True)),
        (Equal(("a",), 0), Equal(("a",), False)),
        (Equal(("a",), None), Equal(("a",), "null")),
        (Equal(("a",), 1), Equal(("a",), "1")),
        (Equal(("a",), 2**53 + 1), Equal(("a",), 2.0**53)),
        (Equal(("a",), {"b": 1, "c": 2}), Equal(("a",), {"c": 2, "b": 1})),
        (Equal(("a", "b"), 1), Equal(("a.b",), 1)),
        (Equal(("a",), float("nan")), Equal(("a",), None)),
        (In(("a",), (1, 2)), Equal(("a",), [1, 2])),
        (In(("a",), (1, 2)), In(("a",), (2, 1))),
        (Contains(("a",), "b"), ContainsFolded(("a",), "b")),
        (ElemMatch(("a",), EVERYTHING, on_value=True), ElemMatch(("a",), EVERYTHING, on_value=False)),
        (EVERYTHING, NOTHING),
        (Or((Equal(("a",), 1),)), Equal(("a",), 1)),
    ],
)
def test_what_differs_has_another_text(one: Filter, other: Filter) -> None:
    assert filter_text(one) != filter_text(other)


EVERY_NODE = {
    "$and": [{"a": 1}, {"b.c": {"$ne": 1.0}}],
    "$or": [{"a": {"$gt": 1, "$gte": 2, "$lt": 2.5, "$lte": True}}, {"a": {"$in": [None, "é\ud800"]}}],
    "d": {"$exists": True, "$size": 2, "$contains": "x", "$startswith": '"'},
    "e": {"$elemMatch": {"$eq": {"f": [1]}}},
    "g": {"$elemMatch": {"h": 1}},
}
TEXT = (
    '["and",["and",["eq",["a"],1],["not",["eq",["b","c"],1]]],'
    '["or",["and",["gt",["a"],1],["gte",["a"],2],["lt",["a"],2.5],["lte",["a"],true]],'
    '["in",["a"],[null,"\\u00e9\\ud800"]]],'
    '["and",["exists",["d"]],["size",["d"],2],["contains",["d"],"x"],["startswith",["d"],"\\""]],'
    '["elem_value",["e"],["eq",[],{"f":[1]}]],["elem",["g"],["eq",["h"],1]]]'
)


def test_the_text_is_the_one_of_every_version() -> None:
    """Channel names are made of this text, so it must not depend on the names of classes or their fields."""
    assert filter_text(parse_filter(EVERY_NODE)) == TEXT
    assert filter_text(ContainsFolded(("a",), "b")) == '["folded",["a"],"b"]'
    assert (filter_text(EVERYTHING), filter_text(NOTHING)) == ('["and"]', '["or"]')


def test_every_node_has_a_text() -> None:
    """This test fails for a new kind of node without a text."""
    nodes = {node for node in vars(query).values() if isinstance(node, type) and issubclass(node, Filter)}
    leaf = {"path": ("a",), "value": 1, "op": "gt", "values": (1,), "size": 1, "text": "b"}
    others = {"parts": (), "part": EVERYTHING, "condition": EVERYTHING, "on_value": True}
    made = [node(**{f.name: (leaf | others)[f.name] for f in fields(node)}) for node in nodes - {Filter, query.Leaf}]
    assert len({str(tree_of(node)[0]) for node in made}) == len(made) >= 12
