"""An Engine.IO echo server within the test, with a log of its application's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from realtime.engineio import CloseReason, Connection, EngineIOServer
from tests.wire.serving import Served, eventually, serving


class Log:
    """The events of the application."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.messages: list[str | bytes] = []
        self.gone: list[CloseReason] = []

    def on_open(self, connection: Connection) -> None:
        self.connections.append(connection)

    def on_message(self, connection: Connection, data: str | bytes) -> None:
        self.messages.append(data)
        connection.send(data)

    def on_disconnect(self, connection: Connection, reason: CloseReason) -> None:
        self.gone.append(reason)


@asynccontextmanager
async def echo(way: str = "access", **settings: Any) -> AsyncIterator[tuple[Served, Log, EngineIOServer]]:
    heard = Log()
    callbacks = {"on_open": heard.on_open, "on_disconnect": heard.on_disconnect}
    server = EngineIOServer(settings.pop("on_message", heard.on_message), **{**callbacks, **settings})
    async with serving(server, way=way) as served:
        yield served, heard, server


async def first(heard: Log) -> Connection:
    await eventually(lambda: heard.connections, "a connection")
    return heard.connections[0]
