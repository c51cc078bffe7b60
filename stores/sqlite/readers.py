"""Reads that hold nobody up: quick ones run on the loop, one that takes longer starts again in a reader thread."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from stores.errors import Unavailable
from stores.sqlite.connection import connect, translated

T = TypeVar("T")
Read = Callable[[apsw.Connection], T]

QUICK = 0.002
"""Seconds that a read may take on the loop before it is moved to a thread."""

_CHECK_EVERY = 1_000  # steps of SQLite's virtual machine between looks at the clock: some 50 µs


@contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """All reads inside see the database at one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


class Readers:
    """`threads` connections for long reads, and one of the loop's own."""

    def __init__(self, path: Path, threads: int) -> None:
        self._deadline = 0.0
        self._own = connect(path)
        self._own.set_progress_handler(lambda: time.perf_counter() > self._deadline, _CHECK_EVERY)
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for _ in range(threads):
            self._idle.put(connect(path))
        self._threads = ThreadPoolExecutor(threads, "hub-sqlite-reader")
        self._count = threads
        self._closed = False

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
        try:
            with translated(self._own):
                try:
                    return read(self._own)
                except apsw.InterruptError:
                    pass
        finally:
            # A read that failed or was cut short may have left its snapshot open: the clock can stop ROLLBACK too.
            if self._own.in_transaction:
                self._deadline = math.inf
                self._own.execute("ROLLBACK")
        return await self.in_thread(read)

    async def in_thread(self, read: Read[T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_connection, read)

    def _with_connection(self, read: Read[T]) -> T:
        connection = self._idle.get()
        try:
            with translated(connection):
                return read(connection)
        finally:
            self._idle.put(connection)

    async def stream(self, produce: Callable[[apsw.Connection], Iterator[T]]) -> AsyncIterator[T]:
        """What `produce` yields, made in a thread at most a few items ahead of whoever takes them."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[T | BaseException | None] = asyncio.Queue(maxsize=4)
        stopped = False

        def put(item: T | BaseException | None) -> None:
            asyncio.run_coroutine_threadsafe(ready.put(item), loop).result()

        def work(connection: apsw.Connection) -> None:
            for item in produce(connection):
                if stopped:
                    return
                put(item)

        def run() -> None:
            try:
                self._with_connection(work)
                end: BaseException | None = None
            except BaseException as error:
                end = error
            if not stopped:
                put(end)

        task = loop.run_in_executor(self._threads, run)
        try:
            while (item := await ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped = True
            while not task.done():  # it may wait for room in the queue
                while not ready.empty():
                    ready.get_nowait()
                await asyncio.wait([task], timeout=0.05)
