"""Reads that hold nobody up: quick ones run on the loop, one that takes longer starts again in a reader thread."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar, cast

import apsw

from stores.bounds import Limit
from stores.errors import CannotOpen, ReadTimeout, Unavailable
from stores.read_turns import ReadLimits, ReadTurns
from stores.sqlite.allowance import ON_LOOP, TakesLonger, allowance
from stores.sqlite.connection import CACHE_KIB, STREAM_CACHE_KIB, connect, time_limit, translated

T = TypeVar("T")

MOST_STREAMS: Annotated[int, Limit("process", "long lists", "503")] = 256
"""Long lists that may be on their way to clients at once; each holds a snapshot of the file."""
Read = Callable[[apsw.Connection], T]

QUICK = 0.002
"""Seconds that a read may take on the loop before it is moved to a thread."""

_MOMENT: Final = 0.1
"""Seconds that a read has in a thread while there is no turn for long ones."""

_MOMENTS: Final = 2
"""Reads that have a moment at the same time, each of another user."""

_MOMENT_CACHE_KIB: Final = 4_096

_MOST_IDLE: Final = 4
"""Connections of long lists that are kept for the next ones: to open one takes 0.2 ms."""

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


def read_limits(threads: int, timeout: float, waiting: int) -> ReadLimits:
    """`threads`: of long reads, and of long lists."""
    return ReadLimits(
        long=(threads, max(1, threads // 4)),
        short=(_MOMENTS, 1, 1),
        pieces=(threads, max(1, threads // 2)),
        moment=_MOMENT,
        timeout=timeout,
        waiting=waiting,
        name="reader_threads",
    )


def own_connections(threads: int) -> int:
    """Connections that `Readers` keeps open: for long reads, moments, housekeeping and the loop."""
    return threads + _MOMENTS + 2


class Readers:
    """`threads` connections for long reads, some for moments, and one of the loop's own. `timeout`: seconds that a read
    may take, or wait for its turn, or a stream until its next item. `waiting`: long reads of one user that wait.
    `streams`: long lists at a time."""

    def __init__(self, path: Path, threads: int, timeout: float, waiting: int, streams: int = MOST_STREAMS) -> None:
        self._most_streams = streams
        self._timeout = timeout
        self._deadline = 0.0
        self._own = connect(path)
        allowance.claim()
        self._own.set_progress_handler(lambda: time.perf_counter() > self._deadline, _CHECK_EVERY)
        self._idle = _connections(path, threads)
        self._idle_moments = _connections(path, _MOMENTS, _MOMENT_CACHE_KIB)
        self._housekeeping = _connections(path, 1, _MOMENT_CACHE_KIB)
        self._turns = ReadTurns(read_limits(threads, timeout, waiting), ReadTimeout)
        # With room for long lists, and for two that are begun or ended.
        self._threads = ThreadPoolExecutor(2 * threads + _MOMENTS + 2, "hub-sqlite-reader")
        self._housekeeper = ThreadPoolExecutor(1, "hub-sqlite-housekeeper")
        self._closed = False
        self._path = path
        self._streams: set[_Stream] = set()
        self._idle_for_streams: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        self.streams_wait = False
        """Whether no stream may begin."""

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for pool in (self._threads, self._housekeeper):
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        self._own.close()
        for connections in (self._idle, self._idle_moments, self._housekeeping, self._idle_for_streams):
            while not connections.empty():
                connections.get().close()

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

    async def in_thread(self, read: Read[T]) -> T:
        """The same of what is too long for the loop, as it is known."""

        def begin(seconds: float) -> asyncio.Future[T]:
            if self._closed:
                raise Unavailable("the store is closed")
            idle = self._idle if seconds >= self._timeout else self._idle_moments
            return asyncio.get_running_loop().run_in_executor(self._threads, _read_with, idle, read, seconds)

        return await self._turns.run(begin)

    async def unhurried(self, read: Read[T], seconds: float) -> T:
        """The result of a read of the hub's own, which may take so many seconds: one at a time."""
        if self._closed:
            raise Unavailable("the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._housekeeper, _read_with, self._housekeeping, read, seconds)

    async def stream(self, produce: Callable[[apsw.Connection], Generator[T]]) -> AsyncGenerator[T]:
        """What `produce` yields, each item made in a thread when it is asked for. A stream has a connection of its own
        and holds no thread while whoever takes the items is slow. Raises Unavailable when there are too many, and when
        the stream is ended because it takes too long."""
        if self._closed:
            raise Unavailable("the store is closed")
        if len(self._streams) >= self._most_streams:
            raise Unavailable(f"{self._most_streams} long lists are being read").at("MOST_STREAMS")
        if self.streams_wait:
            raise _log_too_long()
        stream = _Stream(self._threads, self._idle_for_streams)
        self._streams.add(stream)
        try:
            await stream.open(self._path, produce)
            while (item := await stream.next(self._turns)) is not _END:
                yield cast(T, item)
        finally:
            self._streams.discard(stream)
            stream.close()

    @property
    def is_streaming(self) -> bool:
        return bool(self._streams)

    def end_long_streams(self) -> None:
        """End the streams that have taken longer than a read may: their snapshots hold up SQLite's log."""
        began = time.monotonic() - self._timeout
        for stream in [each for each in self._streams if each.began < began]:
            stream.end()


_END: Final = object()


class _Stream:
    """The connection of one stream, and what makes its items. It is used by one thread at a time."""

    def __init__(self, threads: ThreadPoolExecutor, idle: queue.SimpleQueue[apsw.Connection]) -> None:
        self.began = time.monotonic()
        self._threads = threads
        self._idle = idle
        self._source: tuple[apsw.Connection, Generator[object]] | None = None
        self._is_busy = self._is_ended = False

    async def open(self, path: Path, produce: Callable[[apsw.Connection], Generator[object]]) -> None:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._threads, _connection_for_stream, path, self._idle)
        self._source = connection, produce(connection)

    async def next(self, turns: ReadTurns) -> object:
        """The next item, made in a thread when there is a turn for it. Raises Unavailable when the stream has been
        ended."""
        if self._source is None:
            raise _log_too_long()
        self._is_busy = True
        item = await turns.run_piece(partial(self._begin, *self._source))
        self._is_busy = False
        if self._is_ended:
            raise _log_too_long()
        return item

    def _begin(self, connection: apsw.Connection, items: Generator[object], seconds: float) -> asyncio.Future[object]:
        if self._is_ended:
            raise _log_too_long()
        return asyncio.get_running_loop().run_in_executor(self._threads, _next, connection, items, seconds)

    def end(self) -> None:
        """Give the snapshot back, at once or with the item that is being made."""
        self._is_ended = True
        if not self._is_busy:
            self.close()

    def close(self) -> None:
        """Not awaited: whoever has gone away may have been cancelled. Threads of the pool outlive this."""
        source, self._source = self._source, None
        if source is not None:
            self._threads.submit(_finish, *source, self._idle)


