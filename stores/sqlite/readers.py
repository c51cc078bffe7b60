"""Reads that hold nobody up: quick ones run on the loop, one that takes longer starts again in a reader thread."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final, TypeVar, cast

import apsw

from stores.bounds import Limit
from stores.errors import CannotOpen, Unavailable
from stores.sqlite.allowance import ON_LOOP, TakesLonger, allowance
from stores.sqlite.connection import STREAM_CACHE_KIB, connect, time_limit, translated

T = TypeVar("T")

MOST_STREAMS: Annotated[int, Limit("process", "long lists", "503")] = 256
"""Long lists that may be on their way to clients at once; each holds a snapshot of the file."""
Read = Callable[[apsw.Connection], T]

QUICK = 0.002
"""Seconds that a read may take on the loop before it is moved to a thread."""

_CHECK_EVERY = 250
"""Steps of SQLite's virtual machine between looks at the clock: some 10 µs, and with the largest entities 20 ms."""


class snapshot:  # noqa: N801 (used like a function)
    """Context manager: all reads inside see the database at one moment. No generator, which takes three times as
    long."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")


class Readers:
    """`threads` connections for long reads, and one of the loop's own. `timeout`: seconds that a read may take, or a
    stream until its next item."""

    def __init__(self, path: Path, threads: int, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = 0.0
        self._own = connect(path)
        allowance.claim()
        self._own.set_progress_handler(lambda: time.perf_counter() > self._deadline, _CHECK_EVERY)
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for _ in range(threads):
            self._idle.put(connect(path))
        self._threads = ThreadPoolExecutor(threads, "hub-sqlite-reader")
        self._count = threads
        self._closed = False
        self._path = path
        self._streams: set[_Stream] = set()
        self.streams_wait = False
        """Whether no stream may begin."""

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._own.close()
        for _ in range(self._count):
            self._idle.get().close()

    async def run(self, read: Read[T]) -> T:
        """The result of `read`, which may be started twice: it must not change anything."""
        if self._closed:
            raise Unavailable("the store is closed")
        self._deadline = time.perf_counter() + QUICK
        allowance.steps = ON_LOOP
        try:
            with translated(self._own):
                try:
                    return read(self._own)
                except (apsw.InterruptError, TakesLonger):
                    pass
        finally:
            allowance.steps = math.inf
            # A read that failed or was cut short may have left its snapshot open: the clock can stop ROLLBACK too.
            if self._own.in_transaction:
                self._deadline = math.inf
                self._own.execute("ROLLBACK")
        return await self.in_thread(read)

    async def in_thread(self, read: Read[T], timeout: float | None = None) -> T:
        """`timeout`: another than that of all reads, in seconds."""
        if self._closed:
            raise Unavailable("the store is closed")
        seconds = timeout or self._timeout
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_connection, read, seconds)

    def _with_connection(self, read: Read[T], seconds: float) -> T:
        connection = self._idle.get()
        try:
            with translated(connection), time_limit(connection, seconds):
                return read(connection)
        finally:
            self._idle.put(connection)

    async def stream(self, produce: Callable[[apsw.Connection], Generator[T]]) -> AsyncGenerator[T]:
        """What `produce` yields, each item made in a thread when it is asked for. A stream has a connection of its own
        and holds no thread while whoever takes the items is slow. Raises Unavailable when there are too many, and when
        the stream is ended because it takes too long."""
        if self._closed:
            raise Unavailable("the store is closed")
        if len(self._streams) >= MOST_STREAMS:
            raise Unavailable(f"{MOST_STREAMS} long lists are being read").at("MOST_STREAMS")
        if self.streams_wait:
            raise _log_too_long()
        stream = _Stream(self._threads)
        self._streams.add(stream)
        try:
            await stream.open(self._path, produce)
            while (item := await stream.next(self._next)) is not _END:
                yield cast(T, item)
        finally:
            self._streams.discard(stream)
            stream.close()

    def end_long_streams(self) -> None:
        """End the streams that have taken longer than a read may: their snapshots hold up SQLite's log."""
        began = time.monotonic() - self._timeout
        for stream in [each for each in self._streams if each.began < began]:
            stream.end()

    def _next(self, connection: apsw.Connection, items: Generator[object]) -> object:
        with translated(connection), time_limit(connection, self._timeout):
            return next(items, _END)


_END: Final = object()


class _Stream:
    """The connection of one stream, and what makes its items. It is used by one thread at a time."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.began = time.monotonic()
        self._threads = threads
        self._source: tuple[apsw.Connection, Generator[object]] | None = None
        self._is_busy = self._is_ended = False

    async def open(self, path: Path, produce: Callable[[apsw.Connection], Generator[object]]) -> None:
        connection = await asyncio.get_running_loop().run_in_executor(self._threads, _connect_for_stream, path)
        self._source = connection, produce(connection)

    async def next(self, take: Callable[[apsw.Connection, Generator[object]], object]) -> object:
        """The result of `take`, in a thread. Raises Unavailable when the stream has been ended."""
        if self._is_ended or self._source is None:
            raise _log_too_long()
        self._is_busy = True
        item = await asyncio.get_running_loop().run_in_executor(self._threads, take, *self._source)
        self._is_busy = False
        if self._is_ended:
            raise _log_too_long()
        return item

    def end(self) -> None:
        """Give the snapshot back, at once or with the item that is being made."""
        self._is_ended = True
        if not self._is_busy:
            self.close()

    def close(self) -> None:
        """Not awaited: whoever has gone away may have been cancelled. Threads of the pool outlive this."""
        source, self._source = self._source, None
        if source is not None:
            self._threads.submit(_finish, *source)


def _log_too_long() -> Unavailable:
    return Unavailable("slow readers hold up SQLite's log").at("sqlite_log_mb")


def _connect_for_stream(path: Path) -> apsw.Connection:
    try:
        return connect(path, cache_kib=STREAM_CACHE_KIB)
    except CannotOpen as error:  # it could be opened before: something has run out
        raise Unavailable(str(error)) from error


def _finish(connection: apsw.Connection, items: Generator[object]) -> None:
    items.close()
    connection.close()
