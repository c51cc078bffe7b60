"""Decimals: the digits and places of a Numeric field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.definitions import parse_definition
from stores.errors import InvalidEntity
from stores.field import Field
from stores.fields.base import Rejected

PRICE = Field("price", "Numeric", digits=15, places=2)
LATITUDE = Field("latitude", "Numeric", digits=9, places=6)
WHOLE = Field("whole", "Numeric", digits=4, places=0)
PLAIN = Field("plain", "Numeric")


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        (PRICE, "9999999999999.99", 9999999999999.99),
        (PRICE, 9999999999999.99, 9999999999999.99),
        (PRICE, "-0.10", -0.1),
        (PRICE, "1.5000", 1.5),
        (PRICE, 850000000, 850000000),
        (LATITUDE, "0.300000", 0.3),
        (LATITUDE, -179.123456, -179.123456),
        (LATITUDE, "32.58", 32.58),
        (WHOLE, "9999", 9999),
        (WHOLE, "7.0", 7),
        (PLAIN, "999999999999.999", 999999999999.999),
    ],
)
def test_a_decimal_has_as_many_digits_as_its_field(field: Field, value: Any, stored: Any) -> None:
    assert field.check(value, "x") == stored
    assert field.add(value, 0) == stored


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (PRICE, "1.005", "13 digits before and 2 after the point"),
        (PRICE, 1.005, "13 digits before and 2 after the point"),
        (PRICE, "10000000000000", "13 digits before and 2 after the point"),
        (PRICE, 10**13, "13 digits before and 2 after the point"),
        (LATITUDE, "1000", "3 digits before and 6 after the point"),
        (LATITUDE, 0.1234567, "3 digits before and 6 after the point"),
        (WHOLE, 10_000, "4 digits, all whole"),
        (WHOLE, "0.5", "4 digits, all whole"),
        (PLAIN, 0.0005, "12 digits before and 3 after the point"),
        (PLAIN, "x", "12 digits before and 3 after the point"),
    ],
)
def test_more_digits_are_refused(field: Field, value: Any, text: str) -> None:
    with pytest.raises(InvalidEntity) as refused:
        field.check(value, "x")
    [violation] = refused.value.violations
    assert (violation.rule, violation.detail) == ("decimal", text)
    with pytest.raises(Rejected):
        field.add(0, value)


@given(st.integers(-(10**9) + 1, 10**9 - 1), st.integers(-(10**9) + 1, 10**9 - 1))
def test_sums_are_exact(one: int, other: int) -> None:
    """Of doubles that stand for decimals with six places."""
    total = one + other
    value, amount = one / 10**6, other / 10**6
    if abs(total) >= 10**9:
        with pytest.raises(Rejected):
            LATITUDE.add(value, amount)
    else:
        assert LATITUDE.add(value, amount) == total / 10**6


@pytest.mark.parametrize(
    ("settings", "location", "text"),
    [
        ({"digits": 0}, "digits", "Must be from 1 to 15."),
        ({"digits": 16}, "digits", "Must be from 1 to 15."),
        ({"digits": 5, "places": 6}, "places", "Must be from 0 to 5, the digits of the field."),
        ({"places": -1}, "places", "Must be from 0 to 15, the digits of the field."),
        ({"places": "2"}, "places", "Must be a whole number."),
        ({"type": "Number", "places": 2}, "places", "Number takes no places."),
    ],
)
def test_a_definition_says_what_is_wrong(settings: dict[str, Any], location: str, text: str) -> None:
    with pytest.raises(InvalidEntity) as refused:
        parse_definition({"name": "a", "fields": [{"id": "x", "type": "Numeric", **settings}]})
    [violation] = refused.value.violations
    assert (violation.field, violation.detail) == (f"fields.0.{location}", text)


def test_bounds_and_defaults_have_the_digits_of_the_field() -> None:
    field = {"id": "x", "type": "Numeric", "places": 6, "min": "-89.123456", "default": "0.000001"}
    [made] = parse_definition({"name": "a", "fields": [field]}).fields
    assert (made.min, made.default) == (-89.123456, 0.000001)


def test_definitions_that_mean_the_same_accept_the_same() -> None:
    assert PLAIN.accepts == Field("plain", "Numeric", digits=15, places=3).accepts
    assert PLAIN.accepts != PRICE.accepts
