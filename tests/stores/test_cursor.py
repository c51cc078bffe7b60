"""Sort keys and cursors."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.cursor import decode_cursor, encode_cursor, encode_key, sort_key_of
from stores.errors import InvalidQuery
from stores.parse import parse_sort
from stores.query import CREATION_ORDER

PRICE = parse_sort("-price,name")


@pytest.mark.parametrize(
    ("entity", "sort", "key"),
    [
        ({"_id": "1", "a": 5}, "a", (5, "1")),
        ({"_id": "1"}, "a", (None, "1")),
        ({"_id": "1", "a": [3, 1, 2]}, "a", (1, "1")),
        ({"_id": "1", "a": [3, 1, 2]}, "-a", (3, "1")),
        ({"_id": "1", "a": []}, "a", ({"$empty": True}, "1")),
        ({"_id": "1", "a": [{"b": 2, "c": 1}, {"b": 1, "c": 9}]}, "a.b,a.c", (1, 9, "1")),
        ({"_id": "1", "a": [True, "x", None]}, "a", (None, "1")),
        ({"_id": "1", "a": [True, "x", None]}, "-a", (True, "1")),
    ],
)
def test_an_entity_sorts_by_the_lowest_that_it_offers(entity: Any, sort: str, key: tuple[Any, ...]) -> None:
    """The lowest value is by the order of the sort: for a descending field it is the highest value."""
    assert sort_key_of(entity, parse_sort(sort)) == key


def test_two_arrays_have_no_key() -> None:
    """An entity with two arrays in the sort's fields cannot be sorted."""
    with pytest.raises(InvalidQuery):
        sort_key_of({"_id": "1", "a": [1], "b": [2]}, parse_sort("a,b"))


def test_keys_compare_as_the_sort_says() -> None:
    """An empty array sorts before null, and null before everything else; descending order is the reverse."""
    ascending = parse_sort("a")
    keys = [({"$empty": True}, "1"), (None, "1"), (None, "2"), (1, "1"), ("x", "1"), (True, "1")]
    in_order = [encode_key(key, ascending) for key in keys]
    assert in_order == sorted(set(in_order))
    descending = [encode_key(key, parse_sort("-a")) for key in keys]
    assert descending == sorted(set(descending), reverse=True)


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=5).filter(lambda text: "\0" not in text and text.isprintable())
    | st.just({"$empty": True})
    | st.lists(st.integers(0, 5), max_size=3)
)


@given(values, values)
def test_a_cursor_comes_back_as_the_key(a: Any, b: Any) -> None:
    """A cursor preserves the key exactly and is safe in a URL."""
    key = (a, b, "5f0000000000000000000abc")
    text = encode_cursor(key, PRICE)
    assert text.isascii()
    assert all(c.isalnum() or c in "-_" for c in text)
    assert decode_cursor(text, PRICE) == key


def forged(payload: object) -> str:
    head = base64.urlsafe_b64decode(encode_cursor((1, "x"), CREATION_ORDER) + "==")[:6]
    return base64.urlsafe_b64encode(head + orjson.dumps(payload)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    ["", "x", "!!!!", "é", "AAAA", "A" * 100, forged([1]), forged([1, "x", 2]), forged({"a": 1}), forged(None)],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Malformed cursors raise InvalidQuery."""
    with pytest.raises(InvalidQuery) as refusal:
        decode_cursor(text, CREATION_ORDER)
    assert refusal.value.field == "after"


@pytest.mark.parametrize("value", [{"$where": 1}, [{"$gt": 1}], {"$bson": 5}, "\0", 2**64 - 1])
def test_a_cursor_cannot_smuggle_operators(value: Any) -> None:
    """A forged key with anything but plain values is refused."""
    with pytest.raises(InvalidQuery):
        decode_cursor(forged([value, "x"]), CREATION_ORDER)


DEEPEST = 200
"""Levels of an entity with the largest HUB_MAX_DEPTH."""


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_a_cursor_is_as_deep_as_an_entity_may_be(opening: str, closing: str) -> None:
    """A deeper one is refused, and does not overflow the stack."""
    deep = orjson.loads(opening * DEEPEST + "1" + closing * DEEPEST)
    order = parse_sort("a")
    text = encode_cursor((deep, "5f0000000000000000000abc"), order)
    assert encode_key(decode_cursor(text, order), order)
    for levels in (DEEPEST + 1, 480, 900):
        deeper = orjson.Fragment(opening * levels + "1" + closing * levels)
        with pytest.raises(InvalidQuery):
            decode_cursor(forged([deeper, "x"]), CREATION_ORDER)


def test_a_cursor_of_another_sort_is_refused() -> None:
    """A cursor is valid only for the sort that it was made for."""
    with pytest.raises(InvalidQuery, match="another sort"):
        decode_cursor(encode_cursor((1, "x"), CREATION_ORDER), parse_sort("-time"))
