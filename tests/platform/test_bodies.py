"""Long arrays are parsed in pieces, with the same result as in one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http import bounded_json as bodies
from hub.http.bounded_json import JsonLimits, parse_bounded
from stores.errors import InvalidEntity
from stores.limits import nodes_of

SMALL = JsonLimits(items=50, item_bytes=200, item_nodes=30, nodes=200)

texts = st.text(st.sampled_from('a},{":[]\\ é\n😀'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
items = st.dictionaries(texts, values, max_size=3) | st.fixed_dictionaries({"a": values, "b": values})


def spelled(array: list[Any], blank: bytes) -> bytes:
    """Return the array as JSON with `blank` between its items."""
    return blank + b"[" + blank + (blank + b"," + blank).join(map(orjson.dumps, array)) + blank + b"]" + blank


@given(st.lists(items, max_size=12), st.sampled_from([b"", b" ", b"\n  "]), st.sampled_from([8, 64, 500]))
def test_pieces_hold_what_the_whole_holds(array: list[Any], blank: bytes, piece: int) -> None:
    """This holds for any names and texts, and any end of a piece."""
    body = spelled(array, blank)
    limits = JsonLimits(item_bytes=4_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "PIECE", piece)
        assert bodies._Array(body, limits).parse() == orjson.loads(body)


@given(st.lists(items, min_size=1, max_size=6), st.integers(0, 200), st.sampled_from([b"x", b"", b"]", b",", b"\xff"]))
def test_broken_arrays_are_refused(array: list[Any], place: int, put: bytes) -> None:
    """Arrays that the parser refuses as a whole are refused in pieces too, or yield an item that their reader
    refuses."""
    body = spelled(array, b"")
    place = 1 + place % (len(body) - 1)
    broken = body[:place] + put + body[place + 1 :]
    try:
        whole = orjson.loads(broken)
    except ValueError:
        try:
            found = bodies._Array(broken, JsonLimits(item_bytes=4_000)).parse()
        except (ValueError, InvalidEntity):
            return
        assert not isinstance(found[-1], dict)
    else:
        if isinstance(whole, list) and all(isinstance(item, dict) for item in whole):
            assert bodies._Array(broken, JsonLimits(item_bytes=4_000)).parse() == whole


def refusal(body: bytes) -> tuple[str, str, str]:
    with pytest.raises(InvalidEntity) as refused:
        parse_bounded(body, SMALL)
    [violation] = refused.value.violations
    return violation.field, violation.rule, refused.value.limit_name


def test_an_item_is_bounded_as_a_body_is() -> None:
    small, large = {"a": "x" * 100}, {"a": "x" * 250}
    assert refusal(orjson.dumps([small, small, large, small])) == ("2", "too_large", "max_body_bytes")


def test_values_are_bounded_in_an_entity_and_in_a_body() -> None:
    many = {"a": [1] * 40}
    assert refusal(orjson.dumps(many)) == ("body", "too_many", "max_entity_nodes")
    assert refusal(orjson.dumps([{"a": 1}, many])) == ("1", "too_many", "max_entity_nodes")
    assert refusal(orjson.dumps([{"a": [1] * 10}] * 20)) == ("body", "too_many", "max_body_nodes")


def test_commas_and_brackets_in_texts_are_no_values() -> None:
    body = orjson.dumps([{"a": "," * 90}, {"b": "[{" * 45}])
    assert parse_bounded(body, SMALL) == orjson.loads(body)
    assert parse_bounded(orjson.dumps({"a": "," * 90}), SMALL) == {"a": "," * 90}


def test_what_is_no_entity_ends_the_array() -> None:
    """Nothing after it is parsed; the reader of the array names its index."""
    assert parse_bounded(b"[[]," + b"[]," * 1_000 + b"]", SMALL) == [[]]
    assert len(parse_bounded(orjson.dumps([{"a": "x" * 9}] * 90), SMALL)) > SMALL.items


def test_values_are_counted() -> None:
    assert nodes_of({"a": [1, {"b": None}], "c": {}}) == 6
