"""Several hub processes over one database. Writes go through the first; each has its own pool of clients."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.client_pools import PoolSetup, RemotePool, remote_pool
from benchmarks.paced import PacedWriter
from benchmarks.processes import Hub, cpu_seconds, wait_until_idle
from benchmarks.targets import EVERYTHING, Audience, HubTarget

LEAST: Final = 4
"""Minimum writes of a run."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of a run. `cpu`: CPU seconds of all hubs; `last`: seconds from each write to its last delivery."""

    writes: int
    cpu: float
    deliveries: int
    last: Sequence[float]
    faults: list[str]

    def net(self, quiet: Measured) -> float | None:
        """Return the CPU of the hubs, µs per delivery, minus the cost of as many writes that nobody receives."""
        if not self.deliveries:
            return None
        return (self.cpu - quiet.cpu * self.writes / quiet.writes) / self.deliveries * 1e6

    @property
    def last_ms(self) -> float | None:
        return statistics.median(self.last) * 1e3 if self.last else None


class MultiProcess:
    """The hubs, which must be fresh, and their pools."""

    def __init__(self, hubs: Sequence[Hub]) -> None:
        self.hubs = hubs
        self.target = HubTarget(hubs[0])
        self._pools: list[RemotePool] = []
        self._written = 0

    async def join(self, stack: ExitStack, each: int) -> None:
        """Connect `each` clients to each hub, until `stack` ends."""
        for hub in self.hubs:
            setup = PoolSetup((hub.host, hub.port), self.target.pool.greeting, EVERYTHING)
            self._pools.append(stack.enter_context(remote_pool(setup, each)))
        await asyncio.gather(*(pool.joined() for pool in self._pools))

    async def write(self, rate: float, seconds: float, audience: Audience) -> Measured:
        """Write at this rate, to all or to nobody, and wait until all clients have received everything."""
        count = max(LEAST, round(rate * seconds))
        numbers = range(self._written, self._written + count)
        self._written += count
        pools, writer, sent = self._pools if audience == "all" else [], PacedWriter(), dict[int, float]()
        for hub in self.hubs:
            await asyncio.to_thread(wait_until_idle, hub.pid)
        async with writer.connected(self.target.pool.address):
            await asyncio.gather(*(pool.expect(numbers) for pool in pools))
            before = self._cpu()
            await writer.run(numbers, lambda number: self.target.write(number, audience), rate, sent)
            heard = await asyncio.gather(*(pool.heard() for pool in pools))
            cpu = self._cpu() - before
        latest = [max(one.latest.get(number, 0.0) for one in heard) - sent[number] for number in numbers if heard]
        faults = [fault for one in heard for fault in one.faults] + writer.result.failures
        return Measured(count, cpu, sum(one.deliveries for one in heard), latest, faults)

    def _cpu(self) -> float:
        return sum(cpu_seconds(hub.pid) or 0.0 for hub in self.hubs)
