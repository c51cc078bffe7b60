"""The number of change streams that an engine opens, and the completeness of the history, whichever stream it is
written from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from pymongo import AsyncMongoClient

from hub.metrics import Metrics
from stores.protocol import Engine, Update
from stores.schema import StoreDefinition
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import STORE, USER, entity, insert_one
from tests.support.hub import eventually
from tests.support.reading import trail

pytestmark = pytest.mark.engine("mongodb")

OPEN_STREAMS = [
    {"$currentOp": {"idleCursors": True, "allUsers": True}},
    {"$match": {"cursor.originatingCommand.pipeline.0.$changeStream": {"$exists": True}}},
]


@pytest.fixture
async def database(mongodb: str) -> AsyncIterator[Database]:
    fresh = mongo_database(mongodb)
    yield fresh
    await fresh.empty()


async def open_streams(database: Database) -> int:
    async with AsyncMongoClient[dict[str, object]](database.location) as client:
        name = client.get_default_database().name
        mine = {"$match": {"ns": {"$regex": f"^{name}\\."}}}
        found = await client.admin.aggregate([*OPEN_STREAMS, mine])
        return len(await found.to_list())


async def follow_until(engine: Engine, since: str, done: asyncio.Event) -> str:
    """Follow the feed as a hub does until `done`; return the position reached."""
    async with aclosing(engine.feed.follow(since)) as batches:
        async for batch in batches:
            since = batch.position
            if done.is_set():
                break
    return since


async def test_history_is_written_from_the_stream_that_the_hub_follows(database: Database) -> None:
    """A process opens one stream, because every stream makes the server and the process read every change."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        done = asyncio.Event()
        following = asyncio.create_task(follow_until(engine, await engine.feed.position(), done))

        async def only_one() -> bool:
            return await open_streams(database) == 1

        await eventually(only_one)
        one = await insert_one(engine, entity())
        for n in range(20):
            await engine.commit([Update(STORE, one["_id"], {"n": n})], USER)
            await eventually(only_one)  # one that wakes is listed as a cursor, as an operation, or as both
        assert [entry.rev for entry in (await trail(engine, STORE, one["_id"]))[0]] == list(range(1, 22))
        done.set()
        await following


async def test_history_is_whole_while_followers_come_and_go(database: Database) -> None:
    """Each change is recorded once, from a follower's stream or, without a follower, from the recorder's own stream."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        one = await insert_one(engine, entity())
        since = await engine.feed.position()
        changes = 0
        for _ in range(6):
            done = asyncio.Event()
            following = asyncio.create_task(follow_until(engine, since, done))
            for n in range(30):
                await engine.commit([Update(STORE, one["_id"], {"n": changes + n})], USER)
            changes += 30
            done.set()
            since = await following
            await engine.commit([Update(STORE, one["_id"], {"n": -changes})], USER)
            changes += 1

        async def recorded() -> bool:
            async with AsyncMongoClient[dict[str, object]](database.location) as client:
                records = client.get_default_database()["_history"]
                return await records.count_documents({"entity": one["_id"]}) == changes + 1

        await eventually(recorded)
        assert [entry.rev for entry in (await trail(engine, STORE, one["_id"]))[0]] == list(range(1, changes + 2))


async def test_history_is_a_consumer_of_the_feed(database: Database) -> None:
    """The metrics show its lag."""
    metrics = Metrics()
    async with opened(database.engine()) as engine:
        metrics.watch_consumers(engine.consumers)

        async def is_shown() -> bool:
            return b'hub_consumer_lag_seconds{consumer="history"} 0.0' in metrics.render()

        await eventually(is_shown)
