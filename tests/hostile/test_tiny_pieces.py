"""Clients that send thousands of tiny frames, chunks or empty lines at once take turns with all other clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hostile.harness import unharmed
from tests.hostile.many_connections import ADDRESSES, send_all, sockets, wire_from
from tests.platform.raw import request, token_of, wire
from tests.support.engines import Database
from tests.support.hub import Hub, eventually, running_hub
from tests.support.standstill import limit_reached

pytestmark = pytest.mark.engine("sqlite")  # the attack is on the connection, not on the engine

HANDSHAKE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MASK = bytes(4)
FLOODS = {
    "fragments": (HANDSHAKE, b"\x01\x80" + MASK, b"\x00\x80" + MASK),
    "pings": (HANDSHAKE, b"", b"\x89\x80" + MASK),
    "chunks": (b"POST /api/v1/auth HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n", b"", b"1\r\n[\r\n"),
    "empty lines": (b"", b"", b"\r\n"),
}
ATTACKERS = 40
FLOOD = 240_000
"""Bytes that each attacker sends, about as many as one read of a connection takes."""
SMALL = 4_194_304
"""Bytes of input that a hub buffers for all clients; one address may use half of them."""


@pytest.fixture
async def hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
async def small_hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", max_buffered_bytes=SMALL) as hub:
        yield hub


@pytest.mark.alone
@pytest.mark.parametrize("kind", FLOODS)
async def test_thousands_of_tiny_pieces_at_once(hub: Hub, kind: str) -> None:
    opening, first, piece = FLOODS[kind]
    async with unharmed(hub), sockets(hub, ATTACKERS, *ADDRESSES) as attackers:
        await send_all(attackers, opening)
        if opening == HANDSHAKE:
            await asyncio.gather(*(asyncio.get_running_loop().sock_recv(one, 4_096) for one in attackers))
        flood = first + piece * (FLOOD // len(piece))
        await asyncio.gather(*(send(one, flood) for one in attackers))


async def send(one: socket.socket, data: bytes) -> None:
    """Send the data, or as much as the hub takes until it closes the connection."""
    with suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(one, data)


async def test_a_body_in_tiny_chunks_is_whole_and_so_is_the_request_behind_it(hub: Hub) -> None:
    token, store = token_of(hub.admin.http.headers), await hub.define()
    text = "0\r\n\r\n" * 5_000
    body = json.dumps({"text": text}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = request("POST", f"/{store}", token, "Transfer-Encoding: chunked")
    async with wire(hub.process.port) as connection:
        for _ in range(2):
            await connection.send(head + chunks + request("GET", "/auth", token))
            assert (await connection.answer()).json()["text"] == text
            assert (await connection.answer()).json()["login"] == "admin"


async def test_no_more_of_a_body_is_read_than_is_parsed(small_hub: Hub) -> None:
    """The application waits for the body, and could request more of it faster than tiny chunks are parsed."""
    token, store = token_of(small_hub.admin.http.headers), await small_hub.define()
    body = json.dumps({"text": "x" * 1_000_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with wire(small_hub.process.port) as connection:
        await connection.send(request("POST", f"/{store}", token, "Transfer-Encoding: chunked") + chunks)
        assert (await connection.answer()).status == 200
    assert await limit_reached(small_hub, "max_buffered_bytes") == 0


async def test_what_websockets_have_yet_to_parse_has_a_limit_together(small_hub: Hub) -> None:
    """Beyond the limit they are closed, and their share is free for other connections of their address."""
    token, store = token_of(small_hub.admin.http.headers), await small_hub.define()
    async with sockets(small_hub, 30, "127.0.0.2") as attackers:
        await send_all(attackers, HANDSHAKE)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.sock_recv(one, 4_096) for one in attackers))
        flood = b"\x89\x80" + MASK
        await asyncio.gather(*(send(one, flood * (FLOOD // len(flood))) for one in attackers))
        await eventually(lambda: limit_reached(small_hub, "max_buffered_bytes"))
    body = json.dumps({"text": "x" * 1_000_000}).encode()
    async with wire_from(small_hub, "127.0.0.2") as other:
        await other.send(request("POST", f"/{store}", token, f"Content-Length: {len(body)}") + body)
        assert (await other.answer()).status == 200


async def test_requests_with_long_heads_behind_each_other_are_answered_in_order(hub: Hub) -> None:
    token = token_of(hub.admin.http.headers)
    many = [
        request("GET", "/auth", token, f"X-Request-Id: {n}", "X-Pad: " + "x" * (n * 137 % 9_000)) for n in range(100)
    ]
    async with wire(hub.process.port) as connection:
        await connection.send(b"".join(many))
        for n in range(100):
            assert (await connection.answer()).headers["x-request-id"] == str(n)
