"""The look-up of the channels that a change may concern."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.channels import LOOKUP_STEPS, ChannelIndex, ChannelKey
from realtime.term_index import TermIndex, term_value
from stores.canonical import filter_text
from stores.parse import parse_filter
from stores.paths import elements
from stores.query import WHOLE
from stores.records import Change
from stores.steps import free
from tests.support.steps import counted_steps

NAMES = ("a", "b", "0", "1", "01")
VALUES = (0, 1, 1.0, True, "x", None)
TERMS = [
    (path, value)
    for length in (1, 2, 3)
    for path in product(NAMES, repeat=length)
    for value in VALUES
    if value is not None
]

scalars = st.sampled_from(VALUES)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
)
entities = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)


def has(entity: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    found = [v for v in elements(entity, path) if isinstance(v, str | int | float)]
    return term_value(value) in map(term_value, found)


@given(entities, st.lists(st.sampled_from(TERMS), unique_by=str, max_size=40))
def test_the_index_finds_the_terms_that_a_filter_would(entity: dict[str, Any], terms: list[Any]) -> None:
    """It reaches the same values as a filter does, through objects and arrays, also after others were removed."""
    index: TermIndex[str] = TermIndex()
    for path, value in TERMS:
        index.add((path, term_value(value)), "other")
    for path, value in terms:
        index.add((path, term_value(value)), repr((path, value)))
    for path, value in {(path, term_value(value)): None for path, value in TERMS}:
        index.remove((path, value), "other")
    found: dict[str, None] = {}
    index.collect((entity, None), found, free)
    assert found.keys() == {repr((path, value)) for path, value in terms if has(entity, path, value)}
    for path, value in terms:
        index.remove((path, term_value(value)), repr((path, value)))
    assert (index._root.following, index._root.positions) == ({}, {})


def joined(filters: list[dict[str, Any]]) -> ChannelIndex[str]:
    index: ChannelIndex[str] = ChannelIndex()
    for number, each in enumerate(filters):
        where = parse_filter(each)
        index.join(ChannelKey("s", filter_text(where), WHOLE, ""), where, str(number), "member")
    return index


def update(entity: dict[str, Any]) -> Change:
    return Change("1", "update", "s", "id", entity, entity | {"n": 2}, None, 0)


MANY = 5_000


@pytest.mark.parametrize("prefix", ["", "json.", "json.0."])
def test_terms_at_paths_that_an_entity_lacks_cost_nothing(prefix: str) -> None:
    """Otherwise one user's subscriptions, each to a field of its own, delay every change of the store."""
    index = joined([*({f"{prefix}f{n}": 1} for n in range(MANY)), {f"{prefix}f7": 2}])
    inner: Any = {"f7": 2, "f8": 2}
    outer = {"json": inner if prefix == "json." else [inner]} if prefix else inner
    with counted_steps() as steps:
        found = list(index.concerned(update({"_id": "id", "n": 1} | outer)))
    assert [channel.topic for channel in found] == [str(MANY)]
    assert steps.count < MANY


def test_too_many_steps_lead_to_all_channels() -> None:
    """Each is found once, however many terms it has."""
    index = joined([{"a": {"$in": list(range(number, number + 100))}} for number in range(20)])
    long = [-1] * LOOKUP_STEPS
    assert len(list(index.concerned(update({"_id": "id", "n": 1, "a": long})))) == 20
    with counted_steps() as steps:
        list(index.concerned(update({"_id": "id", "n": 1, "a": long})))
    assert steps.count < 2_000
