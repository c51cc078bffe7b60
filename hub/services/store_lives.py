"""Checks that a store has kept its definition since a position of the feed. Changes from before must not be shown: a
field that was removed since may have been hidden then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hub.services.registry import MOST_STORES
from realtime.redefinitions import redefined_by
from stores.errors import HistoryGone
from stores.protocol import Engine
from stores.schema import StoreDefinition


@dataclass(slots=True)
class _Life:
    """The known bounds of the moment when one definition came into force: after `before`, not after `within`. Both are
    orders of the feed."""

    definition: StoreDefinition
    searched: bool
    before: bytes = b""
    within: bytes | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class StoreLives:
    """The audit trail of a definition tells whether it has changed; the answers for the same definition are
    remembered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lives: dict[tuple[str, bool], _Life] = {}

    async def check(self, definition: StoreDefinition, position: str, *, searched: bool = False) -> None:
        """Raise HistoryGone if the definition, which is the present one of its store, was not yet in force at
        `position`, in what it shows, and with `searched` in what a search finds."""
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
        if life is None or not _is_same(life.definition, definition):
            if len(self._lives) >= 2 * MOST_STORES:  # some were of stores that do not exist any more
                self._lives.clear()
            life = self._lives[definition.name, searched] = _Life(definition, searched)
        return life

    async def _look(self, life: _Life, position: str, order: bytes) -> None:
        after: str | None = self._engine.feed.place(position)
        while after is not None:
            page = await self._engine.history("stores", life.definition.id, after)
            if any(redefined_by(entry, life.definition, searched=life.searched) for entry in page.entries):
                life.before = max(life.before, order)
                return
            after = page.next
        life.within = order if life.within is None else min(life.within, order)


def _is_same(one: StoreDefinition, other: StoreDefinition) -> bool:
    return one is other or (one.id == other.id and one.rev == other.rev and one == other)


def _is_known(life: _Life, order: bytes) -> bool:
    return order <= life.before or (life.within is not None and order >= life.within)
