"""The choice of commits that run in the writer thread, because they would block the event loop for too long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import apsw
import orjson

from stores.errors import StoreError
from stores.protocol import DeleteMany, Insert, Procedure, Update, UpdateMany, Upsert, Write

BULK: Final = (UpdateMany, DeleteMany)

HEAVY: Final = 100
"""Writes; a commit of more writes runs in the writer thread."""

HEAVY_BYTES: Final = 262_144
"""Bytes of JSON text; a commit of several writes with more text runs in the writer thread too, as does one that meets
more: the entities that it changes, or the outcome that it had before."""

COMPUTED_BYTES: Final = 16_384
"""Bytes of entities and of what their changes are computed with; a commit that meets more runs in the writer thread."""

_SEARCH_SECONDS: Final = 0.005
"""Seconds that a search in a commit may take on the loop."""

_LOOK_EVERY: Final = 1_000
"""Steps of SQLite's virtual machine between two checks of the clock."""


class TooLongForLoop(StoreError):
    """A commit on the event loop has found that it takes long. Do it in the writer thread. What it has changed is
    undone by its savepoint; a single write, which has none, may have taken numbers of serials, but changed no
    entity."""


def is_heavy(writes: Sequence[Write]) -> bool:
    """Return whether a commit of several writes, or of a bulk change, runs in the writer thread."""
    return len(writes) > HEAVY or any(_is_bulk(write) for write in writes) or is_long(writes)


def _is_bulk(write: Write) -> bool:
    return isinstance(write, BULK) or (isinstance(write, Procedure) and write.bulk)


def is_long(writes: Sequence[Write]) -> bool:
    """Return whether the entities and changes of a commit exceed `HEAVY_BYTES`."""
    size = 0
    for write in writes:
        match write:
            case Insert() | Upsert():
                size += len(orjson.dumps(write.entity))
            case Update():
                size += len(orjson.dumps(write.changes))
        if isinstance(write, Update | Upsert) and write.compute is not None:
            size += write.compute.size
        if size > HEAVY_BYTES:
            return True
    return False


@contextmanager
def short_search(connection: apsw.Connection) -> Iterator[None]:
    """Raise TooLongForLoop if the SELECT statements in the block take long."""
    end = time.perf_counter() + _SEARCH_SECONDS
    connection.set_progress_handler(lambda: time.perf_counter() > end, _LOOK_EVERY)
    try:
        yield
    except apsw.InterruptError:
        raise TooLongForLoop from None
    finally:
        connection.set_progress_handler(None)
