"""Many connections to a hub at once, from several addresses of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.platform.raw import Wire
from tests.support.hub import Hub
from tests.support.standstill import read_metrics

ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
MANY_ADDRESSES = (*ADDRESSES, "127.0.0.6", "127.0.0.7", "127.0.0.8", "127.0.0.9")
MANY_TURN, MANY_MEMORY = 0.25, 1.35
"""Allowed cost of 5 000 connections, which is more than one address may have. MANY_TURN: CPU seconds of a turn in which
they send data or close, since the loop is notified of all of them at once (some 20 µs each). MANY_MEMORY: factor of
the memory afterwards, since Python keeps memory arenas that are not completely empty."""
SMALL_BUFFER = 4_096


@asynccontextmanager
async def sockets(hub: Hub, count: int, *addresses: str) -> AsyncIterator[list[socket.socket]]:
    """Open connections from these addresses in turn, which read nothing and have small receive buffers."""
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            one = socket.socket()
            opened.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            one.bind((addresses[number % len(addresses)], 0))
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", hub.process.port))
        yield opened
    finally:
        for one in opened:
            one.close()


@asynccontextmanager
async def wire_from(hub: Hub, address: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.process.port, local_addr=(address, 0))
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def send_all(attackers: list[socket.socket], data: bytes) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.sock_sendall(one, data) for one in attackers))


async def connections(hub: Hub) -> float:
    return (await read_metrics(hub.url)).value("hub_connections")


async def more_than(hub: Hub, count: int) -> bool:
    return await connections(hub) > count


async def fewer_than(hub: Hub, count: int) -> bool:
    return await connections(hub) < count
