"""The reference data in memory: read anew when it has changed, and when a listing may show a newer name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.dialects.listings.lookups import SHOWN, Lookups
from hub.dialects.listings.stores import StoreNames
from stores.protocol import Engine
from stores.query import Query
from stores.records import Change, Entity
from stores.schema import StoreDefinition
from tests.support.entities import entity, insert_one

NAMES = StoreNames(properties="listings", amenities="extras", districts="districts", regions="regions")


class Names:
    def names(self) -> StoreNames:
        return NAMES


@pytest.fixture
async def lookups(engine: Engine) -> Lookups:
    for name in ("extras", "districts", "regions"):
        await engine.define(StoreDefinition(name))
    return Lookups(engine, Names())


def changed(store: str, **after: Any) -> Change:
    return Change("1", "update", store, "a" * 24, None, entity(after), None, 0)


async def slugs(lookups: Lookups, newest: int = 0) -> list[str]:
    return list((await lookups.current(newest)).tables["amenities"].texts)


async def test_they_are_read_once(engine: Engine, lookups: Lookups) -> None:
    assert await slugs(lookups) == []
    await insert_one(engine, {"slug": "pool", "name": "Pool"}, "extras")
    assert await slugs(lookups) == []
    lookups.follow([changed("things")])
    assert await slugs(lookups) == []
    lookups.follow([changed("extras")])
    assert await slugs(lookups) == ["pool"]


async def test_a_listing_that_is_newer_than_what_was_seen(engine: Engine, lookups: Lookups) -> None:
    await slugs(lookups)
    await insert_one(engine, {"slug": "pool", "name": "Pool"}, "extras")
    assert await slugs(lookups, 5) == ["pool"]
    await insert_one(engine, {"slug": "gym", "name": "Gym"}, "extras")
    assert await slugs(lookups, 5) == ["pool"]  # what this stamp may show is known
    lookups.follow([changed("listings", updated_at=6), changed("listings", updated_at=7)])
    assert await slugs(lookups, 7) == ["pool"]  # the feed has brought all before this stamp
    assert await slugs(lookups, 8) == ["gym", "pool"]


async def test_a_change_during_the_reading(engine: Engine, lookups: Lookups) -> None:
    reading = asyncio.create_task(slugs(lookups))
    await asyncio.sleep(0)
    assert lookups._reading.locked()
    lookups.follow([changed("extras")])
    await reading
    await insert_one(engine, {"slug": "pool", "name": "Pool"}, "extras")
    assert await slugs(lookups) == ["pool"]


async def test_missed_changes(engine: Engine, lookups: Lookups) -> None:
    await slugs(lookups, 9)
    await insert_one(engine, {"slug": "pool", "name": "Pool"}, "extras")
    lookups.start_afresh()
    assert await slugs(lookups) == ["pool"]


async def test_callers_share_a_reading(lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    entities = lookups.engine.entities

    async def counted(store: str, query: Query) -> list[Entity]:
        read.append(store)
        return await entities(store, query)

    monkeypatch.setattr(lookups.engine, "entities", counted)
    await asyncio.gather(*(lookups.current() for _ in range(50)))
    assert 0 < len(read) <= 2 * len(SHOWN)
    data = [await lookups.current() for _ in range(2)]
    assert data[0] is data[1]


async def test_districts_are_in_their_regions(engine: Engine, lookups: Lookups) -> None:
    for slug in ("b", "a"):
        await insert_one(engine, {"slug": slug, "name": slug.upper()}, "regions")
    for slug, region in (("y", "a"), ("x", "a"), ("z", "nowhere")):
        await insert_one(engine, {"slug": slug, "name": f"{slug}É", "region": region}, "districts")
    data = await lookups.current()
    shown = b'[{"name":"A","slug":"a","districts":[{"name":"x\xc3\x89","slug":"x"},{"name":"y\xc3\x89","slug":"y"}]},'
    assert data.locations == shown + b'{"name":"B","slug":"b","districts":[]}]'
    assert data.tables["districts"].named("é") == ("x", "y", "z")
    assert data.has("districts", "x")
    assert not data.has("districts", "w")


async def test_a_store_that_is_not_there(engine: Engine) -> None:
    assert (await Lookups(engine, Names()).current()).locations == b"[]"
