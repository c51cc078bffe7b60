"""The groups of entities: values, arrays, equality, order, and bounds."""

from __future__ import annotations

from typing import Any

import pytest

from stores.accumulator import Accumulator
from stores.aggregation import MOST_GROUP_BYTES, MOST_GROUPS, Aggregation
from stores.errors import InvalidQuery
from stores.parse_aggregation import parse_dimensions, parse_group_sort, parse_measures
from stores.records import Entity
from stores.steps import StepBudget


def asked(aggregate: str, by: str = "", sort: str = "", limit: int = MOST_GROUPS) -> Aggregation:
    measures = parse_measures(aggregate)
    dimensions = parse_dimensions(by) if by else ()
    return Aggregation(measures, dimensions, parse_group_sort(sort, measures, dimensions) if sort else (), limit)


def groups(aggregation: Aggregation, *entities: Entity) -> list[tuple[Any, ...]]:
    """Return (*by, *values) of each group."""
    accumulator = Accumulator(aggregation)
    for entity in entities:
        accumulator.add(entity)
    return [(*group.by, *group.values) for group in accumulator.result()]


def test_of_nothing() -> None:
    """Without `by` there is one group, and with it none."""
    everything = "count,sum:n,avg:n,min:n,max:n"
    assert groups(asked(everything)) == [(0, 0, None, None, None)]
    assert groups(asked(everything, "s")) == []
    assert groups(asked(everything, "s"), {"s": 1}) == [(1, 1, 0, None, None, None)]


def test_null_missing_and_an_empty_array_are_one_group() -> None:
    found = groups(
        asked("count", "a.b"), {}, {"a": None}, {"a": {"b": []}}, {"a": []}, {"a": 5}, {"a": [5]}, {"a": [{}]}
    )
    assert found == [(None, 7)]


def test_an_array_counts_once_in_the_group_of_each_element() -> None:
    found = groups(asked("count,sum:n", "t"), {"t": ["x", "y", "x", None], "n": 2}, {"t": "x", "n": 1})
    assert found == [(None, 1, 2), ("x", 2, 3), ("y", 1, 2)]


def test_combinations_of_arrays() -> None:
    found = groups(asked("count", "t,u"), {"t": ["x", "y"], "u": [1, 2, 1]})
    assert found == [("x", 1, 1), ("x", 2, 1), ("y", 1, 1), ("y", 2, 1)]


def test_paths_go_through_arrays_of_objects() -> None:
    entity = {"lines": [{"p": "x", "n": 2}, {"p": ["y"], "n": [3, 4]}, 5, {"n": None}]}
    assert groups(asked("sum:lines.n,max:lines.n", "lines.p"), entity) == [(None, 9, 4), ("x", 9, 4), ("y", 9, 4)]


def test_values_are_equal_as_in_filters() -> None:
    """The group is shown as an integer where it is one."""
    values = [
        1,
        1.0,
        True,
        "1",
        2**53,
        2.0**53,
        2**53 + 1,
        0,
        -0.0,
        {"a": 1},
        {"a": 1.0},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
    ]
    found = groups(asked("count", "v"), *({"v": value} for value in values))
    assert found == [
        (0, 2), (1, 2), (2**53, 2), (2**53 + 1, 1), ("1", 1),
        ({"a": 1}, 2), ({"a": 1, "b": 2}, 1), ({"b": 2, "a": 1}, 1), (True, 1),
    ]  # fmt: skip
    assert [type(row[0]) for row in found[:2]] == [int, int]


def test_least_and_greatest_are_those_of_the_order_of_lists() -> None:
    values = [None, 3, "a", {"x": 1}, [2], True]
    for place in range(1, len(values)):
        rows = [{"v": value} if not isinstance(value, list) else {"v": [value]} for value in values[: place + 1]]
        assert groups(asked("min:v,max:v"), *rows) == [(3, values[place])]


def test_groups_are_ordered_and_cut() -> None:
    rows = [{"s": s, "n": n} for s, n in (("a", 1), ("b", 5), ("c", 5), (None, 0), ("d", None))]
    by_sum = groups(asked("sum:n", "s", "-sum:n,-s", 3), *rows)
    assert by_sum == [("c", 5), ("b", 5), ("a", 1)]
    assert [row[0] for row in groups(asked("avg:n", "s", "avg:n"), *rows)] == ["d", None, "a", "b", "c"]
    assert groups(asked("count", "s", limit=0), *rows) == []


