"""Throttles are exact, however many calls run at once and whichever process they reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from stores.protocol import Engine
from stores.throttling import Rule, Taken
from tests.support.engines import Database, opened

LONG = 1_000_000_000
"""Seconds of a period that does not end during a test."""
BEGINNING = datetime(1970, 1, 1)
RULES = (Rule(60, LONG), Rule(60, LONG, "fixed"))


def check(outcomes: list[Taken], limit: int) -> None:
    """Check that as many calls as allowed have passed, each of them counted, and that the others tell when."""
    passed = [taken for taken in outcomes if taken.allowed]
    assert sorted(taken.remaining for taken in passed) == list(range(limit))
    assert {taken.wait for taken in passed} == {0}
    for taken in outcomes:
        if not taken.allowed:
            assert (taken.remaining, taken.wait > 0) == (0, True)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
async def test_of_a_hundred_calls_at_once_as_many_pass_as_allowed(engine: Engine, rule: Rule) -> None:
    check(await asyncio.gather(*(engine.throttles.take("a:1", rule) for _ in range(100))), 60)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
async def test_keys_do_not_share_their_counts(engine: Engine, rule: Rule) -> None:
    keys = [f"a:{n}" for n in range(10)]
    outcomes = await asyncio.gather(*(engine.throttles.take(key, rule) for key in keys for _ in range(70)))
    for n in range(10):
        check(outcomes[n * 70 : (n + 1) * 70], 60)


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
async def test_a_call_passes_again_after_the_wait(engine: Engine, kind: str) -> None:
    rule = Rule(3, 1, kind)  # type: ignore[arg-type]
    for _ in range(3):
        taken = await engine.throttles.take("a:1", rule)
        while taken.allowed:
            taken = await engine.throttles.take("a:1", rule)
        assert 0 < taken.wait <= 2
        await asyncio.sleep(taken.wait + 0.02)
        assert (await engine.throttles.take("a:1", rule)).allowed


async def test_calls_are_no_changes_of_the_database(engine: Engine) -> None:
    position = await engine.feed.position()
    for rule in RULES:
        await engine.throttles.take("a:1", rule)
    assert (await engine.feed.read(position)).changes == []


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
async def test_processes_share_the_counts(database: Database, rule: Rule) -> None:
    async with opened(database.engine()) as one, opened(database.engine()) as other:
        takes = [engine.throttles.take("a:1", rule) for _ in range(50) for engine in (one, other)]
        check(await asyncio.gather(*takes), 60)
        for engine in (one, other):
            assert not (await engine.throttles.take("a:1", rule)).allowed


@pytest.fixture
async def documents(database: Database) -> AsyncIterator[Any]:
    """The collection of counts as another program sees it."""
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        yield client.get_default_database()["_throttles"]


@pytest.mark.engine("mongodb")
async def test_counts_expire_with_the_last_call(engine: Engine, documents: Any) -> None:
    for rule in (Rule(2, 60), Rule(2, 60, "fixed")):
        for _ in range(3):
            await engine.throttles.take("a:1", rule)
    index = (await documents.index_information())["expires_1"]
    assert index["expireAfterSeconds"] == 0
    sliding, fixed = [await documents.find_one({"_id": f"{kind}:60:a:1"}) for kind in ("sliding", "fixed")]
    assert len(sliding["times"]) == fixed["count"] == 2
    for document, end in ((sliding, sliding["times"][-1] + 60_000), (fixed, fixed["begin"] + 60_000)):
        assert document["expires"] == BEGINNING + timedelta(milliseconds=end)


@pytest.mark.engine("mongodb")
async def test_a_refused_call_of_a_known_key_does_not_reach_the_database(engine: Engine, documents: Any) -> None:
    """Until a call may pass again. The database knows nothing of it here: the counts are gone."""
    rule = Rule(1, LONG)
    for _ in range(2):
        taken = await engine.throttles.take("a:1", rule)
    await documents.delete_many({})
    again = await engine.throttles.take("a:1", rule)
    assert (again.allowed, again.resets) == (False, taken.resets)
    assert taken.wait - 60 < again.wait <= taken.wait + 1
    assert (await engine.throttles.take("a:1", Rule(2, LONG))).allowed
