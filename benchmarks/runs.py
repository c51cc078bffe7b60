"""One run of writes to a server, and of its events to the watchers: cost, latency and faults."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.paced import PacedWriter
from benchmarks.processes import cpu_seconds, resident_kib, wait_until_idle
from benchmarks.targets import Audience, Target

GIVE_UP: Final = 30.0
"""Maximum seconds to wait for events after the last write is answered."""

PAUSE: Final = 0.05
"""Seconds before a run, so that the server can accept its connections, and after the last expected event, so that a
surplus one can arrive."""

WARM_UP: Final = 20
"""Clients that connect and leave before memory is read: the server keeps what it allocates for the first ones."""


@dataclass(frozen=True, slots=True)
class Run:
    """The results of a run.

    `cpu` and `load` are CPU seconds of the server and of this process. In seconds: `lags`, from each write to each of
    its deliveries, sorted; `last`, from each write to its last delivery.
    """

    writes: int
    seconds: float
    cpu: float | None
    load: float
    lags: Sequence[float]
    last: Sequence[float]

    def micros(self, operations: int) -> float | None:
        """Return the server's CPU, µs per operation."""
        return None if self.cpu is None or not operations else self.cpu / operations * 1e6

    def net(self, quiet: Run) -> float | None:
        """Return the server's CPU, µs per delivery, minus the cost of as many writes that nobody receives."""
        if self.cpu is None or quiet.cpu is None or not self.lags:
            return None
        return (self.cpu - quiet.cpu * self.writes / quiet.writes) / len(self.lags) * 1e6

    def lag_ms(self, share: float) -> float:
        """Return the milliseconds that this share of the deliveries does not exceed."""
        return self.lags[min(int(share * len(self.lags)), len(self.lags) - 1)] * 1e3 if self.lags else 0.0

    def busy(self, cpu: float | None) -> float | None:
        """Return the share of a core, percent."""
        return None if cpu is None else cpu / self.seconds * 100


async def write(
    target: Target, numbers: range, rate: float, audience: Audience, expected: Callable[[int], Iterable[int]]
) -> tuple[Run, list[str]]:
    """Write these numbers, `rate` of them a second, and wait until every watcher has received `expected(its index)`.

    Return the run, and the faults in the answers and in what the watchers received.
    """
    pool, writer = target.pool, PacedWriter()
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
    return run, [*pool.check(expected), *writer.result.failures]


async def grown(target: Target, subscriptions: Sequence[Sequence[str]]) -> float | None:
    """Connect a watcher for each sequence of subscriptions. Return the KiB by which the server's memory has grown."""
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
