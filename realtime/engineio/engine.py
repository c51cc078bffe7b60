"""The Engine.IO server with the methods of python-engineio's server that python-socketio calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from realtime.engineio.connection import Connection
from realtime.engineio.host import Result
from realtime.engineio.packets import Data
from realtime.engineio.server import EngineIOServer
from realtime.engineio.session import CloseReason
from realtime.engineio.wire import Receive, Scope, Send

Handler = Callable[..., Awaitable[None]]


class Engine(EngineIOServer):
    """Made by `socketio.AsyncServer`. Its arguments `async_handlers`, `json` and `logger` are ignored."""

    async_mode = "asgi"

    def __init__(self, async_handlers: bool = False, json: Any = None, logger: Any = None, **settings: Any) -> None:
        super().__init__(self._received, on_open=self._opened, on_disconnect=self._left, json_messages=True, **settings)
        self._handlers: dict[str, Handler] = {}

    def on(self, event: str, handler: Handler) -> None:
        """Set the handler of `open` (connection), `message` (sid, data) or `disconnect` (sid, reason)."""
        self._handlers[event] = handler

    def _opened(self, connection: Connection) -> Result:
        return self._handlers["open"](connection)

    def _received(self, connection: Connection, data: Data) -> Result:
        return self._handlers["message"](connection.sid, data)

    def _left(self, connection: Connection, reason: CloseReason) -> Result:
        return self._handlers["disconnect"](connection.sid, reason)

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self(scope, receive, send)

    async def send(self, sid: str, data: Data) -> None:
        if connection := self.connections.get(sid):
            connection.send(data)

    async def send_packet(self, sid: str, packet: Any) -> None:
        """Send a message packet of python-engineio."""
        await self.send(sid, packet.data)

    async def disconnect(self, sid: str) -> None:
        if connection := self.connections.get(sid):
            connection.close()

    async def get_session(self, sid: str) -> dict[str, Any]:
        """Return the application's own data for a client. Raises KeyError for an unknown client."""
        connection = self.connections[sid]
        if connection.state is None:
            connection.state = {}
        session: dict[str, Any] = connection.state
        return session

    async def save_session(self, sid: str, session: dict[str, Any]) -> None:
        self.connections[sid].state = session

    def transport(self, sid: str) -> str:
        return self.connections[sid].transport

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(target(*args, **kwargs))

    async def sleep(self, seconds: float = 0) -> None:
        await asyncio.sleep(seconds)

    def create_event(self) -> asyncio.Event:
        return asyncio.Event()
