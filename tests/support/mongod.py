"""A real MongoDB for tests: `scripts/mongod` as a subprocess."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.ports import free_port

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mongod"

expect_warning: Callable[[str], None] = lambda pattern: None
"""Lets all later tests ignore ResourceWarnings that match. tests/conftest.py sets this."""


@dataclass
class Mongod:
    """A running server. With HUB_TEST_MONGODB_URL it is a server that runs elsewhere, and `stop` does not stop it."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def ports(self) -> list[int]:
        """The port of each member."""
        hosts = urlsplit(self.url).netloc.rpartition("@")[2].split(",")
        return [int(host.rpartition(":")[2]) if ":" in host else 27017 for host in hosts]

    @property
    def port(self) -> int:
        """The port of the first member."""
        return self.ports[0]

    def stop(self) -> None:
        """Stop the server and wait until it has exited."""
        self.process.terminate()
        self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()


def start(*arguments: str, ports: Sequence[int] = ()) -> Mongod:
    """Start a server at these ports, by default at a free one. Raises RuntimeError if it does not start; standard error
    says why."""
    given = [argument for port in ports or [free_port()] for argument in ("--port", str(port))]
    command = [sys.executable, str(SCRIPT), "--with-parent", *given, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    server = Mongod(url, process)
    if not url:
        server.stop()
        raise RuntimeError("no MongoDB for the tests: see scripts/mongod, or ask for --engine sqlite")
    expect_unclosed_sockets(server)
    return server


def expect_unclosed_sockets(server: Mongod) -> None:
    """Ignore the sockets that PyMongo leaves to the garbage collector when it is cancelled while it connects: those to
    this server in all tests from now on, and in the present one those without a peer too."""
    for port in server.ports:
        expect_warning(rf"unclosed <socket\.socket .*raddr=\(.*, {port}\b")
    warnings.filterwarnings("ignore", r"unclosed <socket\.socket (?!.*raddr=)", ResourceWarning)


@contextmanager
def running(*arguments: str, ports: Sequence[int] = ()) -> Iterator[Mongod]:
    """Run a server while the block runs."""
    server = start(*arguments, ports=ports)
    try:
        yield server
    finally:
        server.stop()
        collect_sockets()


def collect_sockets() -> None:
    """Collect the sockets to a server that has ended, here and not in a later test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"unclosed <socket\.socket ", ResourceWarning)
        gc.collect()


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
        self._server = start(*self._data, ports=self._server.ports)


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
            collect_sockets()
    finally:
        if elsewhere is not None:
            os.environ["HUB_TEST_MONGODB_URL"] = elsewhere