def _log_too_long() -> Unavailable:
    return Unavailable("slow readers hold up SQLite's log").at("sqlite_log_mb")


def _connections(path: Path, count: int, cache_kib: int = CACHE_KIB) -> queue.SimpleQueue[apsw.Connection]:
    connections: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
    for _ in range(count):
        connections.put(connect(path, cache_kib=cache_kib))
    return connections


def _read_with(idle: queue.SimpleQueue[apsw.Connection], read: Read[T], seconds: float) -> T:
    connection = idle.get()
    try:
        with translated(connection), time_limit(connection, seconds):
            return read(connection)
    finally:
        idle.put(connection)


def _next(connection: apsw.Connection, items: Generator[object], seconds: float) -> object:
    with translated(connection), time_limit(connection, seconds):
        return next(items, _END)


def _connection_for_stream(path: Path, idle: queue.SimpleQueue[apsw.Connection]) -> apsw.Connection:
    with suppress(queue.Empty):
        return idle.get_nowait()
    try:
        return connect(path, cache_kib=STREAM_CACHE_KIB)
    except CannotOpen as error:  # it could be opened before: something has run out
        raise Unavailable(str(error)) from error


def _finish(connection: apsw.Connection, items: Generator[object], idle: queue.SimpleQueue[apsw.Connection]) -> None:
    items.close()
    if idle.qsize() < _MOST_IDLE and not connection.in_transaction:
        idle.put(connection)
    else:
        connection.close()
