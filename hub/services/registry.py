"""The stores there are: the standard ones, and those that an administrator has defined."""

from __future__ import annotations

import logging

from auth.standard import STANDARD
from stores.errors import DuplicateValue, InvalidEntity, NotFound
from stores.protocol import Engine
from stores.query import Query
from stores.records import Change
from stores.schema import StoreDefinition, parse_definition

log = logging.getLogger(__name__)

RESERVED = frozenset({*STANDARD, "auth"})
"""Names that no defined store can have: the standard stores', and a path of the API."""

MOST_STORES = 10_000


class StoreRegistry:
    """Kept in step with the store `stores`: by the service that writes it, and by the feed for other writers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._defined: dict[str, StoreDefinition] = {}

    def get(self, name: str) -> StoreDefinition:
        """Raises NotFound for a store that is not defined."""
        found = STANDARD.get(name) or self._defined.get(name)
        if found is None:
            raise NotFound(f"no store {name}")
        return found

    def all(self) -> list[StoreDefinition]:
        """Every store, the standard ones first."""
        return [*STANDARD.values(), *self._defined.values()]

    async def open(self) -> None:
        """Make the engine hold what is defined; a definition that it cannot hold is logged and left out."""
        for definition in STANDARD.values():
            await self._engine.define(definition)
        await self.refresh()

    async def refresh(self) -> None:
        entities = await self._engine.entities("stores", Query(limit=MOST_STORES))
        defined: dict[str, StoreDefinition] = {}
        for entity in entities:
            try:
                definition = parse_definition(entity)
                if self._defined.get(definition.name) != definition:
                    await self._engine.define(definition)
            except (InvalidEntity, DuplicateValue) as error:
                log.error("store %r is not served: %s", entity.get("name"), error)
                continue
            defined[definition.name] = definition
        self._defined = defined

    async def follow(self, changes: list[Change]) -> None:
        if any(change.store == "stores" for change in changes):
            await self.refresh()
