"""A client that has missed or requested more than the hub may buffer for it receives that at its own pace. It is
disconnected only if it reads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.engines import sqlite_database
from tests.support.hub import PATIENCE, Hub, running_hub
from tests.support.live import (
    IN_KERNEL,
    Event,
    credentials,
    frame,
    live,
    make_beacon,
    matches_rest,
    small_window,
    socket_url,
    websocket,
)

pytestmark = pytest.mark.engine("sqlite")  # sending to clients does not depend on the engine

BOUND = 200_000
TEXT = "x" * 20_000
MANY = (IN_KERNEL + 4 * BOUND) // len(TEXT)
"""More entities than the system and the hub buffer for one connection."""
IN_MEMORY = 100
"""Changes that the hub keeps in memory: missed changes are first read from the file."""
PATIENT = 2
"""Seconds that the hub waits for a client that reads nothing."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    settings = {
        "live_max_buffered": BOUND,
        "live_recent": IN_MEMORY,
        "live_ping_timeout": PATIENT,
        "live_snapshot_mb": 16,
    }
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        yield hub


async def fill(hub: Hub, store: str) -> None:
    for start in range(0, MANY, 50):
        await hub.admin.make_all(store, [{"n": n, "text": TEXT} for n in range(start, min(MANY, start + 50))])


async def test_a_long_absence(hub: Hub) -> None:
    """All missed changes arrive on the one connection, in order, followed by those written in the meantime."""
    store = await hub.define()
    beacon = await make_beacon(hub)
    async with live(hub, hub.admin) as before:
        watch = await before.watch(store)
    await fill(hub, store)
    async with live(hub, hub.admin, sock=await small_window(hub)) as client:
        again = await client.resume(watch)
        await hub.admin.make(store, n=MANY)
        await client.caught_up(beacon)
        assert [event["entity"]["n"] for event in again.events] == [*range(MANY + 1)]
        assert client.notices == []


class Polling:
    """A client that polls by plain HTTP requests."""

    def __init__(self, hub: Hub) -> None:
        self._http = httpx.AsyncClient(trust_env=False, headers=credentials(hub.admin), timeout=PATIENCE)
        self._address = f"{hub.url}/socket.io/?EIO=4&transport=polling"

    async def connect(self) -> None:
        [opened] = await self.poll()
        self._address += f"&sid={orjson.loads(opened[1:])['sid']}"
        await self.say("40")
        await self.poll()

    async def say(self, packet: str) -> None:
        answer = await self._http.post(self._address, content=packet)
        assert answer.text == "ok", answer.text

    async def poll(self) -> list[str]:
        """Poll once, answer pings, and return the packets."""
        answer = await self._http.get(self._address)
        assert answer.status_code == 200, answer.text
        packets = answer.text.split("\x1e")
        if "2" in packets:
            await self.say("3")
        return packets

    async def close(self) -> None:
        await self._http.aclose()


async def test_a_long_absence_of_a_client_that_polls(hub: Hub) -> None:
    """The same bound holds for packets that wait for its next poll; it receives everything, one part per poll."""
    store = await hub.define()
    async with live(hub, hub.admin) as before:
        position = (await before.watch(store)).position
    await fill(hub, store)
    client = Polling(hub)
    await client.connect()
    await client.say(f"420{orjson.dumps(['subscribe', {'store': store, 'since': position}]).decode()}")
    heard: list[int] = []
    while len(heard) < MANY:
        packets = await client.poll()
        assert sum(map(len, packets)) < 2 * BOUND
        events = [orjson.loads(packet[2:]) for packet in packets if packet.startswith("42")]
        heard += [payload["entity"]["n"] for name, payload in events if name == "change"]
    assert heard == [*range(MANY)]
    await client.close()


async def test_a_large_snapshot_beside_another_subscription(hub: Hub) -> None:
    """Events of the other subscription wait behind the snapshot, and do not make the client count as lagging."""
    store, other = await hub.define(), await hub.define()
    await fill(hub, store)
    async with live(hub, hub.admin, sock=await small_window(hub)) as client:
        small = await client.watch(other)
        client.stop_reading()
        asked = asyncio.create_task(client.watch(store))
        await asyncio.sleep(PATIENT / 4)
        for n in range(5):
            await hub.admin.make(other, n=n)
        await hub.admin.make(store, n=MANY)
        client.read_on()
        watch = await asked
        await client.until(lambda: len(small.view) == 5 and len(watch.view) == MANY + 1)
        await matches_rest(watch, hub.admin)
        assert client.notices == []


async def test_much_comes_into_sight_at_once(hub: Hub) -> None:
    """A user moves into a group with many visible entities."""
    group, store = await hub.group(), await hub.define()
    one, mover = await hub.as_user(group=group), await hub.as_user()
    for start in range(0, MANY, 50):
        await one.make_all(store, [{"n": n, "text": TEXT} for n in range(start, min(MANY, start + 50))])
    async with live(hub, mover, sock=await small_window(hub)) as client:
        watch = await client.watch(store)
        assert watch.view == {}
        client.stop_reading()
        await hub.admin.patch(f"/users/{mover.id}", {"group": group})
        await asyncio.sleep(PATIENT / 4)
        client.read_on()
        await client.until(lambda: len(watch.view) == MANY)
        await matches_rest(watch, mover)
        assert (client.notices, watch.ended) == ([], None)


async def stay_alive(socket: ClientConnection) -> None:
    """Send heartbeats forever."""
    while True:
        await socket.send("2")
        await asyncio.sleep(PATIENT / 10)


async def test_a_client_that_takes_nothing(hub: Hub) -> None:
    """It resumes, sends heartbeats and does not read: the hub disconnects it."""
    store = await hub.define()
    async with live(hub, hub.admin) as before:
        position = (await before.watch(store)).position
    await fill(hub, store)
    options = {"additional_headers": credentials(hub.admin), "sock": await small_window(hub)}
    async with websocket(socket_url(hub.url, 3), **options) as socket:
        for _ in range(2):
            await frame(socket)
        request: Event = {"store": store, "since": position}
        await socket.send(f"420{orjson.dumps(['subscribe', request]).decode()}")
        socket.transport.pause_reading()
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(stay_alive(socket), PATIENCE)


async def test_a_snapshot_of_too_many_bytes(tmp_path: Path) -> None:
    """It is refused before it uses the hub's memory, and the error names the bound."""
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", live_snapshot_mb=1) as hub:
        store = await hub.define()
        await fill(hub, store)
        async with live(hub, hub.admin) as client:
            answer = await client.subscribe(store, snapshot=True)
            assert answer["error"]["errors"] == {
                "snapshot": ["more than 1048576 bytes match: narrow the filter or list over REST"]
            }
            assert (await client.subscribe(store, snapshot=True, filter={"n": {"$lt": 10}}))["ok"]
