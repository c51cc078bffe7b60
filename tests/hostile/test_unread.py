"""Clients that ask and do not read, or hold connections and send nothing, take nothing from others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.hostile.harness import unharmed
from tests.support.hub import PATIENCE, Hub, eventually
from tests.support.standstill import read_metrics

pytestmark = pytest.mark.engine("sqlite")  # it is the connection that is attacked

OPENAPI = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: hub\r\n\r\n"
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
SMALL_BUFFER = 4_096


@asynccontextmanager
async def sockets(hub: Hub, count: int, *addresses: str) -> AsyncIterator[list[socket.socket]]:
    """Connections from these addresses in turn, which read nothing and have little room for what comes."""
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            one.bind((addresses[number % len(addresses)], 0))
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", hub.process.port))
            opened.append(one)
        yield opened
    finally:
        for one in opened:
            one.close()


async def send_all(attackers: list[socket.socket], data: bytes) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.sock_sendall(one, data) for one in attackers))


async def drained(one: socket.socket) -> int:
    """Read until the hub hangs up; how many bytes came."""
    loop, count = asyncio.get_running_loop(), 0
    async with asyncio.timeout(PATIENCE):
        try:
            while data := await loop.sock_recv(one, 65_536):
                count += len(data)
        except ConnectionResetError:
            pass
    return count


async def connections(hub: Hub) -> float:
    return (await read_metrics(hub.url)).value("hub_connections")


async def test_pipelined_requests_whose_answers_nobody_reads(hub: Hub) -> None:
    """A thousand connections ask 70 times for a large answer: other clients do not notice."""
    async with unharmed(hub):
        async with sockets(hub, 1_000, *ADDRESSES) as attackers:
            await send_all(attackers, OPENAPI * 70)
            await eventually(lambda: connections_are(hub, 1_000))
            await asyncio.sleep(1)
        await eventually(lambda: connections_are(hub, 0))


async def connections_are(hub: Hub, least: int) -> bool:
    """Whether there are so many connections, besides those of well-behaved clients."""
    count = await connections(hub)
    return count >= least if least else count < 200
