"""Throttles in memory: their bounds, and rules that cannot be counted."""

from __future__ import annotations

import pytest

from hub.services.throttles import Throttles
from stores import throttling
from stores.throttling import MOST_LOGGED_CALLS, MemoryThrottles, Rule

MINUTE = Rule(2, 60)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
async def test_counts_are_dropped_when_no_call_counts_any_more(kind: str) -> None:
    clock = Clock()
    throttles = MemoryThrottles(clock)
    rule = Rule(2, 60, kind)  # type: ignore[arg-type]
    for n in range(1_000):
        await throttles.take(f"a:{n}", rule)
    assert len(throttles) == 1_000
    clock.now += 120_000
    for n in range(600):
        await throttles.take(f"b:{n}", rule)
        await throttles.take(f"a:{n + 5_000}", rule)
    assert len(throttles) == 1_200


async def test_the_oldest_keys_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "THROTTLED_KEYS", 100)
    throttles = MemoryThrottles()
    for _ in range(2):
        assert (await throttles.take("a:first", MINUTE)).allowed
    for n in range(99):
        await throttles.take(f"a:{n}", MINUTE)
    assert not (await throttles.take("a:first", MINUTE)).allowed
    await throttles.take("a:last", MINUTE)
    assert len(throttles) == 100
    assert (await throttles.take("a:first", MINUTE)).remaining == 1


async def test_keys_of_one_purpose_do_not_push_out_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "THROTTLED_KEYS", 100)
    throttles = Throttles(MemoryThrottles())
    for _ in range(2):
        await throttles.take("listings:key", MINUTE)
    for n in range(1_000):
        await throttles.take(f"register:192.0.2.{n}", MINUTE)
    assert not (await throttles.take("listings:key", MINUTE)).allowed


async def test_rules_of_other_lengths_count_separately() -> None:
    throttles = MemoryThrottles()
    for rule in (Rule(1, 60), Rule(1, 61), Rule(1, 60, "fixed")):
        assert (await throttles.take("a:1", rule)).allowed
        assert not (await throttles.take("a:1", rule)).allowed


async def test_a_limit_that_changes_holds_at_once() -> None:
    throttles = MemoryThrottles()
    assert [(await throttles.take("a:1", Rule(limit, 60))).allowed for limit in (3, 3, 1, 2, 3, 3, 4)] == [
        *(True, True, False, False, True, False, True)
    ]


async def test_long_keys_are_told_apart() -> None:
    throttles = Throttles(MemoryThrottles())
    one, other = "a:" + "x" * 10_000, "a:" + "x" * 9_999 + "\ud800"
    assert (await throttles.take(one, Rule(1, 60))).allowed
    assert (await throttles.take(other, Rule(1, 60))).allowed
    assert not (await throttles.take(one, Rule(1, 60))).allowed


@pytest.mark.parametrize(("limit", "seconds"), [(0, 60), (-1, 60), (1, 0), (MOST_LOGGED_CALLS + 1, 60)])
def test_a_rule_that_cannot_be_counted_is_refused(limit: int, seconds: int) -> None:
    with pytest.raises(ValueError, match="cannot count by"):
        Rule(limit, seconds)


def test_a_fixed_limit_may_be_any() -> None:
    assert Rule(1_000_000, 60, "fixed").limit == 1_000_000
