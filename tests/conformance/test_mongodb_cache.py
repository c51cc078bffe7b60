"""Transactions that the server's cache cannot hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import replace
from functools import partial

import pytest
from pymongo import AsyncMongoClient

from stores.errors import InvalidEntity
from stores.mongo.conflicts import Conflicts
from stores.protocol import DeleteMany, Engine, Insert, Procedure, Update, UpdateMany, Write, do
from stores.query import EVERYTHING, In
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support import mongod
from tests.support.engines import OPTIONS, Database, mongo_database, opened
from tests.support.entities import STORE, USER, entity, insert, numbered
from tests.support.reading import get

pytestmark = [pytest.mark.engine("mongodb"), pytest.mark.timeout(400)]

MANY = 60_000
"""Entities that a quarter of a gigabyte of cache can hold, but not all of them changed by one transaction."""

LONG = 100_000
"""Characters of an entity of which thirty make a large array."""
SEVERAL_ATTEMPTS = 2.0
"""Seconds."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server with the smallest cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HUB_TEST_MONGODB_URL", raising=False)
        with mongod.running("--cache", "0.25") as server:
            yield server.url


@pytest.fixture
async def database(server: str) -> AsyncIterator[Database]:
    fresh = mongo_database(server)
    yield fresh
    await fresh.empty()


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[Engine]:
    # Each attempt has the time of a read; on a slow machine a large one needs more than the default.
    async with opened(database.engine(replace(OPTIONS, read_timeout=60))) as engine:
        await engine.define(StoreDefinition(STORE, unique=("code",)))
        yield engine


async def fill(database: Database) -> None:
    """Insert MANY entities, as another program would."""
    documents = [{**each, "_id": number} for number, each in enumerate(numbered(MANY))]
    async with AsyncMongoClient[Entity](database.location) as client:
        await client.get_default_database()[STORE].insert_many(documents)


BULK = [
    UpdateMany(STORE, EVERYTHING, {"z": 1}, MANY),
    pytest.param(DeleteMany(STORE, EVERYTHING, MANY), marks=pytest.mark.full),
]


@pytest.mark.parametrize("write", BULK)
async def test_what_the_cache_cannot_hold_is_refused_as_too_large(
    engine: Engine, database: Database, write: UpdateMany | DeleteMany
) -> None:
    """A bulk change and a bulk deletion that do not fit are not repeated as if they had collided: the error names the
    cache, and nothing is changed. Parts of them work."""
    await fill(database)
    with pytest.raises(InvalidEntity, match="larger cache"):
        await engine.commit([write], USER)
    parts = [In(("n",), tuple(range(at, MANY, MANY // 100))) for at in (0, 1)]
    for part in parts:
        [done] = await engine.commit([replace(write, where=part)], USER)
        assert done.count == 100


@pytest.mark.parametrize("kind", ["bulk change", "array", "procedure"])
async def test_a_collision_is_not_taken_for_a_full_cache(engine: Engine, database: Database, kind: str) -> None:
    """Another program's transaction holds an entity, or a unique value, for several attempts. The commit waits for
    it."""
    taken = entity(code="taken")
    async with AsyncMongoClient[Entity](database.location) as client, client.start_session() as session:
        things = client.get_default_database()[STORE]
        await session.start_transaction()
        if kind == "array":
            writes: list[Write] = [
                Insert(STORE, each) for each in (taken, *(entity(text="x" * LONG) for _ in range(30)))
            ]
            await things.insert_one({"code": "taken"}, session=session)
        elif kind == "procedure":
            # It collides in another store than that which it names.
            writes = [Procedure("others", partial(do, Update(STORE, taken["_id"], {"z": 1})), bulk=True)]
            await insert(engine, taken)
            await things.update_one({"code": "taken"}, {"$set": {"z": 2}}, session=session)
        else:
            writes = [UpdateMany(STORE, EVERYTHING, {"z": 1}, MANY)]
            await insert(engine, taken)
            await things.update_one({"code": "taken"}, {"$set": {"z": 2}}, session=session)
        commit = asyncio.create_task(engine.commit(writes, USER))
        done, _ = await asyncio.wait([commit], timeout=SEVERAL_ATTEMPTS)
        assert not done
        await session.abort_transaction()
        await commit
    assert await get(engine, taken["_id"])


async def test_a_small_transaction_is_never_too_large(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may roll back any transaction to make room for another one. It reports that as a collision, which it
    does not count."""

    async def count(conflicts: Conflicts, collections: Collection[str]) -> dict[str, int]:
        return dict.fromkeys(collections, 0)

    monkeypatch.setattr(Conflicts, "_count", count)
    taken = entity(code="taken")
    await insert(engine, taken)
    async with AsyncMongoClient[Entity](database.location) as client, client.start_session() as session:
        things = client.get_default_database()[STORE]
        await session.start_transaction()
        await things.update_one({"code": "taken"}, {"$set": {"z": 2}}, session=session)
        procedure = Procedure("others", partial(do, Update(STORE, taken["_id"], {"z": 1})), bulk=True)
        commit = asyncio.create_task(engine.commit([procedure], USER))
        done, _ = await asyncio.wait([commit], timeout=SEVERAL_ATTEMPTS)
        await session.abort_transaction()
        await commit
    assert not done
