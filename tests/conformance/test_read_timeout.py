"""What takes longer than a read may is given up, on both engines, and holds nobody else up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from stores.errors import ReadTimeout
from stores.parse import parse_filter
from stores.protocol import DeleteMany, Engine
from stores.query import EVERYTHING, Query, Sort
from stores.schema import StoreDefinition
from tests.support.engines import OPTIONS, Database, opened
from tests.support.entities import STORE, insert, numbered
from tests.support.hub import eventually
from tests.support.reading import find

MANY = 30_000
SECONDS = 0.001
"""Far less than it takes to look at so many entities one by one."""
SLOW = parse_filter({"v": {"$elemMatch": {"$gt": 5}}})


@asynccontextmanager
async def hasty(database: Database) -> AsyncIterator[Engine]:
    """An engine without patience, and a store with much in it."""
    async with opened(database.engine(replace(OPTIONS, read_timeout=SECONDS))) as engine:
        await engine.define(StoreDefinition(STORE))
        entities = numbered(MANY, v=[1, 2])
        for start in range(0, MANY, 5_000):
            await insert(engine, *entities[start : start + 5_000])
        yield engine


async def test_a_read_that_takes_too_long(database: Database) -> None:
    """Whether it is a page, a long list, a sort or a count."""
    unsorted = (Sort(("v",)), Sort(("_id",)))
    async with hasty(database) as engine:
        for query in (Query(SLOW), Query(SLOW, limit=MANY), Query(EVERYTHING, sort=unsorted, limit=5)):
            with pytest.raises(ReadTimeout):
                await find(engine, query)
        with pytest.raises(ReadTimeout):
            await engine.summarize(STORE, SLOW)
        assert await eventually(lambda: quick(engine)) == 5


async def quick(engine: Engine) -> int:
    """How many entities a quick read finds; none when the machine was too busy for it."""
    with suppress(ReadTimeout):
        return len(await find(engine, Query(limit=5)))
    return 0


async def is_unchanged(engine: Engine, since: str) -> bool:
    """Whether the feed has no change; not as long as the machine is too busy to say so."""
    with suppress(ReadTimeout):
        return (await engine.feed.read(since)).changes == []
    return False


async def test_a_bulk_change_that_looks_too_long(database: Database) -> None:
    """Other writes would wait for it. Nothing of it is done."""
    async with hasty(database) as engine:
        before = await engine.feed.position()
        with pytest.raises(ReadTimeout):
            await engine.commit([DeleteMany(STORE, SLOW, MANY)], None)
        assert await eventually(lambda: is_unchanged(engine, before))
        await insert(engine, *numbered(1))
