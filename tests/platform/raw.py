"""Raw HTTP, for requests that a well-behaved client would not send."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.hub import PATIENCE


@dataclass
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Wire:
    """One connection to a hub."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the next status line and headers, even of an interim response."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines[1:] if line]
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def answer(self) -> RawAnswer:
        """Read the next answer with its body; it must have a Content-Length or no body."""
        status, headers = await self.head()
        async with asyncio.timeout(PATIENCE):
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return RawAnswer(status, headers, body)

    def reset(self) -> None:
        """Reset the connection (RST), as after a crash."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> bool:
        """Wait until the hub closes the connection, and discard further data."""
        async with asyncio.timeout(PATIENCE):
            while await self.reader.read(65_536):
                pass
        return True


@asynccontextmanager
async def wire(port: int) -> AsyncGenerator[Wire, None]:
    """Keep a connection open while the block runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


def request(method: str, path: str, token: str, *headers: str) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: hub", f"Authorization: Bearer {token}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def token_of(headers: Any) -> str:
    """Return the bearer token that a client sends."""
    return str(headers["authorization"]).removeprefix("Bearer ")
