"""Writes at a given rate, whether or not the server keeps up: what it cannot take at once waits for a connection."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.load import GIVE_UP, Client, Tally

CONNECTIONS: Final = 64


class Pen(Client):
    """A connection that sends what it is given, and is free again when the answer is in."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(iter(()), writer.tally, 0.0)
        self._writer = writer

    def send(self) -> None:
        """Wait to be given something."""

    def write(self, request: bytes) -> None:
        self._requests = iter((request,))
        super().send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._writer.dropped(self):
            self.done.set_result(None)
        super().connection_lost(error)

    def answered(self) -> None:
        self._tally.latencies.append(time.perf_counter() - self._sent)
        self._writer.freed(self)


class Writer:
    """Some connections to one server. The one that was used last is used next: those that rest, servers close."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._free: list[Pen] = []
        self._waiting: deque[bytes] = deque()
        self._due = -1
        self._done = asyncio.Event()

    @asynccontextmanager
    async def connected(self, address: tuple[str, int]) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        pens = [(await loop.create_connection(lambda: Pen(self), *address))[1] for _ in range(CONNECTIONS)]
        self._free.extend(pens)
        try:
            yield
        finally:
            for pen in pens:
                pen.end()

    async def run(
        self, numbers: Sequence[int], make: Callable[[int], bytes], rate: float, sent: dict[int, float]
    ) -> None:
        """Write `make(number)` for each number, `rate` of them a second, and wait for the answers. `sent` gets the
        time (perf_counter) from which each would have gone out had a connection been free."""
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
        if len(self.tally.latencies) < self._due:
            async with asyncio.timeout(GIVE_UP):
                await self._done.wait()

    def dropped(self, pen: Pen) -> bool:
        """A connection has been closed: whether it was at rest, and nobody minds."""
        resting = pen in self._free
        if resting:
            self._free.remove(pen)
        return resting and not pen.done.done()

    def freed(self, pen: Pen) -> None:
        """A connection has its answer."""
        if len(self.tally.latencies) == self._due:
            self._done.set()
        if self._waiting:
            pen.write(self._waiting.popleft())
        else:
            self._free.append(pen)
