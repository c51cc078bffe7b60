"""A client that does not read is disconnected as lagging. No other client waits for it, and it can resume later."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.support.engines import sqlite_database
from tests.support.hub import Hub, eventually, running_hub
from tests.support.live import (
    IN_KERNEL,
    LiveClient,
    Watch,
    credentials,
    frame,
    live,
    make_beacon,
    matches_rest,
    small_window,
    socket_url,
    websocket,
)
from tests.support.standstill import read_metrics

READERS = 60
STALLED = 8
BOUND = 200_000
TEXT = "x" * 20_000
BATCH = 20
MANY = 500
"""Entities of a bulk: twice as much as the system and the hub buffer for a client."""
PATIENT = 2
"""Seconds that the hub waits for a client that reads nothing."""
IN_TIME = 5.0
"""Seconds within which all other clients must receive a batch; on an idle machine it takes some milliseconds."""
MEMORY = 60 * 1024 * 1024
"""Bytes by which the hub may grow: the changes that it keeps, and the buffer of each stalled client."""


def resident(hub: Hub) -> int:
    """Return the resident memory of the hub's process in bytes."""
    pages = Path(f"/proc/{hub.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors(hub: Hub) -> int:
    return len(os.listdir(f"/proc/{hub.process.pid}/fd"))


async def write(hub: Hub, store: str, start: int) -> None:
    await hub.admin.make_all(store, [{"n": n, "text": TEXT} for n in range(start, start + BATCH)])


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub on SQLite, because sending to clients does not depend on the engine."""
    settings = {"live_max_buffered": BOUND, "live_recent": 100, "live_ping_timeout": PATIENT}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        yield hub


@pytest.mark.engine("sqlite")
async def test_a_client_that_stops_reading_is_cut_off(hub: Hub) -> None:
    """It is cut off at its bound, while many others receive everything in time and the hub does not grow. It resumes
    exactly."""
    store = await hub.define()
    beacon = await make_beacon(hub)
    async with AsyncExitStack() as stack:

        async def connected(version: int = 4, **options: Any) -> LiveClient:
            return await stack.enter_async_context(live(hub, hub.admin, version=version, **options))

        clients = [await connected(3 + number % 2) for number in range(READERS)]
        watches = [await client.watch(store, only="n") for client in clients]
        whole = await connected()
        watches.append(await whole.watch(store))
        few = descriptors(hub)
        stalled = [await connected(3 + number % 2, sock=await small_window(hub)) for number in range(STALLED)]
        lagging = [await client.watch(store) for client in stalled]
        await write(hub, store, 0)
        await until_all_have([*clients, whole], [*watches], BATCH)
        memory = resident(hub)
        for client in stalled:
            client.stop_reading()
        written = BATCH
        while written * len(TEXT) < IN_KERNEL + 4 * BOUND:
            began = time.monotonic()
            await write(hub, store, written)
            written += BATCH
            await until_all_have([*clients, whole], watches, written)
            assert time.monotonic() - began < IN_TIME

        async def all_are_cut_off() -> bool:
            return await cut_off(hub) == STALLED

        await eventually(all_are_cut_off)
        for client in stalled[:2]:
            client.read_on()
            assert await client.ending() == ["lagging"]
        assert len(lagging[0].view) < written

        async def released() -> bool:
            return descriptors(hub) <= few

        await eventually(released)
        assert resident(hub) - memory < MEMORY
        again = await whole.resume(lagging[0], snapshot="auto")
        assert not again.resync
        await whole.caught_up(beacon)
        await matches_rest(again, hub.admin)
        assert [event["entity"]["n"] for event in watches[0].events] == [*range(written)]


async def until_all_have(clients: list[LiveClient], watches: list[Watch], number: int) -> None:
    for client, watch in zip(clients, watches, strict=True):
        await client.until(lambda: len(watch.view) >= number)  # noqa: B023


async def is_cut(hub: Hub) -> bool:
    return await cut_off(hub) > 0


async def cut_off(hub: Hub) -> int:
    """Return the number of clients that were disconnected as lagging."""
    return int((await read_metrics(hub.url)).value("hub_live_lagging_total"))


@pytest.mark.engine("sqlite")
async def test_a_client_that_stops_polling_is_cut_off(hub: Hub) -> None:
    """The packets that wait for its next poll are bounded too."""
    store = await hub.define()
    address = f"{hub.url}/socket.io/?EIO=4&transport=polling"
    async with httpx.AsyncClient(trust_env=False, verify=False, headers=credentials(hub.admin)) as http:
        sid = orjson.loads((await http.get(address)).text[1:])["sid"]
        address += f"&sid={sid}"
        for packet in ("40", f'420["subscribe",{{"store":"{store}"}}]'):
            assert (await http.post(address, content=packet)).text == "ok"
            await http.get(address)
        memory = resident(hub)
        for start in range(0, 200, BATCH):
            await write(hub, store, start)
        await eventually(lambda: is_cut(hub))
        answers = [await http.get(address), await http.get(address)]
        assert answers[0].text.endswith('\x1e42["notice",{"kind":"lagging"}]')
        assert answers[1].status_code == 400
        assert len(answers[0].content) < BOUND + 2 * len(TEXT)
        assert resident(hub) - memory < MEMORY


@pytest.mark.engine("sqlite")
async def test_a_client_that_reads_slowly_but_steadily_gets_everything(hub: Hub) -> None:
    """One bulk is many times the bound of its buffer, and takes longer than the hub's timeout, but it makes progress.
    Meanwhile its requests are answered, and its other subscription continues."""
    store, other = await hub.define(), await hub.define()
    options = {"additional_headers": credentials(hub.admin), "sock": await small_window(hub)}
    async with websocket(socket_url(hub.url, 3), **options) as slow:
        for _ in range(2):
            await frame(slow)
        for number, name in enumerate((store, other)):
            await slow.send(f'42{number}["subscribe",{{"store":"{name}"}}]')
            assert (await frame(slow)).startswith(f"43{number}")
        slow.transport.pause_reading()
        for start in range(0, MANY, 100):
            await hub.admin.make_all(store, [{"n": n, "text": TEXT} for n in range(start, start + 100)])
        await hub.admin.make_all(other, [{"n": n} for n in range(5)])
        await slow.send('429["unsubscribe",{"channel":"none"}]')
        heard: dict[str, list[int]] = {store: [], other: []}
        answered = False
        while len(heard[store]) < MANY or len(heard[other]) < 5 or not answered:
            slow.transport.resume_reading()
            packet = await frame(slow)
            slow.transport.pause_reading()
            if packet.startswith("439["):
                answered = True
                continue
            name, payload = orjson.loads(packet[2:])
            assert name == "change", packet
            heard[payload["store"]].append(payload["entity"]["n"])
            await asyncio.sleep(3 * PATIENT / MANY)
        assert heard == {store: [*range(MANY)], other: [*range(5)]}
