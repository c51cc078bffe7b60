"""Checks that a store has kept its definition since a position of the feed. Changes from before must not be shown: a
field that was removed since may have been hidden then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from hub.services.registry import MOST_STORES, StoreRegistry
from realtime.key_changes import rekeyed_by
from realtime.redefinitions import redefined_by
from stores.errors import HistoryGone
from stores.protocol import Engine
from stores.records import HistoryEntry
from stores.schema import StoreDefinition


@dataclass(slots=True)
class _Life:
    """The known bounds of the moment when one definition came into force: after `before`, not after `within`. Both are
    orders of the feed. `keys` are the definitions of the stores by whose fields it refers."""

    definition: StoreDefinition
    keys: tuple[StoreDefinition, ...]
    searched: bool
    before: bytes = b""
    within: bytes | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class StoreLives:
    """Checks positions against the time since when the present definition of a store is in force. It reads the audit
    trail of the definition, and caches the result for each definition."""

    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self._engine = engine
        self._registry = registry
        self._lives: dict[tuple[str, bool], _Life] = {}

    async def check(self, definition: StoreDefinition, position: str, *, searched: bool = False) -> None:
        """Raise HistoryGone if the definition, which is the present one of its store, was not yet in force at
        `position`, in what it shows, in the types of its references, and with `searched` in what a search finds."""
        if definition.system:
            return
        life = self._life(definition, searched)
        order = self._engine.feed.order(position)
        if not _is_known(life, order):
            async with life.reading:
                if not _is_known(life, order):
                    await self._look(life, position, order)
        if order <= life.before:
            raise HistoryGone(f"{definition.name} has been redefined since that position")

    def _life(self, definition: StoreDefinition, searched: bool) -> _Life:
        life = self._lives.get((definition.name, searched))
        keys = self._keys_of(definition)
        if life is None or not _is_same(life, definition, keys):
            if len(self._lives) >= 2 * MOST_STORES:  # some were of stores that do not exist any more
                self._lives.clear()
            life = self._lives[definition.name, searched] = _Life(definition, keys, searched)
        return life

    def _keys_of(self, definition: StoreDefinition) -> tuple[StoreDefinition, ...]:
        """Return the definitions of the other stores by whose fields references refer. Those of system stores do not
        change."""
        stores = sorted({store for store, _ in definition.key_types} - {definition.name})
        found = [self._registry.get(store) for store in stores if self._registry.id_of(store) is not None]
        return tuple(found)

    async def _look(self, life: _Life, position: str, order: bytes) -> None:
        own = partial(redefined_by, definition=life.definition, searched=life.searched)
        looks: list[tuple[str, Callable[[HistoryEntry], bool]]] = [(life.definition.id, own)]
        for key in life.keys:
            names = {field for store, field in life.definition.key_types if store == key.name}
            looks.append((key.id, partial(rekeyed_by, names=names)))
        for id, is_redefined in looks:
            if await self._finds(id, position, is_redefined):
                life.before = max(life.before, order)
                return
        life.within = order if life.within is None else min(life.within, order)

    async def _finds(self, id: str, position: str, wanted: Callable[[HistoryEntry], bool]) -> bool:
        """Return whether the audit trail of a definition has such an entry after the position."""
        after: str | None = self._engine.feed.place(position)
        while after is not None:
            page = await self._engine.history("stores", id, after)
            if any(map(wanted, page.entries)):
                return True
            after = page.next
        return False


def _is_same(life: _Life, definition: StoreDefinition, keys: Sequence[StoreDefinition]) -> bool:
    if len(life.keys) != len(keys) or not _is_same_definition(life.definition, definition):
        return False
    return all(map(_is_same_definition, life.keys, keys))


def _is_same_definition(one: StoreDefinition, other: StoreDefinition) -> bool:
    return one is other or (one.id == other.id and one.rev == other.rev and one == other)


def _is_known(life: _Life, order: bytes) -> bool:
    return order <= life.before or (life.within is not None and order >= life.within)
