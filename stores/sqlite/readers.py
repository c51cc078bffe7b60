"""Reads that do not block the event loop: quick ones run on it, and slower ones start again in a reader thread."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeVar, cast

import apsw

from stores.bounds import Limit
from stores.errors import CannotOpen, ReadTimeout, Unavailable
from stores.read_turns import READER, ReadLimits, ReadTurns
from stores.sqlite.allowance import ON_LOOP, AllowanceSpent, allowance
from stores.sqlite.connection import (
    CACHE_KIB,
    connect,
    release,
    time_limit,
    translate,
    translated,
)
from stores.sqlite.streams import END, Stream, is_idle
from stores.threads import lower_priority
from stores.turns import LoopTime

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_STREAMS: Annotated[int, Limit("process", "long lists", "503")] = 256
"""Long lists that may be sent to clients at once; each holds a snapshot of the file."""
Read = Callable[[apsw.Connection], T]

QUICK = 0.002
"""Seconds that a read may take on the loop before it is moved to a thread."""

_NOTABLE: Final = 0.0005
"""Seconds of a read on the loop from which it counts in the loop's time: most reads take less."""

_MOMENT: Final = 0.1
"""Seconds of a read in a short slot of a thread (see `stores.read_turns`)."""

_MOMENTS: Final = 2
"""Reads in short slots at the same time, each of another user."""

_MOMENT_CACHE_KIB: Final = 4_096

_CHECK_EVERY = 250
"""Steps of SQLite's virtual machine between checks of the clock: about 10 µs, and with the largest entities 20 ms."""


