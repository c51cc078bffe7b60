"""Sources that a worker waits for: named pipes, into which the test writes the image when it wants."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

WAIT: Final = 0.01


class HeldSource:
    """A source of an image that is not there yet."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a worker reads the source."""
        if self._end is None:
            try:
                self._end = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody does
                return False
        return True

    async def begun(self) -> None:
        """Wait until a worker reads the source."""
        while not self.has_begun:  # noqa: ASYNC110
            await asyncio.sleep(WAIT)

    async def release(self, image: bytes) -> None:
        """Let the worker have its image."""
        await self.begun()
        assert self._end is not None
        os.write(self._end, image)
        self.close()

    def close(self) -> None:
        if self._end is not None:
            os.close(self._end)
            self._end = None


def exists(pid: int) -> bool:
    """Return whether there is a process, which may be one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pid: int) -> None:
    """Wait until there is no such process, or only its exit code is left."""
    while exists(pid) and state_of(pid) not in ("Z", ""):  # noqa: ASYNC110
        await asyncio.sleep(WAIT)


def state_of(pid: int) -> str:
    """Return the letter of a process's state, as proc(5) lists them; empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
