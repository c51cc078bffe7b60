"""Helpers that read an engine's answers completely: lists, successive pages, and ranges of the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from stores.errors import DuplicateValue
from stores.protocol import MOST_HISTORY_ENTRIES, Delete, Engine, Feed, Listing
from stores.query import WHOLE, Projection, Query
from stores.records import Change, Entity, HistoryEntry
from tests.support.entities import STORE, USER, insert_one

EVERY: Final = Query()

PATIENCE: Final = 30.0
"""Seconds that a test waits for something that should happen immediately."""


async def text(listing: Listing) -> bytes:
    """Return the JSON text of a list, with its pieces joined."""
    if isinstance(listing.body, bytes):
        return listing.body
    return b"".join([piece async for piece in listing.body])


async def content(listing: Listing) -> list[Entity]:
    parsed: list[Entity] = orjson.loads(await text(listing))
    return parsed


async def find(
    engine: Engine, query: Query = EVERY, projection: Projection = WHOLE, store: str = STORE
) -> list[Entity]:
    """Return the entities of one list."""
    return await content(await engine.find(store, query, projection))


async def get(engine: Engine, id: str, store: str = STORE, **more: Any) -> Entity | None:
    found = await engine.get(store, id, **more)
    return None if found is None else orjson.loads(found[0])


async def walk(engine: Engine, query: Query, size: int, store: str = STORE) -> list[Entity]:
    """Return the whole list, read in pages of `size`, each of which continues at a sort key."""
    entities: list[Entity] = []
    page = replace(query, limit=size)
    while True:
        listing = await engine.find(store, page)
        entities += await content(listing)
        if listing.next is None:
            return entities
        page = replace(page, offset=0, after=listing.next)


async def changes_since(feed: Feed, since: str, limit: int = 1_000) -> list[Change]:
    """Return all current changes after `since`."""
    changes, _ = await drain(feed, since, limit)
    return changes


async def drain(feed: Feed, since: str, limit: int = 1_000) -> tuple[list[Change], str]:
    """Return all current changes after `since`, and the position after them."""
    changes: list[Change] = []
    while True:
        batch = await feed.read(since, limit)
        changes += batch.changes
        since = batch.position
        if not batch.more:
            return changes, since


@asynccontextmanager
async def following(feed: Feed, since: str) -> AsyncIterator[AsyncIterator[list[Change]]]:
    """Follow the feed while the block runs: an endless stream of lists of changes."""
    stream = feed.follow(since)
    changes = (batch.changes async for batch in stream if batch.changes)
    try:
        yield changes
    finally:
        await changes.aclose()
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def follow(feed: Feed, since: str, count: int, patience: float = PATIENCE) -> list[Change]:
    """Return the next `count` changes after `since`, or more if the last batch holds more."""
    changes: list[Change] = []
    async with asyncio.timeout(patience), following(feed, since) as stream:
        while len(changes) < count:
            changes += await anext(stream)
    return changes


def apply(state: dict[str, Entity], changes: list[Change]) -> None:
    """Apply `changes` to `state` (entities by id). Each change's `before` must equal the entity in `state`."""
    for change in changes:
        assert state.get(change.id) == change.before
        if change.after is None:
            del state[change.id]
        else:
            state[change.id] = change.after


async def trail(
    engine: Engine, store: str, id: str, page: int = MOST_HISTORY_ENTRIES
) -> tuple[list[HistoryEntry], Entity | None]:
    """Return the whole history of an entity, read in pages, and the entity's final state."""
    entries: list[HistoryEntry] = []
    after: str | None = None
    while True:
        read = await engine.history(store, id, after, page)
        entries += read.entries
        after = read.next
        if after is None:
            return entries, read.final


async def usable(engine: Engine, store: str) -> None:
    """Check that the store accepts and returns entities, and enforces its unique path."""
    made = await insert_one(engine, store=store, code="a")
    assert await get(engine, made["_id"], store) == made
    with pytest.raises(DuplicateValue):
        await insert_one(engine, store=store, code="a")
    await engine.commit([Delete(store, made["_id"])], USER)
