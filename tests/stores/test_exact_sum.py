"""Exact sums: integers of any size, decimals, and doubles as `math.fsum` adds them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from sys import getsizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.exact_sum import ExactSum

doubles = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
thousandths = st.integers(-(10**15) + 1, 10**15 - 1)


def of(values: list[Any], decimal: bool = False) -> ExactSum:
    made = ExactSum(decimal)
    for value in values:
        made.add([value])
    return made


def at_once(values: list[Any], decimal: bool = False) -> ExactSum:
    made = ExactSum(decimal)
    made.add(values)
    return made


@given(st.lists(integers, max_size=30))
def test_integers_are_added_exactly(values: list[int]) -> None:
    total = of(values).total()
    assert type(total) is int
    assert total == sum(values)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_doubles_are_added_as_fsum_adds_them(values: list[float]) -> None:
    total = of(values).total()
    assert type(total) is float
    assert total == math.fsum(values)
    assert of(values[::-1]).total() == total


@given(st.lists(doubles | integers, max_size=30))
def test_a_sum_of_both_is_rounded_once(values: list[int | float]) -> None:
    exact = sum(map(Fraction, values))
    try:
        expected = float(exact)
    except OverflowError:
        if any(type(value) is float for value in values):
            with pytest.raises(OverflowError):
                of(values).total()
        return
    assert of(values).total() == (expected if any(type(v) is float for v in values) else exact)


@given(st.lists(thousandths.map(lambda n: Decimal(n) / 1000), max_size=30))
def test_decimals_are_added_exactly(values: list[Decimal]) -> None:
    stored = [int(v) if v == int(v) else float(v) for v in values]
    assert of(stored, decimal=True).total() == sum(values)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.1, 0.2], "0.3"),
        ([0.125, 0.875], "1"),
        ([1250.33, -1250.33], "0"),
        ([999_999_999_999.999] * 1_000, "999999999999999"),
        ([999_999_999_999.999] * 7, "6999999999999.993"),
        ([0.12345, 1e-7, 1e22], "10000000000000000000000.1234501"),
        ([1e300, 1e-300], "1" + "0" * 300 + "." + "0" * 299 + "1"),
    ],
)
def test_decimals_beyond_the_field_type_are_exact_too(values: list[float], total: str) -> None:
    """Another program may have written them. No trailing zeros are shown."""
    found = of(values, decimal=True).total()
    assert (format(found, "f") if isinstance(found, Decimal) else str(found)) == total


@given(
    st.lists(doubles | integers | st.sampled_from([True, None, "7", -0.0, 0.1]), min_size=17, max_size=40),
    st.booleans(),
)
def test_many_values_are_added_as_one_by_one(values: list[Any], decimal: bool) -> None:
    assert facts(at_once(values, decimal)) == facts(of(values, decimal))


@given(st.lists(thousandths.map(lambda n: n / 1000), min_size=17, max_size=40))
def test_many_decimals_are_added_as_one_by_one(values: list[float]) -> None:
    assert facts(at_once(values, decimal=True)) == facts(of(values, decimal=True))


@pytest.mark.parametrize(
    "values",
    [
        [0.1] * 10_000,
        [1e16, 1.0, -1e16] * 3_000,
        [2**63 - 1] * 5_000 + [0.5],
        [1.7e308] * 20,
        [1.7e308, -1.7e308] * 20,
        [5e-324, 1e308] * 20,
        [2.0**n for n in range(-1_074, 1_024)],
        [-0.0] * 20,
        [1, 2.5, None] * 2_000,
        [0.001, 12.3, 999_999_999_999.999] * 2_000,
        [0.1, 0.12345] * 20,
        [1e12, 1e22] * 20,
    ],
)
def test_many_values_of_very_different_sizes(values: list[Any]) -> None:
    for decimal in (False, True):
        assert facts(at_once(values, decimal)) == facts(of(values, decimal))


def facts(found: ExactSum) -> tuple[Any, ...]:
    """Return what an answer shows, with types and signs."""
    try:
        total: Any = found.total()
    except OverflowError:
        total = "beyond"
    return found.count, repr(total), repr(found.average())


def test_only_numbers_are_added() -> None:
    made = of([True, False, None, "7", [7], {"n": 7}, 7])
    assert (made.total(), made.count) == (7, 1)


def test_averages_are_doubles() -> None:
    """The average is the sum divided by the number of numbers."""
    assert of([]).average() is None
    assert of([1, 2]).average() == 1.5
    assert type(of([2, 2]).average()) is float
    assert of([2**63 - 1] * 3).average() == 2.0**63
    assert of([0.1, 0.2, 0.3], decimal=True).average() == 0.2
    assert of([0.1] * 10).average() == 0.1
    assert of([1.7e308] * 3).average() == 1.7e308


def test_a_sum_takes_little_memory() -> None:
    """Whatever is added, one fraction is kept."""
    made = of([2.0**n for n in range(-1_074, 1_024)] * 3)
    assert getsizeof(made._numerator) + getsizeof(made._denominator) < 1_000
