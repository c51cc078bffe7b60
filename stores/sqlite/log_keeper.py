"""The bound on the size of SQLite's log.

While a snapshot is open, no later write can be copied from the log into the file, and the log cannot be restarted. A
long list holds a snapshot until its client has received it, and the lists of many clients overlap. When the log exceeds
its bound, no long list may begin and slow ones are ended, until the log has been copied into the file.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

import apsw

from stores.errors import StoreError
from stores.sqlite.readers import Readers

log = logging.getLogger(__name__)

EVERY: Final = 1.0
"""Seconds between checks of the size of the log."""


class LogKeeper:
    """The bound of `most` bytes on the log of the database at `path`. `readers` read its long lists."""

    def __init__(self, path: Path, readers: Readers, most: int) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._readers = readers
        self._most = most

    async def run(self) -> None:
        """Check the log periodically until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self._look()
            except (StoreError, OSError) as error:
                log.warning("SQLite's log could not be looked at: %s", error)

    async def _look(self) -> None:
        readers = self._readers
        is_too_long = self._size() > self._most and await readers.in_thread(_holds_more_than_the_file)
        is_ours = is_too_long and readers.is_streaming  # a backup by another program may also hold a snapshot
        if is_ours and not readers.streams_wait:
            log.warning("SQLite's log has more than %s bytes: long lists end or wait", self._most)
        readers.streams_wait = is_ours
        if is_ours:
            readers.end_long_streams()

    def _size(self) -> int:
        """Return the size of the log in bytes; 0 before the first write and after the last connection is closed."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0


def _holds_more_than_the_file(connection: apsw.Connection) -> bool:
    """Copy as much of the log as possible into the file, and return whether something is left. If nothing is left, the
    next write restarts the log."""
    try:
        pages, brought = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:  # the writer runs a checkpoint
        return True
    return brought < pages
