"""Failures between a client and the hub: a frozen network, a client that stops reading, corrupted requests."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.followers import Follower
from tests.faults.hub import MortalHub, mortal_hub
from tests.faults.network import network
from tests.faults.workload import define, is_following, workload
from tests.faults.writers import Bulk
from tests.platform.raw import wire
from tests.support.engines import Database, sqlite_database
from tests.support.hub import Client, eventually
from tests.support.live import socket_url, websocket
from tests.support.standstill import read_metrics

pytestmark = pytest.mark.faults

SHORT = 0.3
LONG = 4.0
"""Seconds for which the network is frozen: SHORT is less than the hub's heartbeat timeout, LONG is more."""

HEARTBEAT = {"live_ping_interval": 1, "live_ping_timeout": 1}


@pytest.mark.gate("sqlite")
async def test_the_network_freezes(database: Database, tmp_path: Path, times: int, report: Report) -> None:
    """It freezes for half of the clients, sometimes so briefly that connections survive, sometimes for longer than the
    heartbeat timeout. Finally it is cut."""
    async with mortal_hub(database, tmp_path / "hub", **HEARTBEAT) as hub, network(hub.process.port) as between:
        freezes = 2 + times // 2
        async with workload(hub, between.url) as load:
            for number in range(freezes):
                await load.progress(random.randint(10, 40))
                between.freeze()
                await asyncio.sleep(LONG if number == 1 else SHORT)
                between.thaw()
            await load.progress(30)
            between.cut()
            await load.progress(30)
        report(await load.verdict("network frozen, then cut", freezes + 1))


class Flooding(Bulk):
    """Writes arrays of large entities, so that a client that does not read soon lags."""

    text = "x" * 20_000
    written = 0

    def body(self, tag: str, number: int, **more: object) -> dict[str, object]:
        Flooding.written += len(self.text)
        return super().body(tag, number, text=self.text, **more)


@pytest.mark.full
@pytest.mark.engine("sqlite")
async def test_clients_stop_reading(tmp_path: Path, report: Report) -> None:
    """More is written than the system and the hub buffer for them, and they do not read for as long as the hub waits.
    They are disconnected, read the rest, and resume."""
    settings = {"live_max_buffered": 200_000, "live_ping_timeout": 2}
    async with mortal_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        Flooding.written = 0
        async with workload(hub, crowd=[Flooding]) as load:
            await load.progress(2)
            sleepy = [follower for follower in load.followers if not follower.request]
            for follower in sleepy:
                follower.restless = 0
                await eventually(lambda: is_following(follower))  # noqa: B023
            for follower in sleepy:
                assert follower.connection is not None
                follower.connection.stop_reading()
            connections = [len(follower.watches) for follower in sleepy]

            async def flooded() -> bool:
                return Flooding.written > IN_KERNEL

            async def cut_off() -> bool:
                return (await read_metrics(hub.url)).value("hub_live_lagging_total") >= len(sleepy)

            await eventually(flooded, LONGEST_FLOOD)
            await eventually(cut_off)
            for follower in sleepy:
                assert follower.connection is not None
                follower.connection.read_on()
            await eventually(lambda: all_came_back(sleepy, connections))
        report(await load.verdict("clients stop reading", len(sleepy)))


LONGEST_FLOOD = 120.0
"""Seconds: beside other programs the megabytes take longer than what is asked of a hub."""

LIMITS = [Path("/proc/sys/net/ipv4") / name for name in ("tcp_wmem", "tcp_rmem")]
IN_KERNEL = max(16_000_000, 2 * sum(int(limit.read_text().split()[-1]) for limit in LIMITS))
"""Bytes, well above what the system buffers for one connection."""


async def all_came_back(followers: list[Follower], connections: list[int]) -> bool:
    return all(len(follower.watches) > count for follower, count in zip(followers, connections, strict=True))


@pytest.mark.gate("sqlite")
async def test_corrupted_requests(mortal: MortalHub, times: int, report: Report) -> None:
    """Truncated, altered or random bytes, over HTTP and WebSocket, while others write: an array is written whole or
    not at all, a truncated one never, and other clients are not affected."""
    corrupted = 20 * max(times, 4)  # with fewer, none may be good by chance
    chance = random.Random(1)
    async with workload(mortal) as load:
        client = mortal.client()
        store = await define(client)
        told: Counter[int] = Counter()
        for number in range(corrupted):
            told += await corrupt(mortal, store, chance)
            if number % 5 == 0:
                await corrupt_socket(mortal, chance)
        assert await count(client, store, tag="cut") == 0
        arrays, rest = divmod(await count(client, store), ITEMS)
        assert rest == 0
        assert told[200] <= arrays <= told[200] + told[UNANSWERED]
        assert told[200]
        assert told[500] == 0
    report(await load.verdict("corrupted requests", corrupted + corrupted // 5))


ITEMS = 5
MOMENT = 0.3
"""Seconds to wait for an answer; some of these requests have none. One that comes later counts as unanswered."""

UNANSWERED = 0


async def corrupt(mortal: MortalHub, store: str, chance: random.Random) -> Counter[int]:
    """Send a corrupted array. Return how often each status was answered."""
    if chance.random() < 0.5:
        request = array_request(mortal, store, "cut")
        async with wire(mortal.process.port) as connection:
            await connection.send(request[: chance.randrange(len(request))])
        return Counter()
    answers = await statuses(mortal, disturbed(array_request(mortal, store, "disturbed"), chance))
    return Counter(answers or [UNANSWERED])


def array_request(mortal: MortalHub, store: str, tag: str) -> bytes:
    body = json.dumps([{"tag": tag, "text": "é" * 20, "n": n} for n in range(ITEMS)]).encode()
    lines = [f"POST /api/v1/{store} HTTP/1.1", "Host: hub", f"Authorization: Bearer {mortal.token}"]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def disturbed(request: bytes, chance: random.Random) -> bytes:
    """Return the request with some bytes changed, removed or inserted."""
    changed = bytearray(request)
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(changed))
        end = place + chance.choice((0, 1, 1, 5))
        changed[place:end] = chance.randbytes(chance.choice((0, 1, 1, 3)))
    return bytes(changed)


async def statuses(mortal: MortalHub, sent: bytes) -> list[int]:
    """Send these bytes, wait a moment for answers, disconnect; return the status of every answer."""
    answer = b""
    async with wire(mortal.process.port) as connection:
        try:
            await connection.send(sent)
            async with asyncio.timeout(MOMENT):
                answer = await connection.reader.read(65_536)
        except (ConnectionError, TimeoutError):
            pass
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


async def count(client: Client, store: str, **params: str) -> int:
    return int((await client.get(f"/{store}", {"meta": "true", **params})).json()["count"])


async def corrupt_socket(mortal: MortalHub, chance: random.Random) -> None:
    """A live connection that goes wrong after a good beginning."""
    headers = {"Authorization": f"Bearer {mortal.token}"}
    async with websocket(socket_url(mortal.url), additional_headers=headers) as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        if chance.random() < 0.5:
            packet = disturbed(b'420["subscribe",{"store":"users","snapshot":true}]', chance)
            await socket.send(packet.decode("utf-8", "replace"))
        else:
            socket.transport.write(chance.randbytes(chance.randint(1, 200)))
        socket.transport.write(b"\x81\xfe\xff\xff")  # the head of a frame that never follows
        socket.transport.abort()