class snapshot:  # noqa: N801 (used like a function)
    """Context manager in which all reads see one snapshot of the database. A class, because a generator takes three
    times as long."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("ROLLBACK")


def read_limits(threads: int, timeout: float, waiting: int) -> ReadLimits:
    """Return the limits of `stores.read_turns`. `threads`: threads for long reads, and as many for long lists."""
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
    """Return how many connections `Readers` keeps open: for long reads, moments, housekeeping and the loop."""
    return threads + _MOMENTS + 2


class Readers:
    """The connections and threads for reads, on the event loop and off it.

    Args:
        path: the database file.
        threads: connections, and threads, for long reads.
        timeout: seconds that a read may take, that it may wait for its turn, and that the next item of a stream may
            take.
        waiting: long reads of one user that may wait.
        streams: long lists at a time.
    """

    def __init__(self, path: Path, threads: int, timeout: float, waiting: int, streams: int = MOST_STREAMS) -> None:
        self._most_streams = streams
        self._timeout = timeout
        self._deadline = math.inf
        self._own, self._known_schema = _with_schema(path)
        self._own.set_progress_handler(self._is_late, _CHECK_EVERY)
        self._renewing: asyncio.Task[None] | None = None
        self._loop_time = LoopTime(QUICK)
        allowance.claim()
        self._idle = _connections(path, threads)
        self._idle_moments = _connections(path, _MOMENTS, _MOMENT_CACHE_KIB)
        self._housekeeping = _connections(path, 1, _MOMENT_CACHE_KIB)
        self._turns = ReadTurns(read_limits(threads, timeout, waiting), ReadTimeout)
        self._long_threads = ThreadPoolExecutor(threads, "hub-sqlite-long-reader", lower_priority)
        # Threads for pieces of long lists, for moments, and for two lists that begin or end.
        self._threads = ThreadPoolExecutor(threads + _MOMENTS + 2, "hub-sqlite-reader")
        self._housekeeper = ThreadPoolExecutor(1, "hub-sqlite-housekeeper", lower_priority)
        self._closed = False
        self._path = path
        self._streams: set[Stream] = set()
        self._idle_for_streams: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        self.streams_wait = False
        """Whether new streams are rejected."""

    async def close(self) -> None:
        """End the running reads and streams, and close their connections."""
        if self._closed:
            return
        self._closed = True
        for stream in self._streams:
            stream.end(_closed)
        if self._renewing is not None:
            await self._renewing
        for pool in (self._long_threads, self._threads, self._housekeeper):
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        self._own.close()
        for connections in (self._idle, self._idle_moments, self._housekeeping, self._idle_for_streams):
            while not connections.empty():
                connections.get().close()

    async def run(self, read: Read[T]) -> T:
        """Run `read` on the loop, or in a thread if it takes longer, and return its result. It may be started twice, so
        it must not change anything."""
        if self._loop_time.is_over:
            await self._loop_time.wait(READER.get())
        if self._closed:
            raise _closed()
        began = time.perf_counter()
        self._deadline = began + QUICK
        allowance.steps = ON_LOOP
        try:
            try:
                return read(self._own)
            except (apsw.InterruptError, AllowanceSpent) as error:
                release(error)
            except apsw.Error as error:  # as in `translated`, whose three calls take longer than the search for an id
                raise translate(self._own, error) from error
        except BaseException as error:
            release(error)
            raise
        finally:
            allowance.steps = math.inf
            if (took := time.perf_counter() - began) > _NOTABLE:
                self._loop_time.add(took)
            # A read that failed or was interrupted may have left its snapshot open. The deadline is removed, since it
            # could interrupt ROLLBACK too.
            if self._own.in_transaction:
                self._deadline = math.inf
                self._own.execute("ROLLBACK")
        self._renew_if_outdated()
        return await self.in_thread(read)

    def _is_late(self) -> bool:
        return time.perf_counter() > self._deadline

    def _renew_if_outdated(self) -> None:
        """Replace the loop's connection if the schema has changed.

        SQLite reads the whole schema again for the first statement after a change. With many stores that exceeds the
        loop's deadline every time, so the connection would never finish it.
        """
        self._deadline = math.inf
        if self._renewing is None and _schema_version(self._own) != self._known_schema:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Open a connection, read the schema in a thread, and let the loop use it."""
        try:
            made, version = await asyncio.get_running_loop().run_in_executor(self._threads, _with_schema, self._path)
            self._own.close()
            self._own, self._known_schema = made, version
            made.set_progress_handler(self._is_late, _CHECK_EVERY)
        except (CannotOpen, apsw.Error) as error:
            log.warning("SQLite's schema could not be read for the loop: %s", error)  # the next long read tries again
        finally:
            self._renewing = None

    async def in_thread(self, read: Read[T]) -> T:
        """Run `read`, known to be too long for the loop, in a thread, and return its result."""

        def begin(seconds: float) -> asyncio.Future[T]:
            if self._closed:
                raise _closed()
            is_long = seconds >= self._timeout
            threads, idle = (self._long_threads, self._idle) if is_long else (self._threads, self._idle_moments)
            work = idle, read, seconds, self._is_closed
            return asyncio.get_running_loop().run_in_executor(threads, _read_with, *work)

        with self._ended_by_close():
            return await self._turns.run(begin)

    async def run_housekeeping(self, read: Read[T], seconds: float) -> T:
        """Run a read of the hub's own, which may take `seconds`, and return its result. Such reads run one at a
        time."""
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        work = self._housekeeping, read, seconds, self._is_closed
        with self._ended_by_close():
            return await loop.run_in_executor(self._housekeeper, _read_with, *work)

    @contextmanager
    def _ended_by_close(self) -> Iterator[None]:
        """A read that `close` has interrupted raises Unavailable: it has not taken too long."""
        try:
            yield
        except ReadTimeout:
            if self._closed:
                raise _closed() from None
            raise

    def _is_closed(self) -> bool:
        return self._closed

    async def stream(self, produce: Callable[[apsw.Connection], Generator[T]]) -> AsyncGenerator[T]:
        """Yield the items of `produce`, each made in a thread on request. A stream has a connection of its own, and
        holds no thread while its reader is slow. Raises Unavailable when there are too many streams, and when the
        stream is ended because it takes too long or the engine is closed."""
        if self._closed:
            raise _closed()
        if len(self._streams) >= self._most_streams:
            raise Unavailable(f"the hub reads {self._most_streams} long lists at once").at("MOST_STREAMS")
        if self.streams_wait:
            raise _log_too_long()
        stream = Stream(self._threads, self._idle_for_streams)
        self._streams.add(stream)
        try:
            await stream.open(self._path, produce)
            while (item := await stream.next(self._turns)) is not END:
                yield cast(T, item)
        finally:
            self._streams.discard(stream)
            stream.close()

    @property
    def is_streaming(self) -> bool:
        return bool(self._streams)

    def end_long_streams(self) -> None:
        """End the streams that have taken longer than `timeout`: because of their snapshots SQLite's log grows."""
        began = time.monotonic() - self._timeout
        for stream in [each for each in self._streams if each.began < began]:
            stream.end(_log_too_long)


def _closed() -> Unavailable:
    return Unavailable("the store is closed")


def _log_too_long() -> Unavailable:
    return Unavailable("slow readers hold up SQLite's log").at("sqlite_log_mb")


def _connections(path: Path, count: int, cache_kib: int = CACHE_KIB) -> queue.SimpleQueue[apsw.Connection]:
    connections: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
    for _ in range(count):
        connections.put(connect(path, cache_kib=cache_kib))
    return connections


def _with_schema(path: Path) -> tuple[apsw.Connection, int]:
    """Return a connection that has read the schema, and the schema's version."""
    connection = connect(path)
    version = _schema_version(connection)
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    return connection, version


def _schema_version(connection: apsw.Connection) -> int:
    """Return the version in the file. This does not read the schema."""
    version: int = connection.execute("PRAGMA schema_version").get
    return version


def _read_with(
    idle: queue.SimpleQueue[apsw.Connection], read: Read[T], seconds: float, is_over: Callable[[], bool]
) -> T:
    connection = idle.get()
    try:
        with translated(connection), time_limit(connection, seconds, is_over):
            return read(connection)
    except BaseException as error:
        release(error)
        raise
    finally:
        idle.put(connection if is_idle(connection) else _renewed(connection))


def _renewed(connection: apsw.Connection) -> apsw.Connection:
    """Return a connection in place of one that is not idle."""
    log.error("a read has left its statement open on a connection, which is replaced")
    try:
        made = connect(Path(connection.filename))
    except CannotOpen:
        return connection
    connection.close(True)
    return made
