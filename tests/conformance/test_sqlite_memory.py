"""The memory of a write on SQLite does not grow with the bytes of the entities that it concerns."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from stores.errors import EntityTooLarge
from stores.options import EngineOptions
from stores.protocol import DeleteMany, Engine, Update, UpdateMany, Write
from stores.query import EVERYTHING
from stores.records import now_ms
from stores.schema import StoreDefinition
from stores.sqlite import bulk_changes
from stores.sqlite.feed import RING_BYTES
from tests.support.engines import opened, sqlite_database
from tests.support.entities import STORE, USER, entity, insert, insert_one
from tests.support.memory import bounded_memory
from tests.support.reading import find, trail

pytestmark = pytest.mark.engine("sqlite")
MB: Final = 1_000_000
COUNT: Final = 70


async def fill(engine: Engine) -> None:
    """Make entities of 70 MB."""
    for n in range(COUNT):
        await insert(engine, entity(n=n, text="x" * MB))


@pytest.mark.parametrize("seconds", [0.1, 0.0], ids=["the writer searches", "a reader searches"])
@pytest.mark.parametrize(
    "write",
    [UpdateMany(STORE, EVERYTHING, {"m": 1}, COUNT), DeleteMany(STORE, EVERYTHING, COUNT)],
    ids=lambda w: type(w).__name__,
)
async def test_a_bulk_change(engine: Engine, monkeypatch: pytest.MonkeyPatch, write: Write, seconds: float) -> None:
    """It holds the changes that it hands over to the feed, and one entity."""
    await fill(engine)
    monkeypatch.setattr(bulk_changes, "SEARCH_SECONDS", seconds)
    with bounded_memory(RING_BYTES + 20 * MB):
        [written] = await engine.commit([write], USER)
    assert written.count == COUNT


async def test_the_retirement_of_large_changes(tmp_path: Path) -> None:
    """It holds a few records at a time, and keeps the whole history."""
    async with opened(sqlite_database(tmp_path).engine(EngineOptions(feed_retention_mb=0))) as engine:
        await engine.define(StoreDefinition(STORE))
        made = await insert_one(engine, text="x" * MB)
        for n in range(COUNT // 2):
            await engine.commit([Update(STORE, made["_id"], {"n": n})], USER)
        with bounded_memory(30 * MB):
            await engine.sweep(now_ms())
        entries, _ = await trail(engine, STORE, made["_id"])
        assert [e.changed["n"][1] for e in entries[1:]] == list(range(COUNT // 2))


async def test_a_bulk_change_that_fails_in_the_middle(engine: Engine) -> None:
    """It leaves nothing behind."""
    await insert(engine, entity(n=0), entity(n=1, text="x" * 3 * MB), entity(n=2))
    with pytest.raises(EntityTooLarge):
        await engine.commit([UpdateMany(STORE, EVERYTHING, {"more": "x" * MB}, COUNT)], USER)
    assert not any("more" in each for each in await find(engine))
    await engine.close()
    await engine.open()
