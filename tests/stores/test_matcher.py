"""A filter as a function of one entity."""

from __future__ import annotations

from typing import Any

import pytest

from stores import query
from stores.matcher import compile_filter, matches
from stores.parse import parse_filter
from stores.query import ContainsFolded

YES, NO = True, False


@pytest.mark.parametrize(
    ("entity", "document", "answer"),
    [
        # equality
        ({"a": 1}, {"a": 1}, YES),
        ({"a": 1.0}, {"a": 1}, YES),
        ({"a": True}, {"a": 1}, NO),
        ({"a": 1}, {"a": True}, NO),
        ({"a": 0}, {"a": False}, NO),
        ({"a": "1"}, {"a": 1}, NO),
        ({}, {"a": None}, YES),
        ({"a": None}, {"a": None}, YES),
        ({"a": []}, {"a": None}, NO),
        ({"a": [None]}, {"a": None}, YES),
        ({"a": [1, 2]}, {"a": 2}, YES),
        ({"a": [1, 2]}, {"a": [1, 2]}, YES),
        ({"a": [1, 2]}, {"a": [2, 1]}, NO),
        ({"a": [[1, 2]]}, {"a": [1, 2]}, YES),
        ({"a": [[1]]}, {"a": 1}, NO),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}}, YES),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, NO),
        ({"a": {"b": 1}}, {"a": {"b": True}}, NO),
        ({"a": 2**53 + 1}, {"a": 2.0**53}, NO),
        ({"a": "é"}, {"a": "e\u0301"}, NO),
        # negation is logical
        ({"a": [1, 2]}, {"a": {"$ne": 1}}, NO),
        ({}, {"a": {"$ne": 1}}, YES),
        ({}, {"a": {"$ne": None}}, NO),
        ({"a": 1}, {"a": {"$not": {"$gt": 1}}}, YES),
        ({"a": "x"}, {"a": {"$not": {"$gt": 1}}}, YES),
        ({"a": [1, 5]}, {"a": {"$not": {"$gt": 3}}}, NO),
        # comparison stays inside a type
        ({"a": 2}, {"a": {"$gt": 1}}, YES),
        ({"a": "2"}, {"a": {"$gt": 1}}, NO),
        ({"a": True}, {"a": {"$gt": 0}}, NO),
        ({"a": True}, {"a": {"$gt": False}}, YES),
        ({"a": None}, {"a": {"$lt": 1}}, NO),
        ({}, {"a": {"$lt": 1}}, NO),
        ({}, {"a": {"$lte": None}}, YES),
        ({"a": None}, {"a": {"$gte": None}}, YES),
        ({"a": None}, {"a": {"$gt": None}}, NO),
        ({"a": 1}, {"a": {"$gte": None}}, NO),
        ({"a": 2**53 + 1}, {"a": {"$gt": 2.0**53}}, YES),
        ({"a": 2**63 - 1}, {"a": {"$lt": 2.0**63}}, YES),
        ({"a": "\uffff"}, {"a": {"$lt": "😀"}}, YES),
        ({"a": [1, 9]}, {"a": {"$gt": 4, "$lt": 6}}, YES),
        ({"a": {"b": 1}}, {"a": {"$gt": 0}}, NO),
        # lists of values
        ({"a": 2}, {"a": {"$in": [1, 2]}}, YES),
        ({"a": 2}, {"a": {"$in": []}}, NO),
        ({}, {"a": {"$in": [1, None]}}, YES),
        ({}, {"a": {"$nin": [1]}}, YES),
        ({"a": [1, 3]}, {"a": {"$nin": [1]}}, NO),
        ({"a": [1, 3]}, {"a": {"$all": [3, 1]}}, YES),
        ({"a": [1]}, {"a": {"$all": [3, 1]}}, NO),
        ({"a": 1}, {"a": {"$all": [1]}}, YES),
        ({"a": 1}, {"a": {"$all": []}}, NO),
        ({"a": [[1, 2], 3]}, {"a": {"$all": [[1, 2]]}}, YES),
        # existence and size
        ({"a": None}, {"a": {"$exists": True}}, YES),
        ({}, {"a": {"$exists": True}}, NO),
        ({}, {"a": {"$exists": False}}, YES),
        ({"a": [{"b": 1}]}, {"a.b": {"$exists": True}}, YES),
        ({"a": [5]}, {"a.b": {"$exists": False}}, YES),
        ({"a": [5]}, {"a.0": {"$exists": True}}, YES),
        ({"a": [1, 2]}, {"a": {"$size": 2}}, YES),
        ({"a": []}, {"a": {"$size": 0}}, YES),
        ({"a": "xx"}, {"a": {"$size": 2}}, NO),
        ({}, {"a": {"$size": 0}}, NO),
        ({"a": [[1, 2]]}, {"a": {"$size": 2}}, NO),
        ({"a": [{"b": [1]}, {"b": [1, 2]}]}, {"a.b": {"$size": 2}}, YES),
        # text
        ({"a": "abc"}, {"a": {"$contains": "b"}}, YES),
        ({"a": "abc"}, {"a": {"$contains": "B"}}, NO),
        ({"a": "abc"}, {"a": {"$contains": ""}}, YES),
        ({"a": 1}, {"a": {"$contains": ""}}, NO),
        ({"a": ["x", "abc"]}, {"a": {"$startswith": "ab"}}, YES),
        ({"a": "a.c"}, {"a": {"$startswith": "a."}}, YES),
        ({"a": "abc"}, {"a": {"$startswith": "a."}}, NO),
        ({"a": "a%c"}, {"a": {"$contains": "%"}}, YES),
        ({"a": "abc"}, {"a": {"$contains": "%"}}, NO),
        # elements as a whole
        ({"a": [1, 9]}, {"a": {"$elemMatch": {"$gt": 4, "$lt": 6}}}, NO),
        ({"a": [1, 5]}, {"a": {"$elemMatch": {"$gt": 4, "$lt": 6}}}, YES),
        ({"a": 5}, {"a": {"$elemMatch": {"$gt": 4}}}, NO),
        ({"a": [[5]]}, {"a": {"$elemMatch": {"$gt": 4}}}, NO),
        ({"a": [[5]]}, {"a": {"$elemMatch": {"$elemMatch": {"$gt": 4}}}}, YES),
        ({"a": [{"b": 1, "c": 2}]}, {"a": {"$elemMatch": {"b": 1, "c": 2}}}, YES),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a": {"$elemMatch": {"b": 1, "c": 2}}}, NO),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a.b": 1, "a.c": 2}, YES),
        ({"a": [5]}, {"a": {"$elemMatch": {"b": None}}}, NO),
        ({"a": [{}]}, {"a": {"$elemMatch": {"b": None}}}, YES),
        ({"a": [[7]]}, {"a": {"$elemMatch": {"0": 7}}}, YES),
        # paths
        ({"a": {"b": [{"c": 1}]}}, {"a.b.c": 1}, YES),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a.1.b": 2}, YES),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a.0.b": 2}, NO),
        ({"a": {"1": {"b": 2}}}, {"a.1.b": 2}, YES),
        ({"a": [[1, 2]]}, {"a.0": [1, 2]}, YES),
        ({"a": [[1, 2]]}, {"a.0": 1}, NO),
        ({"a": [[1, 2]]}, {"a.0.0": 1}, YES),
        ({"a": {"0": [1, 2]}}, {"a.0": 1}, YES),
        ({"a": [{"b": 1}, {}]}, {"a.b": None}, YES),
        ({"a": [5]}, {"a.b": None}, NO),
        ({"a": []}, {"a.b": None}, NO),
        ({"a": 5}, {"a.b": None}, YES),
        # logic
        ({"a": 1}, {"$or": [{"a": 2}, {"a": 1}]}, YES),
        ({"a": 1}, {"$nor": [{"a": 2}, {"a": 1}]}, NO),
        ({"a": 1}, {"$and": [{"a": 1}, {"b": None}]}, YES),
        ({"a": 1}, {}, YES),
    ],
)
def test_semantics_are_those_of_mongodb(entity: Any, document: Any, answer: bool) -> None:
    """The matcher gives the expected answer for each case."""
    assert matches(parse_filter(document), entity) is answer


def test_search_ignores_case() -> None:
    """A folded text is found in any case of both sides."""
    assert matches(ContainsFolded(("a",), "ÄRGER"), {"a": "großer Ärger!"})
    assert matches(ContainsFolded(("a",), "κόσμοσ"), {"a": ["x", "ΚΌΣΜΟς"]})
    assert not matches(ContainsFolded(("a",), "gross"), {"a": "groß"})


def test_everything_and_nothing() -> None:
    """The empty conjunction matches all entities, the empty disjunction none."""
    assert matches(query.EVERYTHING, {})
    assert not matches(query.NOTHING, {})


def test_what_is_no_filter_is_a_mistake_of_the_program() -> None:
    """Compiling anything but a node of the tree raises an error."""
    with pytest.raises(TypeError):
        compile_filter(query.Filter())
