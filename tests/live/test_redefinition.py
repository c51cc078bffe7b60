"""Changes of a definition: which views they end."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.redefinition import Redefinition
from stores.parse import parse_filter
from stores.query import EVERYTHING, WHOLE, Projection
from stores.records import Change

A: dict[str, Any] = {"id": "a", "type": "Text"}
B: dict[str, Any] = {"id": "b", "type": "Number"}
SECRET = {"hidden": True}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("another label", {"fields": [A]}, {"fields": [A | {"label": "x", "required": True, "index": True}]}, ""),
    ("a new field", {"fields": [A]}, {"fields": [A, B]}, "whole, filter b, only b, only _id+b"),
    ("a new hidden field", {"fields": [A]}, {"fields": [A, B | SECRET]}, "whole, filter b, only b, only _id+b"),
    ("a new field, open", {"fields": [A], "open": True}, {"fields": [A, B], "open": True}, "filter b"),
    (
        "a new hidden field, open",
        {"fields": [A], "open": True},
        {"fields": [A, B | SECRET], "open": True},
        "whole, filter b, only b, only _id+b",
    ),
    ("a field is hidden", {"fields": [A, B]}, {"fields": [A, B | SECRET]}, "whole, filter b, only b, only _id+b"),
    ("a hidden field goes", {"fields": [A, B | SECRET]}, {"fields": [A], "retired": ["b"]}, "filter b"),
    ("another type", {"fields": [A, B]}, {"fields": [A, B | {"type": "Text"}]}, "filter b"),
    ("opened", {"fields": [A]}, {"fields": [A], "open": True}, "whole, filter b, only b, only _id+b"),
    ("closed", {"fields": [A], "open": True}, {"fields": [A]}, "whole, filter b, only b, only _id+b"),
    ("damaged", {"fields": [A]}, {"fields": 5}, "all"),
    ("repaired", {"fields": 5}, {"fields": [A]}, "all"),
    ("deleted", {"fields": [A]}, {}, "all"),
    ("new", {}, {"fields": [A]}, ""),
]
VIEWS = {
    "whole": (EVERYTHING, WHOLE),
    "filter a": (parse_filter({"$or": [{"a": {"$ne": "x"}}, {"_rev": 1}]}), Projection((("a",),))),
    "filter b": (parse_filter({"$or": [{"b.c": 1}, {"_rev": 1}]}), Projection((("a",),))),
    "only a": (EVERYTHING, Projection((("a",),))),
    "only b": (EVERYTHING, Projection((("b", "c"),))),
    "only _id+b": (EVERYTHING, Projection((("_id",), ("b",)))),
    "only _id": (EVERYTHING, Projection((("_id",), ("owner",)))),
}


@pytest.mark.parametrize(("before", "after", "ending"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_redefinition_ends_the_views_that_it_alters(
    before: dict[str, Any], after: dict[str, Any], ending: str
) -> None:
    old, new = ({"name": "things"} | each if each else None for each in (before, after))
    redefinition = Redefinition(Change("1", "update", "stores", "x", old, new, None, 0))
    ended = {name for name, (where, projection) in VIEWS.items() if redefinition.ends(where, projection)}
    assert ended == (set(VIEWS) if ending == "all" else set(filter(None, ending.split(", "))))
    assert redefinition.is_harmless is False or not ended
