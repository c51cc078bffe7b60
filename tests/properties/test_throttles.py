"""Throttles: the counts in memory, those of MongoDB and a reference agree at every reading of the clock."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, ReturnDocument

from stores.mongo.throttling import outcome_of, pipeline_of
from stores.throttling import SKEW_MS, MemoryThrottles, Rule, Taken
from tests.properties.throttle_reference import Reference
from tests.support.engines import mongo_database

BEGIN = 1_700_000_000_123
CALLS = 60

Count = Callable[[str, Rule], Awaitable[Taken]]


@dataclass(frozen=True)
class Call:
    """A call of one of two keys. `after`: milliseconds from the one before; `limit`: that of the rule by now."""

    after: int
    key: str
    limit: int


def rules() -> st.SearchStrategy[Rule]:
    return st.builds(Rule, st.integers(1, 6), st.integers(1, 4), st.sampled_from(["sliding", "fixed"]))


forwards = st.sampled_from([0, 1, 500, 999, 1_000, 1_001, 2_000, 3_000, 4_000, 10_000]) | st.integers(0, 5_000)
backwards = st.sampled_from([-1, -SKEW_MS, -SKEW_MS - 1, -3_600_000]) | st.integers(-5_000, -1)
keys = st.sampled_from(["a:1", "a:2"])


def calls(times: st.SearchStrategy[int], limits: st.SearchStrategy[int]) -> st.SearchStrategy[list[Call]]:
    return st.lists(st.builds(Call, times, keys, limits), min_size=1, max_size=CALLS)


any_calls = calls(forwards | forwards | backwards, st.integers(1, 6))


def times_of(made: Sequence[Call]) -> list[int]:
    return list(accumulate((call.after for call in made), initial=BEGIN))[1:]


async def check(rule: Rule, made: Sequence[Call], take_at: Callable[[int, str, Rule], Awaitable[Taken]]) -> None:
    """Compare the outcome of each call with the reference."""
    references = {call.key: Reference() for call in made}
    for call, now in zip(made, times_of(made), strict=True):
        current = replace(rule, limit=call.limit)
        allowed, remaining, wait, resets = references[call.key].take(now, current)
        taken = await take_at(now, call.key, current)
        assert taken == Taken(allowed, remaining, float(wait), float(resets)), (now, call)


@pytest.mark.generated
@given(rules(), any_calls)
async def test_memory_counts_like_the_reference(rule: Rule, made: list[Call]) -> None:
    clock = [0]
    throttles = MemoryThrottles(lambda: clock[0])

    async def take_at(now: int, key: str, current: Rule) -> Taken:
        clock[0] = now
        return await throttles.take(key, current)

    await check(rule, made, take_at)


@pytest.fixture(scope="session")
async def collection(mongodb: str) -> AsyncIterator[Any]:
    database = mongo_database(mongodb)
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        yield client.get_default_database()["counts"]
    await database.drop()


@pytest.mark.engine("mongodb")
@pytest.mark.generated
@given(rules(), any_calls)
async def test_mongodb_counts_like_the_reference(collection: Any, rule: Rule, made: list[Call]) -> None:
    """Its pipeline does, with the time in the place of the server's clock."""
    run = secrets.token_hex(8)

    async def take_at(now: int, key: str, current: Rule) -> Taken:
        counted = await collection.find_one_and_update(
            {"_id": f"{run}:{key}"}, pipeline_of(current, now), upsert=True, return_document=ReturnDocument.AFTER
        )
        return outcome_of(counted, current)

    await check(rule, made, take_at)


@pytest.mark.generated
@given(rules(), calls(forwards, st.just(1)))
async def test_no_more_calls_than_the_limit_pass_in_any_period(rule: Rule, made: list[Call]) -> None:
    clock = [0]
    throttles = MemoryThrottles(lambda: clock[0])
    passed = []
    for clock[0] in times_of(made):
        if (await throttles.take("a:1", rule)).allowed:
            passed.append(clock[0])
    for begin in passed:
        if rule.kind == "sliding":
            assert sum(begin <= time < begin + rule.ms for time in passed) <= rule.limit
        else:
            assert sum(begin // rule.ms == time // rule.ms for time in passed) <= rule.limit


@pytest.mark.generated
@given(rules(), any_calls)
async def test_a_refused_call_passes_after_the_wait_and_not_before(rule: Rule, made: list[Call]) -> None:
    """Also after the clock was set back: nobody is locked out."""
    clock = [0]
    throttles = MemoryThrottles(lambda: clock[0])
    for now in times_of(made):
        clock[0] = now
        taken = await throttles.take("a:1", rule)
        if not taken.allowed:
            assert 0 < taken.wait <= rule.seconds + SKEW_MS / 1_000
            clock[0] = now + round(taken.wait * 1_000) - 1
            assert not (await throttles.take("a:1", rule)).allowed
            clock[0] += 1
            assert (await throttles.take("a:1", rule)).allowed
