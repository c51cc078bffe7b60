"""Looks again at the entities of a store whose data was changed with its definition.

Another process of the hub on the same database writes by the former definition until it hears of the new one. What it
writes meanwhile is changed as all other entities were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from hub.services.data_steps import changing
from hub.services.registry import StoreRegistry
from hub.services.walking import READ_AT_ONCE, each_entity
from stores.data_changes import DataChange, DataOperations, Obstructed
from stores.errors import NotFound, StoreError
from stores.protocol import Engine
from stores.query import And, Compare, Filter, Or
from stores.records import Entity
from stores.schema import StoreDefinition

log = logging.getLogger(__name__)

LOOKS: Final = (1.0, 5.0, 30.0)
"""Seconds before each look. Processes hear of a definition within a second; one that is busy takes longer."""

EARLIER: Final = 60_000
"""Milliseconds before the commit of the definition from which changed entities are looked at: the clocks of processes
differ."""


class LateWrites:
    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self._engine = engine
        self._registry = registry

    def begin(self, definition: StoreDefinition, operations: DataOperations, since: int, by: str | None) -> None:
        """Look again, in the background, at what was written after `since` (Unix ms), for the user who has changed the
        definition."""
        if self._engine.shared:
            self._registry.run_later(self._look(definition, operations, since - EARLIER, by))

    async def _look(self, definition: StoreDefinition, operations: DataOperations, since: int, by: str | None) -> None:
        change = DataChange(operations, definition)
        recent = Or((Compare(("_at",), "gte", since), Compare(("time",), "gte", since)))
        where = And((recent, change.concerned))
        for pause in LOOKS:
            await asyncio.sleep(pause)
            try:
                await self._mend(definition, change, where, by)
            except StoreError as error:
                log.warning("entities of %s may have their former shape: %s", definition.name, error)

    async def _mend(self, definition: StoreDefinition, change: DataChange, where: Filter, by: str | None) -> None:
        late: list[Entity] = []
        async for entity in self._late(definition, change, where):
            late.append(entity)
            if len(late) == READ_AT_ONCE:
                await self._change(definition, change, late, by)
                late = []
        if late:
            await self._change(definition, change, late, by)

    async def _late(self, definition: StoreDefinition, change: DataChange, where: Filter) -> AsyncIterator[Entity]:
        """Yield the entities that have their former shape."""
        if not self._is_in_force(definition):
            return
        async for entity in each_entity(self._engine, definition.name, where):
            try:
                made = change.of(entity)
            except Obstructed as obstructed:
                text = "%s/%s has its former shape, and cannot be changed: %s"
                log.warning(text, definition.name, entity["_id"], obstructed)
                continue
            if made.fields or made.removed:
                yield entity

    def _is_in_force(self, definition: StoreDefinition) -> bool:
        try:
            current = self._registry.get(definition.name)
        except NotFound:
            return False
        return (current.id, _types(current)) == (definition.id, _types(definition)) and not current.pending

    async def _change(
        self, definition: StoreDefinition, change: DataChange, late: list[Entity], by: str | None
    ) -> None:
        current = self._registry.get(definition.name)
        await self._engine.commit([changing(change, definition, late)], by, definition=current)
        log.info("changed %d entities of %s that were written by its former definition", len(late), definition.name)


def _types(definition: StoreDefinition) -> dict[str, str]:
    return {field.id: field.type for field in definition.fields}
