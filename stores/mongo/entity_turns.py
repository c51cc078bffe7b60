"""Turns of this process's writers at one entity. Users take turns, and each one's writers go in the order in which they
come.

A computed change reads an entity and writes it at the revision that it has read. Without turns, most of many concurrent
ones would be overtaken and repeated, and one of them again and again. The same goes for procedures, which take several
exchanges with the server. Other changes of one entity join in while these wait: they never fail, so they would overtake
all the others.

A counter of stamps has turns, too: of two transactions that take stamps from it, one is repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

from stores.mongo.room import longest_wait
from stores.numbers import whole_number
from stores.paths import value_at
from stores.protocol import Delete, EntityKey, Insert, Procedure, Update, UpdateMany, Upsert, Write
from stores.superseded import changed_definitions
from stores.turns import FairSemaphore

_MOST_IN_TURN: Final = 500
"""Entities for whose turns one commit waits. With more, the commit relies on being repeated."""

_STAMP: Final = "stamp"
"""The path in the key of a counter of stamps: its store has no name."""


class EntityTurns:
    def __init__(self) -> None:
        self._turns: WeakValueDictionary[EntityKey, FairSemaphore] = WeakValueDictionary()

    def of(self, writes: Sequence[Write], by: str | None) -> AbstractAsyncContextManager[None]:
        """Wait for the turns of a user's commit at its entities, and hold them while the block runs. Raises
        TooManySlowWrites."""
        keys = self._keys(writes)
        return self._turn(keys, by) if keys else nullcontext()

    @asynccontextmanager
    async def _turn(self, keys: Sequence[EntityKey], by: str | None) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            async with longest_wait():
                for key in keys:
                    turns = self._turns.setdefault(key, FairSemaphore(most=1, each=1))
                    await stack.enter_async_context(turns.slot(by or ""))
            yield

    def _keys(self, writes: Sequence[Write]) -> list[EntityKey]:
        """Return the keys of the entities for which the commit waits, in the same order for all commits."""
        keys: set[EntityKey] = set()
        others: list[Update | Upsert | Delete] = []
        for write in writes:
            if isinstance(write, Procedure):
                keys.update(write.keys)
            elif isinstance(write, Delete) or (isinstance(write, Update | Upsert) and write.compute is None):
                others.append(write)
            elif isinstance(write, Update | Upsert) and (key := _key_of(write)) is not None:
                keys.add(key)
        if len(others) <= _MOST_IN_TURN:
            keys.update(key for w in others if (key := _key_of(w)) is not None and key in self._turns)
        if len(keys) > _MOST_IN_TURN:
            keys = set()
        return sorted(keys | _counters_of(writes), key=repr)


def _counters_of(writes: Sequence[Write]) -> set[EntityKey]:
    """Return the keys of the counters from which a commit takes stamps. One that changes a definition waits for those
    who rely on it, and who may wait for a turn: it relies on being repeated."""
    if changed_definitions(writes):
        return set()
    stamping = (write for write in writes if isinstance(write, Insert | Update | Upsert | UpdateMany | Procedure))
    return {("", _STAMP, stamp.counter) for write in stamping for stamp in write.stamps}


def _key_of(write: Update | Upsert | Delete) -> EntityKey | None:
    if isinstance(write, Update | Delete):
        return write.store, "_id", write.id
    value = value_at(write.entity, write.key)
    if isinstance(value, float):
        value = whole_number(value)  # equal numbers are one key, and have one place in the order
    # True would equal 1, but has another place in the order.
    return None if value is None or isinstance(value, bool) else (write.store, write.key, value)
