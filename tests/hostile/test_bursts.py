"""Thousands of clients that each send one small message at the same moment."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from hub.serve import allow_connections
from tests.hostile.harness import LONGEST_TURN, MEMORY_FACTOR, unharmed
from tests.hostile.many_connections import MANY_ADDRESSES, MANY_MEMORY, MANY_TURN, fewer_than, more_than, sockets
from tests.support.hub import Hub, eventually
from tests.support.live import live

pytestmark = [pytest.mark.alone, pytest.mark.engine("sqlite")]  # the load is on connections, so one engine is enough

BURSTS = 3
REQUEST = b"GET /api/v1/units HTTP/1.1\r\nHost: hub\r\n\r\n"


@pytest.mark.parametrize(
    ("count", "longest_turn", "memory"),
    [(1_000, LONGEST_TURN, MEMORY_FACTOR), pytest.param(5_000, MANY_TURN, MANY_MEMORY, marks=pytest.mark.full)],
)
async def test_requests_that_come_at_once(hub: Hub, count: int, longest_turn: float, memory: float) -> None:
    """All are answered, a few per turn of the loop, with requests of other addresses in between."""
    allow_connections()
    loop = asyncio.get_running_loop()
    async with unharmed(hub, longest_turn=longest_turn, memory=memory):
        async with sockets(hub, count, *MANY_ADDRESSES) as crowd:
            await eventually(lambda: more_than(hub, count))
            for _ in range(BURSTS):
                for one in crowd:
                    one.send(REQUEST)
                for one in crowd:
                    assert (await loop.sock_recv(one, 4_096)).startswith(b"HTTP/1.1 401 ")
        await eventually(lambda: fewer_than(hub, 200))


async def test_live_messages_that_come_at_once(hub: Hub) -> None:
    """Two hundred live clients subscribe at the same moment, and unsubscribe."""
    store = await hub.define()
    async with contextlib.AsyncExitStack() as stack, unharmed(hub):
        crowd = [await stack.enter_async_context(live(hub, hub.admin)) for _ in range(200)]
        for _ in range(BURSTS):
            answers = await asyncio.gather(*(one.ask("subscribe", {"store": store}) for one in crowd))
            assert all("channel" in answer for answer in answers)
            ended = [one.ask("unsubscribe", {"channel": a["channel"]}) for one, a in zip(crowd, answers, strict=True)]
            assert all(answer == {"ok": True} for answer in await asyncio.gather(*ended))
