"""A commit with an idempotency key is done once."""

from __future__ import annotations

import asyncio

import pytest

from stores.errors import DuplicateValue, KeyReused, Unavailable
from stores.protocol import Engine, IdempotencyKey, Insert, Update, UpdateMany
from stores.query import EVERYTHING
from stores.records import now_ms
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, insert_one
from tests.support.reading import changes_since, find

DAY = 86_400_000


def key(name: str = "k", fingerprint: str = "f", lives: int = DAY) -> IdempotencyKey:
    return IdempotencyKey(name, fingerprint, now_ms() + lives)


async def test_the_first_outcome_comes_again(engine: Engine) -> None:
    """The second commit writes nothing and returns the first outcome, even after later changes."""
    first = await engine.commit([Insert(STORE, entity(n=1)), Insert(STORE, entity(n=2))], USER, key())
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 9}, 10)], USER)
    position = await engine.feed.position()
    again = await engine.commit([Insert(STORE, entity(n=1)), Insert(STORE, entity(n=2))], USER, key())
    assert again == first
    assert len(await find(engine)) == 2
    assert await changes_since(engine.feed, position) == []


async def test_an_outcome_can_be_read_without_a_commit(engine: Engine) -> None:
    """Short ones and long ones, before they expire, and for the same request only."""
    assert await engine.outcome(key()) is None
    for name, texts in (("short", ["x"]), ("long", ["é" * 1_500_000] * 3)):
        written = await engine.commit([Insert(STORE, entity(text=text)) for text in texts], USER, key(name))
        assert await engine.outcome(key(name)) == written
    await engine.commit([Insert(STORE, entity())], USER, key("over", lives=-1))
    assert await engine.outcome(key("over")) is None
    with pytest.raises(KeyReused):
        await engine.outcome(key("long", fingerprint="other"))


async def test_a_key_with_another_request_is_refused(engine: Engine) -> None:
    """It raises KeyReused, and nothing is written."""
    await engine.commit([Insert(STORE, entity())], USER, key())
    with pytest.raises(KeyReused):
        await engine.commit([Insert(STORE, entity())], USER, key(fingerprint="other"))
    assert len(await find(engine)) == 1


async def test_keys_keep_apart(engine: Engine) -> None:
    """Commits with different keys are independent."""
    for name in ("a", "b", "A", "a ", "x" * 500, "é😀'\"\\$."):
        await engine.commit([Insert(STORE, entity())], USER, key(name))
    assert len(await find(engine)) == 6


async def test_fifty_at_once_write_once(engine: Engine) -> None:
    """All get the same outcome."""
    outcomes = await asyncio.gather(*(engine.commit([Insert(STORE, entity(n=n))], USER, key()) for n in range(50)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(await find(engine)) == 1


async def test_a_failed_commit_leaves_its_key_free(engine: Engine) -> None:
    """A commit that wrote nothing may be repeated."""
    taken = await insert_one(engine, code="x")
    with pytest.raises(DuplicateValue):
        await engine.commit([Insert(STORE, entity(code="x"))], USER, key())
    await engine.commit([Update(STORE, taken["_id"], {"code": "y"})], USER)
    await engine.commit([Insert(STORE, entity(code="x"))], USER, key())
    assert len(await find(engine)) == 2


async def test_an_expired_key_is_swept_away(engine: Engine) -> None:
    """After its expiry the same key is a new request; the sweep keeps keys that have not expired."""
    await engine.commit([Insert(STORE, entity())], USER, key())
    await engine.sweep(now_ms() + DAY - 60_000)
    await engine.commit([Insert(STORE, entity())], USER, key())
    assert len(await find(engine)) == 1
    await engine.sweep(now_ms() + DAY + 60_000)
    await engine.commit([Insert(STORE, entity())], USER, key(fingerprint="other"))
    assert len(await find(engine)) == 2


async def test_keys_expire_while_the_other_part_of_the_sweep_fails(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time, such as with a history that cannot be written, or a collection that cannot be dropped."""

    def fail(*_: object) -> None:
        raise Unavailable("broken")

    await engine.commit([Insert(STORE, entity())], USER, key())
    monkeypatch.setattr("stores.sqlite.engine.retired_up_to", fail)
    monkeypatch.setattr("stores.mongo.structure.remove_dropped", fail)
    with pytest.raises(Unavailable):
        await engine.sweep(now_ms() + DAY + 60_000)
    await engine.commit([Insert(STORE, entity())], USER, key(fingerprint="other"))
    assert len(await find(engine)) == 2


async def test_a_bulk_outcome_is_remembered_too(engine: Engine) -> None:
    """The count is returned again without a second change."""
    await insert_one(engine)
    for _ in range(2):
        [written] = await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 1}, 10)], USER, key())
        assert (written.entity, written.count) == (b"", 1)
    assert (await find(engine))[0]["_rev"] == 2


async def test_keys_outlive_a_restart(database: Database) -> None:
    """A client that repeats its request after a crash of the hub gets the first outcome."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        first = await engine.commit([Insert(STORE, entity())], USER, key())
    async with opened(database.engine()) as engine:
        assert await engine.commit([Insert(STORE, entity())], USER, key()) == first
        assert len(await find(engine)) == 1
