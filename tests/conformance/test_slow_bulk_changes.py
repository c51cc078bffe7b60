"""Bulk changes whose entities take long to find. On SQLite a reader looks for them, and the writer changes them."""

from __future__ import annotations

import asyncio

import pytest

from stores.errors import KeyReused, TooManyMatches, Unavailable
from stores.parse import parse_filter
from stores.protocol import DeleteMany, Engine, IdempotencyKey, Update, UpdateMany, Written
from stores.query import EVERYTHING
from stores.records import now_ms
from stores.sqlite import bulk_changes
from tests.support.entities import STORE, USER, insert, numbered
from tests.support.reading import changes_since, find

COUNT = 40
COSTLY = parse_filter({"n": {"$lt": COUNT // 2}, "arr": {"$elemMatch": {"$or": [{"x": {"$gt": 5}}, {"y": 1}]}}})
"""A filter that half of the entities match; it takes thousands of steps on each."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writer of SQLite search for no time."""
    monkeypatch.setattr(bulk_changes, "SEARCH_SECONDS", 0.0)


@pytest.fixture
async def filled(engine: Engine) -> Engine:
    await insert(engine, *numbered(COUNT, arr=[{"x": n % 7, "y": 0} for n in range(2_000)]))
    return engine


async def test_the_answer_is_what_was_done(filled: Engine) -> None:
    """Matches are changed in the order of their creation, and what a change would not alter is skipped."""
    since = await filled.feed.position()
    change = UpdateMany(STORE, COSTLY, {"m": 1}, COUNT // 2)
    for expected in (COUNT // 2, 0):
        assert await filled.commit([change], USER) == [Written(b"", 0, expected)]
    changes = await changes_since(filled.feed, since)
    assert [c.after["n"] for c in changes if c.after is not None] == list(range(COUNT // 2))
    forced = UpdateMany(STORE, COSTLY, {"m": 1}, COUNT // 2, forced=True)
    assert await filled.commit([forced], USER) == [Written(b"", 0, COUNT // 2)]
    assert await filled.commit([DeleteMany(STORE, COSTLY, COUNT // 2)], USER) == [Written(b"", 0, COUNT // 2)]
    assert [e["n"] for e in await find(filled)] == list(range(COUNT // 2, COUNT))


async def test_too_many_matches_change_nothing(filled: Engine) -> None:
    since = await filled.feed.position()
    for write in (UpdateMany(STORE, COSTLY, {"m": 1}, COUNT // 2 - 1), DeleteMany(STORE, COSTLY, COUNT // 2 - 1)):
        with pytest.raises(TooManyMatches):
            await filled.commit([write], USER)
    assert await changes_since(filled.feed, since) == []


async def test_a_key_is_used_once(filled: Engine) -> None:
    key = IdempotencyKey("key", "one", now_ms() + 60_000)
    change = UpdateMany(STORE, COSTLY, {"m": 1}, COUNT)
    for _ in range(2):
        assert await filled.commit([change], USER, key) == [Written(b"", 0, COUNT // 2)]
    with pytest.raises(KeyReused):
        await filled.commit([change], USER, IdempotencyKey("key", "other", now_ms() + 60_000))


async def test_concurrent_changes_of_its_entities(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk change alters only what matches at that moment, and counts it."""
    monkeypatch.setattr(bulk_changes, "CHECK_SECONDS", 5.0)  # a busy machine must not make it give up
    made = await find(filled)
    since = await filled.feed.position()
    bulk = [filled.commit([UpdateMany(STORE, COSTLY, {"bulk": number}, COUNT)], USER) for number in range(6)]

    async def move(number: int) -> None:
        for turn in range(8):
            target = made[(number * 7 + turn * 3) % COUNT]
            n = COUNT - 1 if (number + turn) % 2 else 0
            await filled.commit([Update(STORE, target["_id"], {"n": n})], USER)
            await asyncio.sleep(0.01)

    done = await asyncio.gather(*bulk, *(move(number) for number in range(5)))
    changed = 0
    for change in await changes_since(filled.feed, since):
        before, after = change.before, change.after
        assert before is not None
        assert after is not None
        if before.get("bulk") != after.get("bulk"):
            assert before["n"] < COUNT // 2
            assert before["n"] == after["n"]
            changed += 1
    assert changed == sum(outcome[0].count for outcome in done if outcome is not None)


@pytest.mark.engine("sqlite")
async def test_a_filter_that_takes_too_long_again_and_again(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all matches change between search and commit, and testing them again takes too long, the change is given
    up."""
    monkeypatch.setattr(bulk_changes, "CHECK_SECONDS", 0.0)
    search = bulk_changes.search

    def search_and_wait(*args: object) -> bulk_changes.Found:
        found = search(*args)  # type: ignore[arg-type]
        asyncio.run_coroutine_threadsafe(alter(), loop).result()
        return found

    async def alter() -> None:
        await filled.commit([UpdateMany(STORE, EVERYTHING, {"other": now_ms()}, COUNT, forced=True)], None)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(bulk_changes, "search", search_and_wait)
    since = await filled.feed.position()
    with pytest.raises(Unavailable, match="others change"):
        await filled.commit([UpdateMany(STORE, COSTLY, {"m": 1}, COUNT)], USER)
    changes = await changes_since(filled.feed, since)
    assert len(changes) == bulk_changes.SEARCHES * COUNT
    assert not any("m" in (change.after or {}) for change in changes)
