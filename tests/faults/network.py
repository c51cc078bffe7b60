"""A TCP proxy between clients and a hub that can freeze both directions and resume."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE = 65_536


class Network:
    """Carries bytes between clients of `url` and the port of a hub."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def freeze(self) -> None:
        """Stop forwarding; connections stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Resume forwarding, beginning with the bytes that were held back."""
        self._flowing.set()

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    def cut(self) -> None:
        """Abort every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(_PIECE):
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            await self._flowing.wait()
            writer.close()


@asynccontextmanager
async def network(port: int) -> AsyncIterator[Network]:
    """Run a network while the block runs; at first it forwards."""
    made = Network(port)
    server = await made.open()
    try:
        yield made
    finally:
        made.thaw()
        made.cut()
        server.close()
        await server.wait_closed()
