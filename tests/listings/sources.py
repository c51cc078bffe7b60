"""Servers from which a hub fetches images. Their answers are those of the test, which may hold one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fetching.servers import Handle, Server, serving
from tests.media.uploading import FILES_HOST
from tests.support.hub import PATIENCE, unique

OTHER_HOST: Final = "other.test"
"""A name of the same servers, from which the hub may not fetch."""


def fetching_from(folder: Path, *allowed: str) -> dict[str, object]:
    """Return the settings of a hub that may fetch from these hosts, such as ``files.test:8000``."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 {FILES_HOST} {OTHER_HOST}\n")
    return {"fetch_hosts": hosts, "fetch_allow": ",".join(allowed)}


class HeldAnswer:
    """An answer that is not sent before its release."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._asked = asyncio.Event()
        self._released = asyncio.Event()

    async def __call__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self._asked.set()
        await self._released.wait()
        writer.write(self._raw)

    async def asked(self) -> None:
        """Wait until the request is there."""
        async with asyncio.timeout(PATIENCE):
            await self._asked.wait()

    def release(self) -> None:
        self._released.set()


@dataclass
class Source:
    """A running server, and its answers by their paths."""

    server: Server
    answers: dict[str, Handle]

    @property
    def allowed(self) -> str:
        """The host and port from which the hub may fetch."""
        return f"{FILES_HOST}:{self.server.port}"

    def url(self, handle: Handle, host: str = FILES_HOST) -> str:
        """Return a new URL with this answer."""
        path = f"/{unique('photo')}"
        self.answers[path] = handle
        return f"http://{host}:{self.server.port}{path}"


@asynccontextmanager
async def running_source() -> AsyncIterator[Source]:
    answers: dict[str, Handle] = {}

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        await answers[head.split()[1].decode()](head, writer)

    async with serving(handle) as server:
        yield Source(server, answers)
