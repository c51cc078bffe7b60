"""One run of writes to a server and of its events to the watchers: what it cost, how long it took, what went wrong."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.paced import Writer
from benchmarks.processes import cpu_seconds, resident_kib, wait_until_idle
from benchmarks.targets import Audience, Target

GIVE_UP: Final = 30.0
"""Seconds that events may take to come in after the last write is answered."""

PAUSE: Final = 0.05
"""Seconds before a run, for the server to take its connections in, and after the last event that is due, for one too
many to arrive."""

WARM_UP: Final = 20
"""Clients that come and go before memory is read: what the first ones make stays."""


@dataclass(frozen=True, slots=True)
class Run:
    """`cpu` and `load` are seconds of CPU of the server and of this process. In seconds: `lags`, from each write to
    each of its deliveries, in order of size; `last`, from each write to its last delivery."""

    writes: int
    seconds: float
    cpu: float | None
    load: float
    lags: Sequence[float]
    last: Sequence[float]

    def micros(self, operations: int) -> float | None:
        """CPU of the server for each of so many operations."""
        return None if self.cpu is None or not operations else self.cpu / operations * 1e6

    def net(self, quiet: Run) -> float | None:
        """CPU of the server, µs per delivery, without what as many writes cost that nobody hears of."""
        if self.cpu is None or quiet.cpu is None or not self.lags:
            return None
        return (self.cpu - quiet.cpu * self.writes / quiet.writes) / len(self.lags) * 1e6

    def lag_ms(self, share: float) -> float:
        """Milliseconds that this share of the deliveries stays within."""
        return self.lags[min(int(share * len(self.lags)), len(self.lags) - 1)] * 1e3 if self.lags else 0.0

    def busy(self, cpu: float | None) -> float | None:
        """The share of a core, percent."""
        return None if cpu is None else cpu / self.seconds * 100


async def write(
    target: Target, numbers: range, rate: float, audience: Audience, expected: Callable[[int], Iterable[int]]
) -> tuple[Run, list[str]]:
    """Write these numbers, `rate` of them a second, and wait until every watcher has heard of `expected(its index)`.
    The run, and what was wrong with what they heard."""
    pool, writer = target.pool, Writer()
    wanted = sum(len(list(expected(index))) for index in range(len(pool.watchers)))
    await asyncio.to_thread(wait_until_idle, target.pid)
    gc.collect()
    async with writer.connected(pool.address):
        await asyncio.sleep(PAUSE)
        complete = pool.expect(wanted)
        begun, load, cpu = time.perf_counter(), time.process_time(), cpu_seconds(target.pid)
        await writer.run(numbers, lambda number: target.write(number, audience), rate, pool.sent)
        await asyncio.wait([complete], timeout=GIVE_UP)
        seconds, load, after = time.perf_counter() - begun, time.process_time() - load, cpu_seconds(target.pid)
        await asyncio.sleep(PAUSE)
    last = [pool.latest[number] - pool.sent[number] for number in numbers if number in pool.latest]
    took = None if cpu is None or after is None else after - cpu
    run = Run(len(numbers), seconds, took, load, sorted(pool.lags), last)
    return run, [*pool.check(expected), *writer.tally.failures]


async def grown(target: Target, subscriptions: Sequence[Sequence[str]]) -> float | None:
    """Connect a watcher for each sequence of subscriptions: the memory that the server has grown by, KiB."""
    before = await _memory(target)
    await target.pool.join(subscriptions)
    after = await _memory(target)
    return None if before is None or after is None else after - before


async def warm_up(target: Target, subscription: str) -> None:
    await target.pool.join([[subscription]] * WARM_UP)
    target.pool.leave()


async def _memory(target: Target) -> float | None:
    await asyncio.to_thread(wait_until_idle, target.pid)
    await asyncio.to_thread(target.tidy)
    return resident_kib(target.pid)
