"""Walks through the entities of a store, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import orjson

from stores.protocol import Engine
from stores.query import EVERYTHING, Filter, Query, Sort
from stores.records import Entity

READ_AT_ONCE: Final = 200
"""Entities read at once; then other tasks get a turn."""

BYTES_AT_ONCE: Final = 1_048_576
"""Bytes of them, about: any of them may be large."""


async def each_entity(engine: Engine, store: str, where: Filter = EVERYTHING) -> AsyncIterator[Entity]:
    """Yield all entities that match `where`, in the order of their ids."""
    query = Query(where, (Sort(("_id",)),), limit=READ_AT_ONCE)
    while True:
        page = await engine.entities(store, query, BYTES_AT_ONCE)
        for entity in page:
            yield entity
        if len(page) < READ_AT_ONCE and sum(len(orjson.dumps(each)) for each in page) < BYTES_AT_ONCE:
            return
        query = Query(where, query.sort, limit=READ_AT_ONCE, after=(page[-1]["_id"],))
        await asyncio.sleep(0)
