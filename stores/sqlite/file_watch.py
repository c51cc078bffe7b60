"""Notices that the database's file or its log was removed or replaced under a running engine.

The engine would go on with files that no path leads to, and its commits would be lost with the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stores.log_rate import RateLimitedLog

EVERY: Final = 1.0
"""Seconds between two looks."""

Identity = tuple[int, int]
"""Device and number of a file."""


class FileWatch:
    """Watches the database at `path` and its log, which exist and are in use. `lost` is called once, with a text that
    says what has happened."""

    def __init__(self, path: Path, lost: Callable[[str], None]) -> None:
        self._lost = lost
        self._log = RateLimitedLog(logging.getLogger(__name__), seconds=60.0)
        self._known = {each: _identity(each) for each in (path, path.with_name(path.name + "-wal"))}

    async def run(self) -> None:
        """Look periodically until something is lost."""
        while True:
            await asyncio.sleep(EVERY)
            for path, identity in self._known.items():
                try:
                    is_lost = _identity(path) != identity
                except OSError as error:  # such as a folder without permissions
                    self._log.write(logging.WARNING, path, "the database's file could not be looked at: %s", error)
                    continue
                if is_lost:
                    self._lost(f"{path.name} was removed or replaced while the hub uses it")
                    return


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
