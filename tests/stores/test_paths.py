"""The values at a dotted path."""

from __future__ import annotations

from typing import Any

import pytest

from stores.errors import InvalidQuery
from stores.ordering import MISSING_LEAF
from stores.paths import MISSING, elements, is_position, sort_values, split, traverses_array


@pytest.mark.parametrize(
    ("entity", "path", "found"),
    [
        ({"a": 1}, "a", [1]),
        ({}, "a", [MISSING]),
        ({"a": None}, "a", [None]),
        ({"a": None}, "a.b", [MISSING]),
        ({"a": 1}, "a.b", [MISSING]),
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": [1, 2]}, "a", [1, 2, [1, 2]]),
        ({"a": []}, "a", [[]]),
        ({"a": []}, "a.b", []),
        ({"a": [1, 2]}, "a.b", []),
        ({"a": [{"b": 1}, 5, {"c": 2}]}, "a.b", [1, MISSING]),
        ({"a": [{"b": [1, 2]}, {"b": 3}]}, "a.b", [1, 2, [1, 2], 3]),
        ({"a": [5, 6]}, "a.0", [5]),
        ({"a": [5, 6]}, "a.2", []),
        ({"a": [5, 6]}, "a.00", []),
        ({"a": {"0": 5}}, "a.0", [5]),
        ({"a": [{"0": 7}, 6]}, "a.0", [7, {"0": 7}]),
        ({"a": [[1, 2], [3]]}, "a", [[1, 2], [3], [[1, 2], [3]]]),
        ({"a": [[1, 2], [3]]}, "a.0", [[1, 2]]),
        ({"a": [[{"b": 1}]]}, "a.b", []),
        ({"a": [[{"b": 1}]]}, "a.0.b", [1]),
        ({"a": [[{"b": 1}]]}, "a.0.0.b", [MISSING, 1]),
        ({"a": [{"b": 1}, {"b": 2}]}, "a.1.b", [MISSING, MISSING, 2]),
    ],
)
def test_a_condition_sees_the_values_at_its_path(entity: Any, path: str, found: list[Any]) -> None:
    """Arrays on the path are entered by element or by index; an array at its end yields its elements and itself."""
    assert list(elements(entity, split(path))) == found


def test_the_array_alone_is_seen_on_request() -> None:
    """$size and $elemMatch apply to the array itself, not to its elements."""
    assert list(elements({"a": [1, 2]}, ("a",), into_leaf=False)) == [[1, 2]]
    assert list(elements({"a": [{"b": [1]}, {"b": []}]}, ("a", "b"), into_leaf=False)) == [[1], []]


@pytest.mark.parametrize(
    ("entity", "paths", "found"),
    [
        ({"a": 1}, ["a"], [(1,)]),
        ({}, ["a"], [(None,)]),
        ({"a": 5}, ["a.b"], [(None,)]),
        ({"a": [3, 1]}, ["a"], [(3,), (1,)]),
        ({"a": []}, ["a"], [(MISSING_LEAF,)]),
        ({"a": []}, ["a.b"], [(None,)]),
        ({"a": [[1, 2]]}, ["a"], [([1, 2],)]),
        ({"a": [{"b": 1}, {"b": 2}, 7]}, ["a.b"], [(1,), (2,), (None,)]),
        ({"a": [{"b": 1, "c": 2}, {"b": 3}]}, ["a.b", "a.c"], [(1, 2), (3, None)]),
        ({"a": [{"b": [1, 2]}]}, ["a.b"], [(1,), (2,)]),
        ({"a": [1, 2], "n": 5}, ["n", "a"], [(5, 1), (5, 2)]),
    ],
)
def test_sorting_sees_every_combination(entity: Any, paths: list[str], found: list[Any]) -> None:
    """An array on the path gives one combination per element."""
    assert list(sort_values(entity, [split(p) for p in paths])) == found


@pytest.mark.parametrize(
    ("entity", "paths"),
    [
        ({"a": [1], "b": [2]}, ["a", "b"]),
        ({"a": [], "b": []}, ["a", "b"]),
        ({"a": [{"b": [1], "c": [2]}]}, ["a.b", "a.c"]),
    ],
)
def test_two_arrays_give_no_order(entity: Any, paths: list[str]) -> None:
    """Sorting by two different arrays of one entity is refused."""
    with pytest.raises(InvalidQuery):
        list(sort_values(entity, [split(p) for p in paths]))


@pytest.mark.parametrize(
    ("entity", "path", "answer"),
    [
        ({"a": [1]}, "a", True),
        ({"a": 1}, "a", False),
        ({}, "a.b", False),
        ({"a": [{"b": 1}]}, "a.b", True),
        ({"a": {"b": []}}, "a.b", True),
        ({"a": {"b": []}}, "a", False),
        ({"a": {"b": []}}, "a.b.c", True),
    ],
)
def test_an_array_on_the_path_is_noticed(entity: Any, path: str, answer: bool) -> None:
    """An array at the path's end counts; arrays below it do not."""
    assert traverses_array(entity, split(path)) is answer


@pytest.mark.parametrize(("segment", "answer"), [("0", True), ("10", True), ("²", False), ("٣", False), ("a1", False)])
def test_only_ascii_digits_are_a_position(segment: str, answer: bool) -> None:
    assert is_position(segment) is answer
