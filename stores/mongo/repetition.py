"""Decides whether a transaction that has failed is done again, and waits before it is."""

from __future__ import annotations

import asyncio
import random
import time as clock
from collections.abc import Sequence
from typing import Final

from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from stores.errors import Unavailable
from stores.mongo.conflicts import Conflicts
from stores.mongo.connection import META, Connection
from stores.mongo.errors import WRITE_CONFLICT, beyond_cache, code_of, is_beyond_cache
from stores.mongo.planning import is_bulk
from stores.mongo.room import Room
from stores.mongo.structure import KEYS
from stores.protocol import Write

_GIVE_UP_SECONDS: Final = 15.0
_SHORTEST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.2

_CACHE_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts, in which the server writes parts of its full cache to disk: on a busy machine this takes
time."""

_BULK_CACHE_PAUSES: Final = (1.0,)
"""The same for bulk changes: one may write much more than the cache holds, and each attempt takes seconds."""


class Repetition:
    """The attempts of one transaction, which does `writes` and has `room`. `give_up` is the monotonic time from which
    a collision is its last."""

    def __init__(self, connection: Connection, writes: Sequence[Write], room: Room) -> None:
        self.collisions = 0
        self.give_up = clock.monotonic() + _GIVE_UP_SECONDS
        self._room = room
        self._is_bulk = is_bulk(writes)
        self._conflicts = Conflicts(connection)
        self._cache_pauses = iter(_BULK_CACHE_PAUSES if self._is_bulk else _CACHE_PAUSES)
        self._pause = _SHORTEST_PAUSE

    async def after(self, error: PyMongoError) -> None:
        """Return, after a pause, if the transaction may succeed when it is done again. Raises `error` if not,
        InvalidEntity when it does not fit into the server's cache, Unavailable when it has collided for too long."""
        if is_beyond_cache(error) and (wait := next(self._cache_pauses, None)) is not None:
            await asyncio.sleep(wait)  # it keeps its room, so no other large one fills the cache meanwhile
            return
        if not _is_collision(error):
            raise error
        await self._check_collision(error)
        self._room.leave()
        self.collisions += 1
        await asyncio.sleep(random.uniform(0, self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _check_collision(self, error: PyMongoError) -> None:
        stores = {META, KEYS, *self._room.stores}
        may_fill = self._room.is_taken or (self._is_bulk and self._room.is_open_ended)
        if may_fill and not await self._conflicts.explain(error, stores):
            raise beyond_cache() from error
        if clock.monotonic() > self.give_up:
            if code_of(error) != WRITE_CONFLICT:
                raise error
            raise Unavailable("others change the same entities all the time") from error


def _is_collision(error: PyMongoError) -> bool:
    """Return whether a repeated transaction may succeed at once. Without a primary it cannot."""
    return error.has_error_label("TransientTransactionError") and not isinstance(error, ServerSelectionTimeoutError)
