"""Aggregations as text: functions, groups and their order; errors name the parameter."""

from __future__ import annotations

import pytest

from stores.aggregation import MOST_DIMENSIONS, MOST_MEASURES, Dimension, GroupSort, Measure
from stores.errors import InvalidQuery
from stores.parse_aggregation import parse_dimensions, parse_group_sort, parse_measures

MEASURES = parse_measures("count,sum:amount")
BY = parse_dimensions("status,time:month")


def test_functions_and_their_fields() -> None:
    assert parse_measures("count, sum:a.b,min:x:y") == (
        Measure("count"),
        Measure("sum", ("a", "b")),
        Measure("min", ("x:y",)),
    )
    assert parse_measures("sum:price,sum:n", is_decimal=lambda path: path == "price") == (
        Measure("sum", ("price",), decimal=True),
        Measure("sum", ("n",)),
    )


def test_fields_units_and_zones() -> None:
    assert parse_dimensions("status, time:month@America/Toronto,x:y:day,at:hour@Etc/GMT 5") == (
        Dimension(("status",)),
        Dimension(("time",), "month", "America/Toronto"),
        Dimension(("x:y",), "day"),
        Dimension(("at",), "hour", "Etc/GMT+5"),
    )


def test_the_order_names_functions_and_fields() -> None:
    assert parse_group_sort("-sum:amount, status", MEASURES, BY) == (GroupSort(1, True), GroupSort(2))
    clash = parse_dimensions("count")
    assert parse_group_sort("count", MEASURES, clash) == (GroupSort(0),)


@pytest.mark.parametrize(
    "text",
    ["", ",", "count,", "median:a", "Count", "sum", "sum:", "count:a", "count:", "sum:a,sum:a", "count,count",
     "sum:a.0", "sum:$a", "sum:a..b", ",".join(f"sum:f{n}" for n in range(MOST_MEASURES + 1))],
)  # fmt: skip
def test_wrong_functions_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_measures(text)


@pytest.mark.parametrize(
    "text",
    ["", "a,", "a:decade", "a:", "a:day@", "a:day@Nowhere", "a:day@america/toronto", ":day", "a,a", "a:day,a:month",
     "a.0", "a@UTC:day:x", ",".join(f"f{n}" for n in range(MOST_DIMENSIONS + 1))],
)  # fmt: skip
def test_wrong_groups_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_dimensions(text)


@pytest.mark.parametrize("text", ["", "-", "amount", "sum:price", "avg:amount", "time:month", "-count,count", "+count"])
def test_a_wrong_order_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        parse_group_sort(text, MEASURES, BY)
    assert refused.value.field == "sort"


def test_a_refused_path_is_refused_everywhere() -> None:
    def check(path: str) -> None:
        raise InvalidQuery(path, "hidden")

    for parse in (parse_measures, parse_dimensions):
        with pytest.raises(InvalidQuery, match="hidden"):
            parse("sum:secret" if parse is parse_measures else "secret", check)
