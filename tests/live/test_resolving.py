"""A principal is composed from several reads: changes between them are not missed."""

from __future__ import annotations

import asyncio
from typing import Any

from auth.resolver import Resolver
from auth.secrets import digest
from auth.system_stores import SYSTEM_STORES
from stores.protocol import Engine, Update
from stores.query import Query
from stores.records import Entity
from tests.support.entities import GROUP, entity, insert


class Halting:
    """An engine that reads groups immediately but returns them only after `go`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def entities(self, store: str, query: Query) -> list[Entity]:
        found = await self._engine.entities(store, query)
        if store == "groups":
            self.reached.set()
            await self.go.wait()
        return found


async def test_a_role_that_changes_while_it_is_read(engine: Engine) -> None:
    """The resolved principal must include changes that the feed has already delivered, because they are not delivered
    again."""
    for definition in SYSTEM_STORES.values():
        await engine.define(definition)
    role = entity(name="reader", scopes=["GET /*"])
    user = entity(login="ada", group=GROUP, roles=[role["_id"]])
    token = entity(name="t", user=user["_id"], digest=digest("secret"))
    for store, made in (("roles", role), ("users", user), ("tokens", token)):
        await insert(engine, made, store=store)
    start = await engine.feed.position()
    halting = Halting(engine)
    resolver = Resolver(halting)  # type: ignore[arg-type]
    resolving = asyncio.create_task(resolver.resolve("secret"))
    await halting.reached.wait()
    await engine.commit([Update("roles", role["_id"], {"scopes": ["GET /units/*"]})], None)
    resolver.forget((await engine.feed.read(start)).changes)
    halting.go.set()
    principal = await resolving
    assert principal.may("GET", "units")
    assert not principal.may("GET", "notes")
