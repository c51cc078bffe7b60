"""Delta sync: what has changed in a view of a store since a position."""

from __future__ import annotations

from dataclasses import dataclass

from auth.policy import sight
from auth.positions import give, take
from auth.principal import Principal
from hub.services.checks import shown
from hub.services.registry import StoreRegistry
from realtime.view import View, ViewChange, check_same_store
from stores.protocol import Engine
from stores.query import Filter, Projection, both

READ_AT_ONCE = 1_000
ROUNDS = 10
"""Reads of the feed for one answer: a store that hardly changes beside a busy one must not hold the request up."""


@dataclass(frozen=True, slots=True)
class Delta:
    """`position` resumes after `changes`; `more`: ask again at once."""

    changes: list[ViewChange]
    position: str
    more: bool


class DeltaService:
    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self._engine = engine
        self._registry = registry

    async def since(
        self, principal: Principal, store: str, position: str, where: Filter, projection: Projection, limit: int
    ) -> Delta:
        """At most `limit` changes. Raises HistoryGone when the position is not known (any more), and when what the
        principal can see is not what it was: then only a fresh list is right."""
        definition = self._registry.get(store)
        seen = both(sight(principal, definition, "GET"), where)
        position = take(position, principal)
        view = View(store, seen, shown(definition, projection))
        found: list[ViewChange] = []
        for _ in range(ROUNDS):
            batch = await self._engine.feed.read(position, min(READ_AT_ONCE, limit - len(found)))
            check_same_store(store, batch.changes)
            found += [event for event in map(view.of, batch.changes) if event is not None]
            position = batch.position
            if not batch.more or len(found) >= limit:
                return Delta(found, give(position, principal), batch.more)
        return Delta(found, give(position, principal), True)
