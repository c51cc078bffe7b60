"""Projections of entities."""

from __future__ import annotations

from typing import Any

import pytest

from stores.parse import parse_only
from stores.projection import compile_projection
from stores.query import WHOLE, Projection

ENTITY = {"_id": "1", "a": 1, "b": {"c": 2, "d": {"e": 3}}, "l": [{"c": 1, "x": 2}, 5, [{"c": 6, "x": 7}]], "n": None}


@pytest.mark.parametrize(
    ("only", "shown"),
    [
        ("a", {"a": 1}),
        ("_id", {}),
        ("n", {"n": None}),
        ("missing", {}),
        ("b.c", {"b": {"c": 2}}),
        ("b.d.e,b.c", {"b": {"c": 2, "d": {"e": 3}}}),
        ("b,b.c", {"b": {"c": 2, "d": {"e": 3}}}),
        ("b.c,b", {"b": {"c": 2, "d": {"e": 3}}}),
        ("b.missing", {"b": {}}),
        ("a.x", {}),
        ("n.x", {}),
        ("l.c", {"l": [{"c": 1}, [{"c": 6}]]}),
        ("l", {"l": [{"c": 1, "x": 2}, 5, [{"c": 6, "x": 7}]]}),
    ],
)
def test_only_keeps_the_named_paths(only: str, shown: dict[str, Any]) -> None:
    """The id is always included; arrays are projected element by element."""
    assert compile_projection(Projection(parse_only(only)))(ENTITY) == {"_id": "1"} | shown


def test_hidden_fields_are_never_shown() -> None:
    """`hidden` takes precedence over `only`."""
    assert "a" not in compile_projection(Projection(hidden=frozenset({"a"})))(ENTITY)
    narrowed = compile_projection(Projection((("a",), ("b", "c")), frozenset({"a", "b"})))(ENTITY)
    assert narrowed == {"_id": "1"}


def test_the_whole_entity_is_passed_through() -> None:
    """If no field is left out, the entity is not copied."""
    assert compile_projection(WHOLE)(ENTITY) is ENTITY


def test_the_entity_itself_is_left_alone() -> None:
    """A projection makes a new entity."""
    compile_projection(Projection(parse_only("l.c")))(ENTITY)
    assert ENTITY["l"] == [{"c": 1, "x": 2}, 5, [{"c": 6, "x": 7}]]
