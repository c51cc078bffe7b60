"""Keeps SQLite's log from growing without end.

A snapshot holds up everything that has been written since: it cannot leave the log for the file, and the log cannot
begin anew. A long list holds one until its client has taken it, and lists of many clients overlap. Beyond a bound none
is begun, and those end whose clients take long, until the log has been brought into the file.
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
"""Seconds between looks at the size of the log."""


class LogKeeper:
    """Of the database at `path`, whose long lists are read by `readers`. `most`: bytes of the log."""

    def __init__(self, path: Path, readers: Readers, most: int) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._readers = readers
        self._most = most

    async def run(self) -> None:
        """Look after it until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self._look()
            except (StoreError, OSError) as error:
                log.warning("SQLite's log could not be looked at: %s", error)

    async def _look(self) -> None:
        readers = self._readers
        is_too_long = self._log.stat().st_size > self._most and await readers.in_thread(_holds_more_than_the_file)
        is_ours = is_too_long and readers.is_streaming  # a backup of another program may hold it up, too
        if is_ours and not readers.streams_wait:
            log.warning("SQLite's log has more than %s bytes: long lists end or wait", self._most)
        readers.streams_wait = is_ours
        if is_ours:
            readers.end_long_streams()


def _holds_more_than_the_file(connection: apsw.Connection) -> bool:
    """Whether something is left in the log after as much as possible has been brought into the file. If nothing is, the
    next write begins the log anew."""
    try:
        pages, brought = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:  # the writer is doing the same
        return True
    return brought < pages
