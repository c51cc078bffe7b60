"""A real MongoDB for tests: `scripts/mongod` as a subprocess."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mongod"


@dataclass
class Mongod:
    """A running server. With HUB_TEST_MONGODB_URL it is a server that runs elsewhere, and `stop` does not stop it."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 27017

    def stop(self) -> None:
        """Stop the server and wait until it has exited."""
        self.process.terminate()
        self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()


def start(*arguments: str) -> Mongod:
    """Start a server. Raises RuntimeError if it does not start; standard error says why."""
    command = [sys.executable, str(SCRIPT), "--with-parent", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    server = Mongod(url, process)
    if not url:
        server.stop()
        raise RuntimeError("no MongoDB for the tests: see scripts/mongod, or ask for --engine sqlite")
    return server


@contextmanager
def running(*arguments: str) -> Iterator[Mongod]:
    """Run a server while the block runs."""
    server = start(*arguments)
    try:
        yield server
    finally:
        server.stop()


class Restartable:
    """A server that can be started again with the same folder and port."""

    def __init__(self, folder: Path) -> None:
        self._data = ["--data", str(folder)]
        self._server = start(*self._data)
        self.url = self._server.url

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """Kill the server, without a clean shutdown."""
        self._signal(signal.SIGKILL)
        self.stop()

    def freeze(self) -> None:
        """Suspend the server until `thaw`: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        pid = self._server.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), number)

    def start_again(self) -> None:
        self._server = start("--port", str(self._server.port), *self._data)


@asynccontextmanager
async def restartable(folder: Path) -> AsyncIterator[Restartable]:
    """Run a separate server while the block runs, even if HUB_TEST_MONGODB_URL is set."""
    elsewhere = os.environ.pop("HUB_TEST_MONGODB_URL", None)
    try:
        server = await asyncio.to_thread(Restartable, folder)
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)
    finally:
        if elsewhere is not None:
            os.environ["HUB_TEST_MONGODB_URL"] = elsewhere
