"""A real MongoDB for tests: `scripts/mongod` as a subprocess that is stopped by its own process id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mongod"


@dataclass
class Mongod:
    """A running server, or the URL of one that runs elsewhere (HUB_TEST_MONGODB_URL), which `stop` leaves alone."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 27017

    def stop(self) -> None:
        """Stop the server and wait until it has gone."""
        self.process.terminate()
        self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()


def start(*arguments: str) -> Mongod:
    """Start a server; RuntimeError when there is none to be had (its standard error says why)."""
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
    """A server for the length of a block."""
    server = start(*arguments)
    try:
        yield server
    finally:
        server.stop()
