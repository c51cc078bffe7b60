"""The connection of a long list, which is read piece by piece in threads."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from stores.errors import CannotOpen, ReadTimeout, Unavailable
from stores.read_turns import ReadTurns
from stores.sqlite.connection import STREAM_CACHE_KIB, connect, release, time_limit, translated

_MOST_IDLE: Final = 4
"""Connections of long lists that are kept for later ones: opening one takes 0.2 ms."""

END: Final = object()
"""What `Stream.next` returns after the last item."""


class Stream:
    """The connection of one stream, and the generator of its items. One thread at a time uses it."""

    def __init__(self, threads: ThreadPoolExecutor, idle: queue.SimpleQueue[apsw.Connection]) -> None:
        self.began = time.monotonic()
        self._threads = threads
        self._idle = idle
        self._source: tuple[apsw.Connection, Generator[object]] | None = None
        self._item: asyncio.Future[object] | None = None
        """The last item that was begun."""
        self._why_ended: Callable[[], Unavailable] | None = None

    async def open(self, path: Path, produce: Callable[[apsw.Connection], Generator[object]]) -> None:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._threads, _connection_for_stream, path, self._idle)
        self._source = connection, produce(connection)

    async def next(self, turns: ReadTurns) -> object:
        """Return the next item, made in a thread when it gets a turn. Raises Unavailable when the stream has been
        ended."""
        try:
            item = await turns.run_piece(self._begin)
        except ReadTimeout:
            if self._why_ended is None:
                raise
        if self._why_ended is not None:
            raise self._why_ended()
        return item

    def _begin(self, seconds: float) -> asyncio.Future[object]:
        if self._why_ended is not None:
            raise self._why_ended()
        assert self._source is not None
        work = *self._source, seconds, self._is_ended
        self._item = asyncio.get_running_loop().run_in_executor(self._threads, _next, *work)
        return self._item

    def _is_ended(self) -> bool:
        return self._why_ended is not None

    def end(self, why: Callable[[], Unavailable]) -> None:
        """Release the snapshot, and let `next` raise what `why` returns."""
        self._why_ended = why
        self.close()

    def close(self) -> None:
        """Close the generator and release the connection, in a thread, at once or after the item that is being made.
        Not awaited, because the caller may have been cancelled."""
        source, self._source = self._source, None
        if source is None:
            return
        if self._item is None or self._item.done():
            self._finish_in_thread(*source)
        else:
            self._item.add_done_callback(lambda _: self._finish_in_thread(*source))

    def _finish_in_thread(self, connection: apsw.Connection, items: Generator[object]) -> None:
        try:
            self._threads.submit(_finish, connection, items, self._idle)
        except RuntimeError:  # the engine is closed, and its threads have ended
            items.close()
            connection.close()


def _next(connection: apsw.Connection, items: Generator[object], seconds: float, is_over: Callable[[], bool]) -> object:
    try:
        with translated(connection), time_limit(connection, seconds, is_over):
            return next(items, END)
    except BaseException as error:
        release(error)
        raise


def _connection_for_stream(path: Path, idle: queue.SimpleQueue[apsw.Connection]) -> apsw.Connection:
    with suppress(queue.Empty):
        return idle.get_nowait()
    try:
        return connect(path, cache_kib=STREAM_CACHE_KIB)
    except CannotOpen as error:  # the file could be opened before, so a resource is exhausted
        raise Unavailable(str(error)) from error


def _finish(connection: apsw.Connection, items: Generator[object], idle: queue.SimpleQueue[apsw.Connection]) -> None:
    items.close()
    if idle.qsize() < _MOST_IDLE and is_idle(connection):
        idle.put(connection)
    else:
        connection.close()


def is_idle(connection: apsw.Connection) -> bool:
    """Return whether no statement of the connection goes on: one that does keeps its snapshot, in which all later reads
    of the connection would be."""
    return connection.txn_state() == apsw.SQLITE_TXN_NONE
