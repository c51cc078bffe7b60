"""One worker as the hub sees it: a process at the other end of a socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import Any, Final

ANSWER_BYTES: Final = 65_536
"""An answer has a few hundred bytes, or a traceback."""

_KEPT: Final = ("PATH", "LANG", "TZ", "TMPDIR", "SYSTEMROOT")
_KEPT_PREFIXES: Final = ("LC_", "LD_", "DYLD_", "PYTHON")
"""What a worker gets of the environment. The rest may hold secrets."""
_ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1"}
"""glibc returns large blocks to the system as soon as they are free."""


class WorkerEnded(Exception):
    """The worker ended, or does not keep to the protocol, before it answered."""


class WorkerProcess:
    """A running worker. Raises OSError if none can be started."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        try:
            # A process group of its own: Ctrl-C in a terminal is for the hub.
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", "hub.media.worker"),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=os.path.abspath(os.sep),
                env=environment(),
                process_group=0,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def ask(self, line: bytes) -> dict[str, Any]:
        """Send a line and return the answer. Raises WorkerEnded."""
        loop = asyncio.get_running_loop()
        answer = b""
        try:
            await loop.sock_sendall(self._socket, line)
            while not answer.endswith(b"\n"):
                piece = await loop.sock_recv(self._socket, ANSWER_BYTES)
                answer += piece
                if not piece or len(answer) > ANSWER_BYTES:
                    raise WorkerEnded
            return dict(json.loads(answer))
        except (OSError, ValueError, TypeError) as error:
            raise WorkerEnded from error

    def kill(self) -> None:
        """Let a question that is being asked fail."""
        self._process.kill()

    async def end(self) -> int:
        """End the process, unless it has ended by itself, and return its exit code: negative for a signal. Nobody may
        be asking."""
        self._process.kill()
        self._socket.close()
        return await asyncio.to_thread(self._process.wait)


def environment() -> dict[str, str]:
    """Return the environment of a worker. It finds the modules where this process does."""
    kept = {n: v for n, v in os.environ.items() if n in _KEPT or n.startswith(_KEPT_PREFIXES)}
    paths = (os.path.abspath(path) for path in sys.path)
    return {**kept, **_ALLOCATOR, "PYTHONPATH": os.pathsep.join(paths)}
