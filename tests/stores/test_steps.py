"""The steps of a filter for one entity are counted before they are done."""

from __future__ import annotations

from typing import Any

import pytest

from stores.errors import FilterTooCostly
from stores.matcher import compile_filter
from stores.parse import parse_filter
from stores.query import ContainsFolded, Filter
from stores.steps import MOST_STEPS, StepBudget, TakesLong

ELEMENTS = 3_000


class Count:
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def spend(self, steps: int) -> None:
        self.steps += steps


def steps(where: Filter, value: Any) -> int:
    count = Count()
    compile_filter(where, count.spend)({"a": value})
    return count.steps


def test_a_list_of_values_is_looked_up() -> None:
    """Nine thousand values take as many steps per element as one value."""
    for document, value in (
        (lambda listed: {"a": {"$in": listed}}, list(range(ELEMENTS))),
        (lambda listed: {"a": {"$elemMatch": {"x": {"$in": listed}}}}, [{}] * ELEMENTS),
    ):
        many, one = parse_filter(document(list(range(-9_000, 0)))), parse_filter(document([-1]))
        assert steps(many, value) == steps(one, value) <= 4 * ELEMENTS


def test_all_of_many_values_is_looked_up() -> None:
    """An array is scanned once, for any number of required values."""
    assert steps(parse_filter({"a": {"$all": list(range(ELEMENTS))}}), list(range(ELEMENTS))) <= 4 * ELEMENTS


@pytest.mark.parametrize(
    ("document", "value", "least"),
    [
        ({"a": {"$elemMatch": {"$or": [{f"x{n}": 1} for n in range(100)]}}}, [{}] * ELEMENTS, 100 * ELEMENTS),
        ({"a.b.c": 1}, [{"b": [{}] * 10}] * ELEMENTS, 10 * ELEMENTS),
        ({"a": {"$eq": [1] * ELEMENTS}}, [[1] * (ELEMENTS - 1) + [2]] * 10, 0),
        ({"a": {"$in": [[n] for n in range(1_000)]}}, [[-1]] * ELEMENTS, 1_000 * ELEMENTS),
        ({"a": {"$contains": "x"}}, "a" * 640_000, 10_000),
        ({"a": {"$elemMatch": {"0": 1}}}, [[0] * 100] * ELEMENTS, 100 * ELEMENTS),
    ],
)
def test_products_are_counted(document: dict[str, Any], value: Any, least: int) -> None:
    """Counted are conditions times elements, nested arrays, composite values one by one, and long texts."""
    assert steps(parse_filter(document), value) >= least


def test_folding_the_case_of_a_long_text_is_counted() -> None:
    assert steps(ContainsFolded(("a",), "x"), "é" * 100_000) >= 50_000
    assert steps(ContainsFolded(("a",), "x"), "e" * 100_000) >= 1_000


def test_one_condition_is_too_costly_for_the_longest_arrays_only() -> None:
    """Arrays of 49 000 elements, before and after a change together, are within the budget."""
    for document, value in (
        ({"a": 1}, [0] * 49_000),
        ({"a": {"$in": list(range(1, 10_000))}}, [0] * 49_000),
        ({"a.b": 1}, [{"b": 0}] * 49_000),
        ({"a.b": 1}, [{}] * 49_000),
        ({"a": {"$elemMatch": {"b": 1}}}, [{"b": 0}] * 49_000),
        ({"a": {"$elemMatch": {"b": 1}}}, [{}] * 49_000),
    ):
        assert 2 * steps(parse_filter(document), value) <= MOST_STEPS


def test_a_budget_lasts_until_it_is_renewed() -> None:
    budget = StepBudget(10)
    budget.spend(10)
    with pytest.raises(FilterTooCostly) as refusal:
        budget.spend(1)
    assert refusal.value.limit_name == "MOST_STEPS"
    budget.renew()
    budget.spend(10)


def test_on_the_loop_a_budget_that_is_spent_says_nothing_against_the_filter() -> None:
    budget = StepBudget(10, on_loop=True)
    budget.spend(10)
    with pytest.raises(TakesLong):
        budget.spend(1)
