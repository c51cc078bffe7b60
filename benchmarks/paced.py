"""Writes at a given rate, whether or not the server keeps up. If it does not, requests wait for a free connection."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.load import GIVE_UP, Client, LoadResult

CONNECTIONS: Final = 64


class PacedConnection(Client):
    """A connection that sends the request it is given, and is free again when the answer has arrived."""

    def __init__(self, writer: PacedWriter) -> None:
        super().__init__(iter(()), writer.result, 0.0)
        self._writer = writer

    def send(self) -> None:
        """Do nothing: the next request comes by `write`."""

    def write(self, request: bytes) -> None:
        self._requests = iter((request,))
        super().send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._writer.dropped(self):
            self.done.set_result(None)
        super().connection_lost(error)

    def answered(self) -> None:
        self._result.latencies.append(time.perf_counter() - self._sent)
        self._writer.freed(self)


class PacedWriter:
    """Some connections to one server. The one used last is used next, because servers close idle connections."""

    def __init__(self) -> None:
        self.result = LoadResult()
        self._free: list[PacedConnection] = []
        self._waiting: deque[bytes] = deque()
        self._due = -1
        self._done = asyncio.Event()

    @asynccontextmanager
    async def connected(self, address: tuple[str, int]) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: PacedConnection(self), *address))[1] for _ in range(CONNECTIONS)
        ]
        self._free.extend(connections)
        try:
            yield
        finally:
            for connection in connections:
                connection.end()

    async def run(
        self, numbers: Sequence[int], make: Callable[[int], bytes], rate: float, sent: dict[int, float]
    ) -> None:
        """Write `make(number)` for each number, `rate` of them a second, and wait for the answers.

        `sent` gets the time (perf_counter) at which each request was ready, even if it then waited for a connection.
        """
        begun = time.perf_counter()
        for count, number in enumerate(numbers):
            request = make(number)
            pause = begun + count / rate - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            sent[number] = time.perf_counter()
            if self._free:
                self._free.pop().write(request)
            else:
                self._waiting.append(request)
        self._due = len(numbers)
        if len(self.result.latencies) < self._due:
            async with asyncio.timeout(GIVE_UP):
                await self._done.wait()

    def dropped(self, connection: PacedConnection) -> bool:
        """Handle a closed connection. Return whether it was idle, which is no fault."""
        resting = connection in self._free
        if resting:
            self._free.remove(connection)
        return resting and not connection.done.done()

    def freed(self, connection: PacedConnection) -> None:
        """Use a connection again that has its answer."""
        if len(self.result.latencies) == self._due:
            self._done.set()
        if self._waiting:
            connection.write(self._waiting.popleft())
        else:
            self._free.append(connection)
