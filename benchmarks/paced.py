"""Writes at a given rate, whether or not the server keeps up: what it cannot take at once waits for a connection."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from benchmarks.load import GIVE_UP, Client, Tally

CONNECTIONS: Final = 64


class Pen(Client):
    """A connection that sends what it is given, and is free again when the answer is in."""

    def __init__(self, writer: Writer, tally: Tally) -> None:
        super().__init__(iter(()), tally, 0.0)
        self._writer = writer

    def send(self) -> None:
        """Wait to be given something."""

    def write(self, request: bytes) -> None:
        self._requests = iter((request,))
        super().send()

    def count_in(self, tally: Tally) -> None:
        self._tally = tally

    def answered(self) -> None:
        self._tally.latencies.append(time.perf_counter() - self._sent)
        self._writer.freed(self)


class Writer:
    """Writes to one server over a few connections, the same for every run."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._pens: list[Pen] = []
        self._free: deque[Pen] = deque()
        self._waiting: deque[bytes] = deque()
        self._due = -1
        self._done = asyncio.Event()

    async def open(self, address: tuple[str, int], connections: int = CONNECTIONS) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, pen = await loop.create_connection(lambda: Pen(self, self.tally), *address)
            self._pens.append(pen)
            self._free.append(pen)

    async def run(
        self, numbers: Iterable[int], make: Callable[[int], bytes], rate: float, sent: dict[int, float]
    ) -> None:
        """Write `make(number)` for each number, `rate` of them a second, and wait for the answers. `sent` gets the
        time (perf_counter) from which each would have gone out had a connection been free."""
        self.tally, self._due = Tally(), -1
        for pen in self._pens:
            pen.count_in(self.tally)
        begun, count = time.perf_counter(), 0
        for count, number in enumerate(numbers, 1):
            request = make(number)
            pause = begun + (count - 1) / rate - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            sent[number] = time.perf_counter()
            if self._free:
                self._free.popleft().write(request)
            else:
                self._waiting.append(request)
        async with asyncio.timeout(GIVE_UP):
            await self._answered(count)
        self.tally.seconds = time.perf_counter() - begun

    async def _answered(self, count: int) -> None:
        self._due, self._done = count, asyncio.Event()
        if len(self.tally.latencies) < count:
            await self._done.wait()

    def freed(self, pen: Pen) -> None:
        """A connection has its answer."""
        if len(self.tally.latencies) == self._due:
            self._done.set()
        if self._waiting:
            pen.write(self._waiting.popleft())
        else:
            self._free.append(pen)

    def close(self) -> None:
        for pen in self._pens:
            pen.end()
