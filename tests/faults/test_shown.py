"""The followers of the fault tests notice a commit that is not whole."""

from __future__ import annotations

import pytest

from tests.faults.shown import Shown
from tests.support.live import Event


def event(id: str, commit: str | None = "1", last: bool = False, **entity: object) -> Event:
    """Return an event of a creation or change, or of a removal if there are no fields."""
    made: Event = {"_id": id, "entity": {"_id": id, **entity}} if entity else {"_id": id}
    return made | ({} if commit is None else {"commit": commit}) | ({"last": True} if last else {})


FAMILY = [event("p", children=2), event("a", parent="p"), event("b", last=True, parent="p")]


def shown(*events: Event) -> Shown:
    made = Shown({})
    for each in events:
        made.take(each)
    return made


def test_a_commit_is_shown_once_it_is_whole() -> None:
    assert shown(*FAMILY[:2]).view == {}
    assert {*shown(*FAMILY).view} == {"p", "a", "b"}
    ends = [event("a", "2"), event("p", "2"), event("b", "2", True)]
    assert shown(*FAMILY, *ends).view == {}
    more = [event("c", "3", parent="p"), event("p", "3", True, children=3)]
    assert {*shown(*FAMILY, *more).view} == {"p", "a", "b", "c"}
    assert {*shown(*FAMILY, event("x", None, n=1)).view} == {"p", "a", "b", "x"}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([FAMILY[0], FAMILY[2]], id="a child is missing"),
        pytest.param(FAMILY[1:], id="the parent is missing"),
        pytest.param([*FAMILY[:2], event("x", "2", n=1)], id="another commit comes before the end"),
        pytest.param([*FAMILY[:2], event("x", None, n=1)], id="a change without a commit comes before the end"),
        pytest.param([*FAMILY, event("p", None)], id="the parent alone is deleted"),
        pytest.param([*FAMILY, event("p", "2"), event("a", "2", True)], id="a child stays"),
        pytest.param([*FAMILY, event("p", None, children=3)], id="a child is counted that is not there"),
    ],
)
def test_half_of_a_commit_is_noticed(events: list[Event]) -> None:
    with pytest.raises(AssertionError):
        shown(*events)
