"""Reads that exceed the timeout are aborted, on both engines, and do not delay others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from pymongo import AsyncMongoClient

from hub.services.existing_data import ExistingData
from stores.errors import DataConflict, ReadTimeout
from stores.field import Field
from stores.parse import parse_filter
from stores.protocol import DeleteMany, Engine, Expect, Insert, Procedure, Steps, UpdateMany, Write, Written
from stores.protocol import find as find_step
from stores.query import EVERYTHING, Not, Query, Sort
from stores.schema import StoreDefinition
from tests.support.engines import OPTIONS, Database, opened
from tests.support.entities import STORE, entity, insert, numbered
from tests.support.hub import eventually
from tests.support.reading import find

MANY = 30_000
SECONDS = 0.001
"""The timeout, far below the time to check MANY entities one by one."""
SLOW = parse_filter({"v": {"$elemMatch": {"$gt": 5}}})


@asynccontextmanager
async def hasty(database: Database) -> AsyncIterator[Engine]:
    """Open an engine with a tiny read timeout, and fill a large store."""
    async with opened(database.engine(replace(OPTIONS, read_timeout=SECONDS))) as engine:
        await engine.define(StoreDefinition(STORE))
        entities = numbered(MANY, v=[1, 2])
        for start in range(0, MANY, 5_000):
            await insert(engine, *entities[start : start + 5_000])
        yield engine


async def test_a_read_that_takes_too_long(database: Database) -> None:
    """This may be a page, a long list, a sort or a count."""
    unsorted = (Sort(("v",)), Sort(("_id",)))
    async with hasty(database) as engine:
        for query in (Query(SLOW), Query(SLOW, limit=MANY), Query(EVERYTHING, sort=unsorted, limit=5)):
            with pytest.raises(ReadTimeout):
                await find(engine, query)
        with pytest.raises(ReadTimeout):
            await engine.summarize(STORE, SLOW)
        assert await eventually(lambda: quick(engine)) == 5


async def test_a_commit_that_searches_too_long(database: Database) -> None:
    """On SQLite all other writes wait for it."""

    def steps() -> Steps:
        yield from find_step(STORE, SLOW, 1, ())
        return Written(b"", 0, 0)

    async with hasty(database) as engine:
        searches: list[Write] = [Procedure(STORE, steps, bulk=True), Procedure(STORE, steps), Expect(STORE, SLOW)]
        for write in searches:
            with pytest.raises(ReadTimeout):
                await engine.commit([Insert(STORE, entity(n=-1)), write], None)
        assert await engine.count(STORE) == MANY


@pytest.mark.gate("sqlite")
async def test_a_count_of_the_hub_s_own_takes_its_time(database: Database) -> None:
    """The check of a new definition must read a store of any size."""
    async with hasty(database) as engine:
        assert await engine.count(STORE) == MANY
        assert await engine.count(STORE, SLOW) == 0
        assert await engine.count(STORE, Not(SLOW), lambda entity: entity["n"] % 3 == 0) == MANY // 3


@pytest.mark.gate("sqlite")
async def test_a_definition_is_checked_however_long_it_takes(database: Database) -> None:
    """Whether the database or the hub decides about an entity."""
    old = StoreDefinition(STORE)
    fields = (Field("n", "Text"), Field("x", "Text", required=True), Field("v", "JSON"))
    async with hasty(database) as engine:
        for new, found in (
            (StoreDefinition(STORE, fields), {"n", "x"}),
            (StoreDefinition(STORE, (Field("n", "Number"),), open=False), {"v"}),
        ):
            with pytest.raises(DataConflict) as refused:
                await ExistingData(old, new).check(engine)
            assert refused.value.found.keys() == found
            assert all(str(MANY) in text for text in refused.value.found.values())


async def quick(engine: Engine) -> int:
    """Return the number of entities that a quick read finds, or 0 if it timed out on a busy machine."""
    with suppress(ReadTimeout):
        return len(await find(engine, Query(limit=5)))
    return 0


async def is_unchanged(engine: Engine, since: str) -> bool:
    """Return whether the feed has no change; False if the read timed out on a busy machine."""
    with suppress(ReadTimeout):
        return (await engine.feed.read(since)).changes == []
    return False


async def test_a_bulk_change_that_looks_too_long(database: Database) -> None:
    """It is aborted, because other writes would wait for it. Nothing of it is done."""
    async with hasty(database) as engine:
        before = await engine.feed.position()
        with pytest.raises(ReadTimeout):
            await engine.commit([DeleteMany(STORE, SLOW, MANY)], None)
        assert await eventually(lambda: is_unchanged(engine, before))
        await insert(engine, *numbered(1))


COSTLY = {"$gte": [{"$size": {"$filter": {"input": {"$range": [0, {"$add": [200_000, "$n"]}]}, "cond": True}}}, 0]}
"""A condition that every entity meets. The server needs milliseconds to check it, on any machine."""


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("write", [UpdateMany(STORE, EVERYTHING, {"n": -1}, MANY), DeleteMany(STORE, EVERYTHING, MANY)])
async def test_a_bulk_change_that_writes_too_long(database: Database, write: UpdateMany | DeleteMany) -> None:
    """It finds its entities quickly, but each write is slow: the server checks it with a validator. MongoDB aborts the
    change, so it does not lock the entities any longer. Nothing of it is done."""
    async with opened(database.engine(replace(OPTIONS, read_timeout=0.05))) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(2_000))
        async with AsyncMongoClient[dict[str, object]](database.location) as client:
            await client.get_default_database().command("collMod", STORE, validator={"$expr": COSTLY})
        before = await engine.feed.position()
        with pytest.raises(ReadTimeout):
            await engine.commit([write], None)
        assert await eventually(lambda: is_unchanged(engine, before))
