"""Turns of this process's writers at one entity. Users take turns, and each one's writers go in the order in which they
come.

A computed change reads an entity and writes it at the revision that it has read. Without turns, most of many concurrent
ones would be overtaken and repeated, and one of them again and again. The same goes for procedures, which take several
exchanges with the server. Other changes of one entity join in while these wait: they never fail, so they would overtake
all the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from stores.mongo.room import longest_wait
from stores.paths import value_at
from stores.protocol import Delete, Place, Procedure, Update, Upsert, Write
from stores.turns import Places

_MOST_IN_TURN: Final = 500
"""Entities for whose turns one commit waits. With more, the commit relies on being repeated."""


class EntityTurns:
    def __init__(self) -> None:
        self._turns: WeakValueDictionary[Place, Places] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, writes: Sequence[Write], by: str | None) -> AsyncIterator[None]:
        """Wait for the turns of a user's commit at its entities, and hold them while the block runs. Raises
        TooManySlowWrites."""
        places = self._places(writes)
        if not places:
            yield
            return
        async with AsyncExitStack() as held:
            async with longest_wait():
                for place in places:
                    turns = self._turns.setdefault(place, Places(most=1, each=1))
                    await held.enter_async_context(turns.place(by or ""))
            yield

    def _places(self, writes: Sequence[Write]) -> list[Place]:
        """Return the places at which the commit waits, in the same order for all commits."""
        places: set[Place] = set()
        others: list[Update | Upsert | Delete] = []
        for write in writes:
            if isinstance(write, Procedure):
                places.update(write.places)
            elif isinstance(write, Delete) or (isinstance(write, Update | Upsert) and write.compute is None):
                others.append(write)
            elif isinstance(write, Update | Upsert) and (place := _place_of(write)) is not None:
                places.add(place)
        if len(others) <= _MOST_IN_TURN:
            places.update(place for w in others if (place := _place_of(w)) is not None and place in self._turns)
        return sorted(places, key=repr) if len(places) <= _MOST_IN_TURN else []


def _place_of(write: Update | Upsert | Delete) -> Place | None:
    if isinstance(write, Update | Delete):
        return write.store, "_id", write.id
    value = value_at(write.entity, write.key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # equal numbers are one place, and have one order
    # True would equal 1, but have another place in the order.
    return None if value is None or isinstance(value, bool) else (write.store, write.key, value)
