"""A bulk change with many watchers does not block the loop: its events are sent in slices, in order, once to each."""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import time
from contextlib import AsyncExitStack
from typing import Final

import pytest

from tests.support.hub import PATIENCE, Hub
from tests.support.live import credentials, frame, socket_url, websocket
from tests.support.standstill import no_standstill

pytestmark = pytest.mark.alone

WATCHERS: Final = 600
ENTITIES: Final = 1_000
UPDATE: Final = re.compile(rb'"entity":\{"_id":"[0-9a-f]+","n":(\d+),"m":1\}')


class Reader:
    """Reads the events of one connection, without the cost of a client."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.seen: list[int] = []
        self._rest = b""

    def read(self) -> bool:
        """Read some data; return whether more is expected."""
        data = os.read(self.descriptor, 262_144)
        self._rest += data
        end = 0
        for found in UPDATE.finditer(self._rest):
            self.seen.append(int(found[1]))
            end = found.end()
        self._rest = self._rest[end:]
        return bool(data) and len(self.seen) < ENTITIES


def read_all(readers: list[Reader]) -> None:
    """Read until each reader has all events."""
    deadline = time.monotonic() + 2 * PATIENCE
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.descriptor, selectors.EVENT_READ, reader)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(1):
                if not key.data.read():
                    selector.unregister(key.fd)


async def test_a_bulk_change_with_many_watchers(hub: Hub) -> None:
    store = await hub.define()
    await hub.admin.make_all(store, [{"n": n, "m": 0} for n in range(ENTITIES)])
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(WATCHERS):
            options = {"additional_headers": credentials(hub.admin)}
            socket = await stack.enter_async_context(websocket(socket_url(hub.url, 3), **options))
            await frame(socket)
            await frame(socket)
            await socket.send(f'420["subscribe",{{"store":"{store}","only":"n,m"}}]')
            assert (await frame(socket)).startswith("430[")
            socket.transport.pause_reading()
            stack.callback(socket.transport.abort)
            descriptor = os.dup(socket.transport.get_extra_info("socket").fileno())
            stack.callback(os.close, descriptor)
            readers.append(Reader(descriptor))
        reading = asyncio.create_task(asyncio.to_thread(read_all, readers))
        async with no_standstill(hub.url):
            answer = await hub.admin.patch(f"/{store}", {"m": 1}, {"filter": '{"m":0}'})
            assert answer.json()["count"] == ENTITIES
            await reading
        orders = {tuple(reader.seen) for reader in readers}
        assert len(orders) == 1
        assert sorted(orders.pop()) == [*range(ENTITIES)]