def test_sums_beyond_64_bits_are_ordered_exactly() -> None:
    big = 2**63 - 1
    rows = [{"s": "a", "n": [big] * 3}, {"s": "b", "n": [big, big, big - 1]}, {"s": "c", "n": 1.5}]
    assert [row[0] for row in groups(asked("sum:n", "s", "-sum:n"), *rows)] == ["a", "b", "c"]


def test_more_groups_than_allowed() -> None:
    """A limit does not help, since it cuts what has been found."""
    rows = [{"n": n} for n in range(MOST_GROUPS)]
    assert len(groups(asked("count", "n"), *rows)) == MOST_GROUPS
    for aggregation in (asked("count", "n"), asked("count", "n", limit=1)):
        with pytest.raises(InvalidQuery, match="more than 1000 groups") as refused:
            groups(aggregation, *rows, {"n": "one more"})
        assert refused.value.limit_name == "MOST_GROUPS"


def test_the_combinations_of_one_entity_are_counted_before_they_are_made() -> None:
    entity = {name: list(range(100_000)) for name in "abcd"}
    with pytest.raises(InvalidQuery, match="groups"):
        groups(asked("count", "a,b,c,d"), entity)


def test_what_groups_hold_is_bounded() -> None:
    """As values of groups, and as least and greatest values. What is given up is not counted."""
    long = "x" * (MOST_GROUP_BYTES // 4)
    rows = [{"s": n, "t": f"{n}{long}"} for n in range(5)]
    for aggregation in (asked("count", "t"), asked("max:t", "s")):
        with pytest.raises(InvalidQuery) as refused:
            groups(aggregation, *rows)
        assert refused.value.limit_name == "MOST_GROUP_BYTES"
    assert groups(asked("max:t"), *rows) == [(f"4{long}",)]


def test_what_groups_hold_in_passing_is_bounded() -> None:
    """Before all entities are added, so that memory is bounded too."""
    long = "x" * MOST_GROUP_BYTES
    accumulator = Accumulator(asked("min:t", "s"))
    for n in range(7):
        accumulator.add({"s": n, "t": f"{n}{long}"})
    with pytest.raises(InvalidQuery) as refused:
        accumulator.add({"s": 7, "t": f"7{long}"})
    assert refused.value.limit_name == "MOST_PASSING_GROUP_BYTES"
    accumulator = Accumulator(asked("count,min:t", "s"))
    with pytest.raises(InvalidQuery) as refused:  # this one is not replaced
        accumulator.add({"s": f"1{long}"})
    assert refused.value.limit_name == "MOST_GROUP_BYTES"


def test_a_sum_beyond_all_doubles() -> None:
    rows = [{"n": 1.7e308}] * 2
    with pytest.raises(InvalidQuery, match="sum:n is beyond"):
        groups(asked("sum:n"), *rows)
    assert groups(asked("avg:n"), *rows) == [(1.7e308,)]
    assert groups(asked("sum:n"), *rows, {"n": -1.7e308}) == [(1.7e308,)]


def test_the_work_on_large_entities_is_counted() -> None:
    budget = StepBudget(10_000)
    accumulator = Accumulator(asked("sum:n", "t"), budget.spend)
    accumulator.add({"n": [1] * 100, "t": ["a", "b"]})
    assert 400 < budget.spent < 5_000


def test_what_group_an_entity_is_in() -> None:
    """This is all that a reader of changes must know about one entity."""
    accumulator = Accumulator(asked("count", "s,time:day"))
    found = accumulator.groups_of({"s": ["a", 1.0], "time": 0})
    assert [values for _, values in found] == [("a", "1970-01-01"), (1.0, "1970-01-01")]


def test_the_least_of_many_values() -> None:
    """Of numbers and of other values, in one long array and in several parts of it."""
    numbers: list[Any] = [3, 2.5, -1, 7.0, 2**53, 2.0**53, 2**53 + 1] * 1_000
    for values in (numbers, [*numbers, None], ["x", *numbers, True, None], [*map(str, numbers)], [None] * 20):
        singles: list[Entity] = [{"v": value} for value in values]
        question = asked("min:v,max:v,sum:v,avg:v")
        assert groups(question, {"v": values}) == groups(question, *singles)
