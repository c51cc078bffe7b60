"""A hub that is killed and restarted at the same address, on the same database, with the same token."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from tests.support.engines import Database
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, Client, Hub, HubProcess, entity_of, eventually, launch
from tests.support.ports import free_port


class MortalHub:
    """A restartable hub, made by `mortal_hub`. After `sign_in`, `token` is valid over all restarts."""

    def __init__(self, database: Database, folder: Path, **settings: object) -> None:
        self.database = database
        self.folder = folder
        self.settings: dict[str, object] = {"live_position_every": 1, **settings, "port": free_port()}
        self.url = f"http://127.0.0.1:{self.settings['port']}"
        self.token = ""
        self.process: HubProcess
        self._clients = AsyncExitStack()

    async def sign_in(self) -> None:
        hub = Hub(self.process, self.database)
        try:
            nobody, credentials = hub.client(), {"login": ADMIN_LOGIN, "password": ADMIN_PASSWORD}
            admin = hub.client(entity_of(await answered(lambda: nobody.post("/auth/token", credentials)))["token"])
            body = {"name": "faults", "user": entity_of(await answered(lambda: admin.get("/auth")))["_id"]}
            self.token = entity_of(await answered(lambda: admin.post("/tokens", body)))["token"]
        finally:
            await hub.close()

    async def start(self) -> None:
        self.process = await asyncio.to_thread(HubProcess, self.database, self.folder, self.settings)

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Stop the hub, by default without a chance to clean up; return its exit code."""
        self.process.process.send_signal(number)  # immediately, not when a thread gets to it
        return await asyncio.to_thread(self.process.wait)

    async def die_at_start(self, seconds: float) -> None:
        """Start the hub, and kill it after so many seconds, whatever it is doing."""
        process = await asyncio.to_thread(launch, self.database, self.folder, self.settings)
        await asyncio.sleep(seconds)
        process.kill()
        await asyncio.to_thread(process.communicate)

    def client(self, url: str = "", token: str = "") -> Client:
        """Return the administrator, or the holder of another token, as a client of the hub, or of another address that
        leads to it."""
        client = Client(url or self.url, {"Authorization": f"Bearer {token or self.token}"})
        self._clients.push_async_callback(client.close)
        return client

    async def close(self) -> None:
        await self._clients.aclose()
        await self.end(signal.SIGTERM)

    @property
    def log(self) -> str:
        """The log over all restarts."""
        return self.process.log


async def answered(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Repeat a request while the answer is 503: a database that has just begun may elect several times. Requests that
    create something may create it several times."""

    async def answer() -> httpx.Response | None:
        given = await ask()
        return None if given.status_code == 503 else given

    return await eventually(answer)


@asynccontextmanager
async def mortal_hub(database: Database, folder: Path, **settings: object) -> AsyncIterator[MortalHub]:
    """Run a restartable hub and its clients while the block runs."""
    hub = MortalHub(database, folder, **settings)
    await hub.start()
    try:
        await hub.sign_in()
        yield hub
    finally:
        await hub.close()
