"""Real servers at free ports for the wire tests, and raw clients: HTTP polling and WebSockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from realtime.engineio.uvicorn_protocol import HubProtocol

PATIENCE: Final = 10.0
WAYS: Final = {"access": HubProtocol, "plain": "websockets-sansio"}
"""WebSocket protocols for uvicorn: the hub's, with access to the transport, and uvicorn's own."""


@dataclass
class Served:
    """A running server and its clients."""

    port: int
    http: httpx.AsyncClient
    path: str

    def query(self, **fields: Any) -> str:
        return f"{self.path}?{urlencode(fields)}"

    async def get(self, version: int, sid: str | None = None, **fields: Any) -> httpx.Response:
        known = {} if sid is None else {"sid": sid}
        return await self.http.get(self.query(EIO=version, transport="polling", **known, **fields))

    async def post(
        self, version: int, sid: str, body: str | bytes, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        query = self.query(EIO=version, transport="polling", sid=sid, **fields)
        return await self.http.post(query, content=body, headers=headers)

    async def open(self, version: int, **fields: Any) -> str:
        """Open a polling session; return its id."""
        text = (await self.get(version, **fields)).text
        return str(json.loads(text[text.index("{") :])["sid"])

    @asynccontextmanager
    async def websocket(self, version: int, sid: str | None = None, **options: Any) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket; with `sid` it is an upgrade of that session."""
        known = {} if sid is None else {"sid": sid}
        url = f"ws://127.0.0.1:{self.port}{self.query(EIO=version, transport='websocket', **known)}"
        async with connect(url, compression=None, ping_interval=None, close_timeout=1, **options) as websocket:
            yield websocket


@asynccontextmanager
async def serving(app: Any, path: str = "/engine.io/", way: str = "access", **config: Any) -> AsyncIterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    ws: Any = WAYS[way]
    server = uvicorn.Server(uvicorn.Config(app, ws=ws, log_level="warning", timeout_graceful_shutdown=1, **config))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False) as client:
            yield Served(port, client, path)
    finally:
        server.should_exit = True
        await running


async def read(websocket: ClientConnection, number: int = 1) -> list[str | bytes]:
    """Return the next messages."""
    async with asyncio.timeout(PATIENCE):
        return [await websocket.recv() for _ in range(number)]


async def until_closed(websocket: ClientConnection) -> tuple[list[str | bytes], str]:
    """Return the messages up to the end, and the reason in the close frame."""
    messages: list[str | bytes] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                messages.append(await websocket.recv())
    except ConnectionClosed as closed:
        return messages, closed.rcvd.reason if closed.rcvd else "cut"


async def eventually(condition: Callable[[], object], what: str = "it") -> None:
    """Wait until the condition holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} never happened") from None


async def soon(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await awaitable
