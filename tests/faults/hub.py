"""A hub that dies and comes back: always at one address, on one database, known by one token."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.engines import Database
from tests.support.hub import Client, Hub, HubProcess, launch

_PORTS = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections: while the hub is away nobody else gets its port."""


def quiet_port() -> int:
    """A free port of _PORTS."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class MortalHub:
    """Made by `mortal_hub`. After `sign_in` every life of the hub knows `token`."""

    def __init__(self, database: Database, folder: Path, **settings: object) -> None:
        self.database = database
        self.folder = folder
        self.settings: dict[str, object] = {"live_position_every": 1, **settings, "port": quiet_port()}
        self.url = f"http://127.0.0.1:{self.settings['port']}"
        self.token = ""
        self.process: HubProcess
        self._clients = AsyncExitStack()

    async def sign_in(self) -> None:
        hub = Hub(self.process, self.database)
        await hub.open()
        self.token = (await hub.admin.make("tokens", {"name": "faults", "user": hub.admin.id}))["token"]
        await hub.close()

    async def start(self) -> None:
        self.process = await asyncio.to_thread(HubProcess, self.database, self.folder, self.settings)

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Stop it, by default with no chance to clean up; its exit code."""
        self.process.process.send_signal(number)  # here and now, not when a thread gets to it
        return await asyncio.to_thread(self.process.wait)

    async def die_at_start(self, seconds: float) -> None:
        """Start it, and kill it so much later, whatever it is doing."""
        process = await asyncio.to_thread(launch, self.database, self.folder, self.settings)
        await asyncio.sleep(seconds)
        process.kill()
        await asyncio.to_thread(process.communicate)

    def client(self, url: str = "") -> Client:
        """The administrator, at the hub itself or at another address that leads to it."""
        client = Client(url or self.url, {"Authorization": f"Bearer {self.token}"})
        self._clients.push_async_callback(client.close)
        return client

    async def close(self) -> None:
        await self._clients.aclose()
        await self.end(signal.SIGTERM)

    @property
    def log(self) -> str:
        """Of all its lives."""
        return self.process.log


@asynccontextmanager
async def mortal_hub(database: Database, folder: Path, **settings: object) -> AsyncIterator[MortalHub]:
    """A hub that has started, for the length of a block, and the clients that it gives out."""
    hub = MortalHub(database, folder, **settings)
    await hub.start()
    try:
        await hub.sign_in()
        yield hub
    finally:
        await hub.close()
