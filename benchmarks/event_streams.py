"""Live clients of PocketBase: server-sent events, reading only the number of each event.

Source of the format: the realtime API in PocketBase's documentation. The first event (`PB_CONNECT`) has the id of the
client, for which a request then sets the subscriptions. Each event is one chunk of the answer, so that no line is
divided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import orjson

from benchmarks.watchers import NUMBER, ClientPool, Numbers, Watcher

REQUEST: Final = "GET /api/realtime HTTP/1.1\r\nHost: {}:{}\r\nAccept: text/event-stream\r\n\r\n"
DATA: Final = b"data:"
CONNECTED: Final = b'data:{"clientId":'


class EventStreamPool(ClientPool):
    """The clients of one PocketBase. `subscribe(client, topics)` sets the subscriptions of a client; it may block.

    PocketBase does not promise an order of events.
    """

    ordered = False

    def __init__(self, address: tuple[str, int], subscribe: Callable[[str, Sequence[str]], object]) -> None:
        super().__init__(address, "")
        self._subscribe = subscribe

    async def _connect(self, wanted: Sequence[str]) -> None:
        stream = EventStream(self, wanted)
        self.watchers.append(stream)
        await asyncio.get_running_loop().create_connection(lambda: stream, *self.address)
        await stream.ready
        await asyncio.to_thread(self._subscribe, stream.client, wanted)


class EventStream(Watcher):
    """One client. `ready` is done when it has an id, `client`."""

    __slots__ = ("client",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client = ""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._transport.write(REQUEST.format(*self._pool.address).encode())

    def _take_apart(self, data: bytes) -> Numbers:
        whole, _, self._rest = data.rpartition(b"\n")
        delivered: list[int] = []
        for line in whole.split(b"\n"):
            if line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 200 "):
                self._fail(line.decode("latin-1"))
            elif line.startswith(CONNECTED):
                self.client = orjson.loads(line.removeprefix(DATA))["clientId"]
                self.ready.set_result(None)
            elif line.startswith(DATA) and (found := NUMBER.search(line)):
                delivered.append(int(found[1]))
        return tuple(delivered)
