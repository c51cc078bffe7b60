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
from stores.errors import Unavailable
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
        self._streams = 0

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
        and holds no thread while whoever takes the items is slow. Raises Unavailable when there are too many."""
        if self._closed:
            raise Unavailable("the store is closed")
        if self._streams >= MOST_STREAMS:
            raise Unavailable(f"{MOST_STREAMS} long lists are being read").at("MOST_STREAMS")
        loop = asyncio.get_running_loop()
        self._streams += 1
        try:
            connection = await loop.run_in_executor(self._threads, _connect_for_stream, self._path)
            items = produce(connection)
            try:
                while (item := await loop.run_in_executor(self._threads, self._next, connection, items)) is not _END:
                    yield cast(T, item)
            finally:
                # Not awaited: whoever has gone away may have been cancelled. Threads of the pool outlive this.
                self._threads.submit(_finish, connection, items)
        finally:
            self._streams -= 1

    def _next(self, connection: apsw.Connection, items: Generator[object]) -> object:
        with translated(connection), time_limit(connection, self._timeout):
            return next(items, _END)


_END: Final = object()


def _connect_for_stream(path: Path) -> apsw.Connection:
    return connect(path, cache_kib=STREAM_CACHE_KIB)


def _finish(connection: apsw.Connection, items: Generator[object]) -> None:
    items.close()
    connection.close()
