"""The total order of JSON values."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.ordering import MISSING_LEAF, encode, equal, sort_key
from stores.records import same

IN_ORDER: list[Any] = [
    MISSING_LEAF,
    None,
    -1.7976931348623157e308,
    -(2**63),
    -(2**53) - 1,
    -(2**53),
    -1.5,
    -1,
    -5e-324,
    0,
    5e-324,
    0.1,
    1,
    1.5,
    2**53,
    2**53 + 1,
    2**53 + 2,
    2**63 - 1,
    2.0**63,
    1.7976931348623157e308,
    "",
    "A",
    "a",
    "a\x01",
    "aa",
    "b",
    "é",
    "\uffff",
    "😀",
    {},
    {"a": None},
    {"a": 1},
    {"a": 1, "b": 1},
    {"a": 2},
    {"b": 1},
    {"a": ""},
    {"a": {}},
    {"a": []},
    {"a": False},
    [],
    [None],
    [1],
    [1, 1],
    [2],
    ["a"],
    [{}],
    [[]],
    [False],
    False,
    True,
]


def test_values_encode_in_their_order() -> None:
    """The encodings of values in ascending order are strictly ascending."""
    for low, high in itertools.pairwise(IN_ORDER):
        assert encode(low) < encode(high), (low, high)


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), (0, -0.0), (2**53, 2.0**53), (-(2**63), -(2.0**63)), ([1], [1.0])])
def test_equal_numbers_encode_alike(a: Any, b: Any) -> None:
    """An integer and a float of the same value are equal."""
    assert encode(a) == encode(b)
    assert equal(a, b)
    assert same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True),
        (0, False),
        (0, None),
        ("", None),
        ("1", 1),
        ([1], 1),
        ([], {}),
        ([True], [1]),
        ({"a": 1}, {"a": True}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (2**53 + 1, 2.0**53),
        (2**63 - 1, 2.0**63),
        ("é", "e\u0301"),
    ],
)
def test_different_values_differ(a: Any, b: Any) -> None:
    """Values of different types differ, and so do objects in another field order."""
    assert not equal(a, b)
    assert not equal(b, a)
    assert encode(a) != encode(b)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
)
names = st.text(st.sampled_from("ab\x01é😀"), min_size=1, max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(values, values)
def test_equality_and_encoding_agree(a: Any, b: Any) -> None:
    """Two values are equal exactly when their encodings are."""
    assert equal(a, b) == (encode(a) == encode(b))
    assert equal(a, b) == equal(b, a)


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_encode_in_numeric_order(whole: int, real: float) -> None:
    """Integers and floats compare by value, without rounding either."""
    assert (encode(whole) < encode(real)) == (whole < real)
    near = float(whole)
    assert (encode(whole) < encode(near)) == (whole < near)
    assert (encode(whole) > encode(near)) == (whole > near)


@given(values, values, values, values)
def test_compound_keys_order_field_by_field(a: Any, b: Any, c: Any, d: Any) -> None:
    """A key of two fields sorts by the first and then, descending, by the second."""
    first, second = (encode(a), encode(b)), (encode(c), encode(d))
    expected = first[0] < second[0] or (first[0] == second[0] and first[1] > second[1])
    keys = [sort_key([(one, False), (other, True)]) for one, other in (first, second)]
    assert (keys[0] < keys[1]) == expected
