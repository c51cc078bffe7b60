"""Sources that a worker waits for: named pipes, into which the test writes the image when it wants. And workers of a
hub that wait for the test."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def workers_of(hub: int) -> list[int]:
    """Return the ids of the workers that a hub with this process id has started."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_worker(pid, hub)]


def is_worker(pid: int, hub: int) -> bool:
    """Return whether a process is a worker that this hub has started."""
    process = Path(f"/proc/{pid}")
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        return parent == hub and b"hub.media.worker" in (process / "cmdline").read_bytes()
    except OSError:  # it has ended
        return False


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """Stop a worker while the block runs. It takes no processor time, and answers nothing."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the hub has ended it
            os.kill(worker, signal.SIGCONT)
