"""Connections to the file, the lock against a second hub, and the translation of SQLite's errors."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from typing import Final

import apsw

from stores.errors import CannotOpen, DuplicateValue, NotFound, ReadTimeout, StorageFull, StoreError, Unavailable
from stores.log_rate import RateLimitedLog
from stores.sqlite import functions
from stores.sqlite.allowance import allowance
from stores.sqlite.tables import APPLICATION_ID, missing_store, unique_index

log = RateLimitedLog(logging.getLogger(__name__))

_LOOK_EVERY: Final = 100_000
"""Steps of SQLite's virtual machine, some milliseconds, between two checks of the clock in a read. Each check takes the
interpreter lock, which the event loop needs too."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM: Final = "there is no room left on its disk"


def no_room(error: OSError) -> str:
    """Return a text for an exhausted disk or quota; empty for any other error."""
    return _NO_ROOM if error.errno in _FULL else ""


class FileLock:
    """A lock that admits one hub per file. The kernel releases it when the process ends, even after a crash.

    `path` is the file itself, not a link to it: two links would give two locks."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self._descriptor = -1

    def acquire(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpen(f"cannot write to {self.path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            self._descriptor = -1
            raise CannotOpen(
                f"another hub (process {holder or 'unknown'}) already serves {self.path.with_suffix('')}: "
                "stop it, or give this one its own HUB_DATA_DIR"
            ) from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            self.release()
            raise CannotOpen(f"cannot write to {self.path}: {no_room(error) or error.strerror}") from error

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_ours(connection: apsw.Connection, path: Path) -> None:
    """Raise CannotOpen for a database of another program, before anything in it is changed."""
    ours = connection.pragma("application_id") == APPLICATION_ID
    if not ours and connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise CannotOpen(f"{path} is a database of another program")


FILES_OF_CONNECTION: Final = 2
"""Open files of a connection: the database and its log."""
CACHE_KIB: Final = 32_768
STREAM_CACHE_KIB: Final = 1_024
"""Cache of the connection of a long list. It is small: the list reads the file once, and there may be hundreds of
lists."""


def connect(path: Path, *, writer: bool = False, cache_kib: int = CACHE_KIB) -> apsw.Connection:
    """Return a connection with the SQL functions of `stores.sqlite.functions` and the settings for durability. Only
    the writer's may change the file. Raises CannotOpen."""
    if writer:
        _make_file(path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=300)
    except apsw.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}") from error
    try:
        _prepare(connection, path, cache_kib, writer=writer)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection, path: Path, cache_kib: int, *, writer: bool) -> None:
    try:
        if connection.readonly("main"):  # SQLite does without the permission to write
            raise CannotOpen(f"cannot open {path}: {os.strerror(errno.EACCES)}")
        connection.set_busy_timeout(10_000)
        check_ours(connection, path)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "FULL")
        connection.pragma("cache_size", -cache_kib)
        connection.pragma("journal_size_limit", 67_108_864)
        # Pages in the log before a checkpoint copies them into the file. At SQLite's default of 1 000 every group of
        # commits pays for a checkpoint (measured: a fifth of the time of a create).
        connection.pragma("wal_autocheckpoint", 8_000)
        # Without QPSG, SQLite compiles a statement over an indexed expression again for each bound value, in case
        # another plan suits the value better (measured: half of the time of a filtered list).
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        if writer:
            # Keep the statement journal in memory: as a file it takes 16 system calls per statement once a statement
            # has touched more than 64 KiB (measured: half of the CPU of a bulk creation).
            connection.pragma("temp_store", "memory")
        else:
            connection.pragma("query_only", True)
    except apsw.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}") from error
    functions.register(connection)


def _make_file(path: Path) -> None:
    """Create the file unless it exists.

    An existing one is never opened here: when a process closes any descriptor of a file, it loses all its locks of the
    file (POSIX), those of its open SQLite connections too. Another program that closes the database, such as a backup,
    would then be the last one for SQLite, and delete the log."""
    try:
        # 0600, because the file holds password hashes. The log and its index get the permissions of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise CannotOpen(f"cannot open {path}: {error.strerror}") from error


@contextmanager
def temporary_files(connection: apsw.Connection) -> Iterator[None]:
    """Let the writer's statements use temporary files, for sorts that are larger than memory."""
    connection.pragma("temp_store", "file")
    try:
        yield
    finally:
        connection.pragma("temp_store", "memory")


def release(error: BaseException) -> None:
    """Clear the frames of a read that has failed. A cursor in one of them would keep its statement, and with it the
    snapshot, open for as long as the error lives: ROLLBACK does not end it, and later reads of the connection would see
    the old state."""
    known: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in known:
        known.add(id(chain))
        clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def _never() -> bool:
    return False


@contextmanager
def time_limit(connection: apsw.Connection, seconds: float, is_over: Callable[[], bool] = _never) -> Iterator[None]:
    """Raise ReadTimeout if the statements in the block take longer than `seconds`, or once `is_over` returns true."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end or is_over(), _LOOK_EVERY)
    try:
        with allowance.until(end, is_over):
            yield
    except apsw.InterruptError:
        raise ReadTimeout from None
    finally:
        connection.set_progress_handler(None)


class translated:  # noqa: N801 (used like a function)
    """Context manager that raises SQLite's errors as errors of `stores.errors`. `index` is the position of the write in
    its commit. A class, because a generator takes three times as long."""

    __slots__ = ("_connection", "_index")

    def __init__(self, connection: apsw.Connection, index: int = 0) -> None:
        self._connection = connection
        self._index = index

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.Error):
            raise translate(self._connection, error, self._index) from error


def translate(connection: apsw.Connection, error: apsw.Error, index: int = 0) -> StoreError:
    if isinstance(error, apsw.ConstraintError):
        return duplicate(error, index)
    if _is_full(connection, error):
        log.write(logging.ERROR, "full", "the disk is full: %s", error)
        return StorageFull("the disk is full")
    if (store := missing_store(str(error))) is not None:
        # A read that began before the store was dropped or renamed.
        return NotFound(f"no store {store}")
    if isinstance(error, apsw.InterruptError):
        return Unavailable("the store is closed")
    log.write(logging.ERROR, type(error).__name__, "SQLite failed: %s: %s", type(error).__name__, error)
    return Unavailable(f"SQLite: {type(error).__name__}")


def duplicate(error: apsw.ConstraintError, index: int = 0) -> DuplicateValue:
    """Return the error for a unique index that refuses a write, or cannot be created."""
    (first, *others), key = unique_index(str(error))
    return DuplicateValue(first, index, others, key)


def why_unusable(path: Path, connection: apsw.Connection, error: apsw.Error) -> str:
    """Return a text for a file that cannot be created or prepared."""
    first: BaseException = error
    while isinstance(first.__context__, apsw.Error):  # after a failed transaction the rollback may fail, too
        first = first.__context__
    if isinstance(first, apsw.Error) and _is_full(connection, first):
        return f"cannot write to {path}: {_NO_ROOM}"
    return f"{path} is not a usable database: {first}"


def _is_full(connection: apsw.Connection, error: apsw.Error) -> bool:
    return isinstance(error, apsw.FullError) or connection.system_errno in _FULL
