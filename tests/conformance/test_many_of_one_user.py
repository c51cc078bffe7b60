"""A user who sends many costly writes at once delays others by a few of them, not by all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from stores.errors import NotFound, TooManySlowWrites
from stores.mongo import room
from stores.protocol import Delete, Engine, Insert, Update, UpdateMany, Written
from stores.query import Equal
from stores.sqlite.group_commit import MOST_HEAVY_WRITES
from tests.support.engines import Database
from tests.support.entities import OTHER_USER, STORE, USER, entity, insert_one
from tests.support.reading import find

MANY = 100


@pytest.mark.engine("sqlite")
async def test_a_write_waits_for_one_bulk_change_of_another_user(engine: Engine) -> None:
    """Another user's small write comes next, and its bulk change soon after: they do not wait for all hundred."""
    made = await insert_one(engine, kind="other", n=0)
    await engine.commit([Insert(STORE, entity(kind="many", n=-1)) for _ in range(50)], USER)
    order: list[str] = []

    async def commit(name: str, by: str, *writes: Update | UpdateMany) -> None:
        await engine.commit(writes, by)
        order.append(name)

    many = [commit("many", USER, UpdateMany(STORE, Equal(("kind",), "many"), {"n": n}, 1_000)) for n in range(MANY)]
    small = commit("small", OTHER_USER, Update(STORE, made["_id"], {"n": 1}))
    bulk = commit("bulk", OTHER_USER, UpdateMany(STORE, Equal(("kind",), "other"), {"m": 1}, 1_000))
    await asyncio.gather(*many, small, bulk)
    assert order.index("small") <= 2, order
    assert order.index("bulk") <= 4, order
    assert [e["n"] for e in await find(engine) if e["kind"] == "many"] == [MANY - 1] * 50


@pytest.mark.engine("sqlite")
async def test_the_bulk_changes_of_one_user_that_wait_have_a_limit(engine: Engine) -> None:
    """Further ones are refused; other users, and small writes of this one, are not affected."""
    made = await insert_one(engine, kind="other", n=0)

    def change(by: str) -> Awaitable[list[Written]]:
        return engine.commit([UpdateMany(STORE, Equal(("kind",), "many"), {"n": 1}, 1_000)], by)

    many = [change(USER) for _ in range(MOST_HEAVY_WRITES + 10)]
    small = engine.commit([Update(STORE, made["_id"], {"n": 1})], USER)
    *results, _, _ = await asyncio.gather(*many, change(OTHER_USER), small, return_exceptions=True)
    refused = [result for result in results if isinstance(result, TooManySlowWrites)]
    assert [error.limit_name for error in refused] == ["MOST_HEAVY_WRITES"] * 10
    assert [type(result) for result in results[:MOST_HEAVY_WRITES]] == [list] * MOST_HEAVY_WRITES
    assert isinstance(await change(USER), list)
    [shown] = await find(engine)
    assert shown["n"] == 1


@pytest.mark.engine("sqlite")
async def test_a_write_waits_for_one_array_of_another_user(engine: Engine) -> None:
    """Each array is short enough to share a transaction, but together they would take longer than one transaction
    may."""
    order: list[str] = []

    async def commit(name: str, by: str, count: int) -> None:
        await engine.commit([Insert(STORE, entity(text="x" * 20_000)) for _ in range(count)], by)
        order.append(name)

    await asyncio.gather(*(commit("many", USER, 50) for _ in range(MANY)), commit("small", OTHER_USER, 1))
    assert order.index("small") < MANY // 2, order


@asynccontextmanager
async def held_by_another_program(database: Database, id: str) -> AsyncIterator[None]:
    """Hold an entity in another program's transaction while the block runs, then abort the transaction."""
    async with AsyncMongoClient[dict[str, object]](database.location) as client, client.start_session() as session:
        await session.start_transaction()
        collection = client.get_default_database()[STORE]
        await collection.update_one({"_id": ObjectId(id)}, {"$set": {"held": True}}, session=session)
        yield
        await session.abort_transaction()


@pytest.mark.engine("mongodb")
async def test_transactions_that_collide_leave_room_for_other_users(engine: Engine, database: Database) -> None:
    """While a hundred deletions wait for a locked entity, another user's deletions are done."""
    held = await insert_one(engine)
    others = [await insert_one(engine) for _ in range(20)]
    async with held_by_another_program(database, held["_id"]):
        colliding = [asyncio.create_task(engine.commit([Delete(STORE, held["_id"])], USER)) for _ in range(MANY)]
        await asyncio.gather(*(engine.commit([Delete(STORE, each["_id"])], OTHER_USER) for each in others))
        assert not any(task.done() for task in colliding)
    results = await asyncio.gather(*colliding, return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 1
    assert all(isinstance(result, list | NotFound) for result in results)


@pytest.mark.engine("mongodb")
async def test_bulk_changes_of_several_users_leave_room_for_others(engine: Engine, database: Database) -> None:
    """While they wait for a locked entity, another user's deletions and arrays are done."""
    held = await insert_one(engine, kind="held")
    others = [await insert_one(engine) for _ in range(20)]
    async with held_by_another_program(database, held["_id"]):
        change = UpdateMany(STORE, Equal(("kind",), "held"), {"n": 1}, 1_000)
        users = [f"user {number}" for number in range(5)]
        waiting = [asyncio.create_task(engine.commit([change], user)) for user in users for _ in range(MANY // 5)]
        await asyncio.gather(*(engine.commit([Delete(STORE, each["_id"])], OTHER_USER) for each in others))
        await engine.commit([Insert(STORE, entity()) for _ in range(5)], OTHER_USER)
        assert not any(task.done() for task in waiting)
    results = await asyncio.gather(*waiting)
    assert sum(outcome[0].count for outcome in results) == 1


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("write", [UpdateMany(STORE, Equal(("kind",), "held"), {"n": 1}, 1_000), Delete(STORE, "held")])
async def test_a_write_waits_for_others_only_so_long(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch, write: UpdateMany | Delete
) -> None:
    """Writes that get no place in time are refused, whether they change many entities or one. The others continue."""
    monkeypatch.setattr(room, "LONGEST_WRITE_WAIT", 0.2)
    held = await insert_one(engine, kind="held")
    if isinstance(write, Delete):
        write = Delete(STORE, held["_id"])
    async with held_by_another_program(database, held["_id"]):
        waiting = [asyncio.create_task(engine.commit([write], USER)) for _ in range(MANY)]
        refused, _ = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_EXCEPTION)
        assert refused
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(result, list) and result[0].count == 1 for result in results) == 1
    errors = [result for result in results if isinstance(result, TooManySlowWrites)]
    assert errors
    assert {error.limit_name for error in errors} == {"LONGEST_WRITE_WAIT"}
    assert all(isinstance(result, list | NotFound | TooManySlowWrites) for result in results), results
