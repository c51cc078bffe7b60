"""Large arrays that arrive byte by byte do not block other clients."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.hostile.harness import unharmed
from tests.hostile.many_connections import sockets
from tests.platform.raw import request, token_of
from tests.support.hub import Hub

pytestmark = [pytest.mark.alone, pytest.mark.engine("sqlite")]  # the attack is on the reception of bodies

UPLOADS: Final = 120
SEGMENTS: Final = 500
BLANKS: Final = 1_100_000
"""Bytes: more than a body that is no array may have."""
TRICKLES: Final = 300


async def test_blanks_before_a_large_array_are_looked_at_once(hub: Hub) -> None:
    """Each further byte of it costs the same, however much has arrived before."""
    store, user = await hub.define(), await hub.as_user()
    head = request("POST", f"/{store}", token_of(user.http.headers), "Content-Length: 60000000")
    loop = asyncio.get_running_loop()

    async def send(data: bytes) -> None:
        for one in uploads:
            await loop.sock_sendall(one, data)

    async with sockets(hub, UPLOADS, "127.0.0.3") as uploads:
        await send(head)
        for _ in range(SEGMENTS):
            await send(b" " * (BLANKS // SEGMENTS // 2))
        await send(b"[" + b" " * (BLANKS // 2))
        async with unharmed(hub):
            for _ in range(TRICKLES):
                await send(b" ")
                await asyncio.sleep(0.002)
