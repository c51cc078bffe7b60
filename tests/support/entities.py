"""Entities as services pass them to an engine, and shortcuts to write them."""

from __future__ import annotations

from typing import Any, Final

import orjson

from stores.protocol import Engine, Insert, Written
from stores.records import Entity, new_id, now_ms

STORE: Final = "things"
USER: Final = "5f00000000000000000000a1"
OTHER_USER: Final = "5f00000000000000000000a2"
GROUP: Final = "5f00000000000000000000b1"


def entity(fields: Entity | None = None, **more: Any) -> Entity:
    """Return a complete new entity; `fields` and keywords override the system fields."""
    moment = now_ms()
    system: Entity = {
        "_id": new_id(),
        "owner": USER,
        "group": GROUP,
        "access": [],
        "branch": [GROUP],
        "time": moment,
        "_at": moment,
        "_rev": 1,
    }
    return system | (fields or {}) | more


def numbered(count: int, **more: Any) -> list[Entity]:
    """Return entities with `n` from 0, created one millisecond apart."""
    return [entity(n=n, time=1_700_000_000_000 + n, **more) for n in range(count)]


async def insert(engine: Engine, *entities: Entity, store: str = STORE, by: str | None = USER) -> list[Written]:
    """Insert all entities in one commit."""
    return await engine.commit([Insert(store, e) for e in entities], by)


async def insert_one(engine: Engine, fields: Entity | None = None, store: str = STORE, **more: Any) -> Entity:
    """Insert a new entity; return it as the engine returned it."""
    written = await insert(engine, entity(fields, **more), store=store)
    return value(written[0])


def value(written: Written) -> Entity:
    """Return the entity after a write."""
    parsed: Entity = orjson.loads(written.entity)
    return parsed
