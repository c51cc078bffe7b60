"""The throughput of live delivery: changes as fast as they are answered, each of which goes to every client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.load import CLIENTS, load
from benchmarks.peers import LIVE_CLIENTS, LiveDelivery
from benchmarks.runs import GIVE_UP, PAUSE

LEAST: Final = 2 * CLIENTS
"""Minimum changes of a run."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The results of a run. `seconds` is the time until the last client has the last event; `lags`, in seconds, the
    times from each change to each of its deliveries, sorted."""

    deliveries: int
    seconds: float
    lags: list[float]
    faults: list[str]

    @property
    def per_second(self) -> float:
        return self.deliveries / self.seconds

    def percentile(self, share: float) -> float:
        return self.lags[min(int(share * len(self.lags)), len(self.lags) - 1)] if self.lags else 0.0


async def join(live: LiveDelivery, seconds: float) -> int:
    """Connect the clients, and warm up. Return the number of changes for a run of about so many seconds."""
    await live.pool.join([[live.subscription]] * LIVE_CLIENTS)
    warm_up = await deliver(live, LEAST)
    return max(LEAST, round(warm_up.per_second / LIVE_CLIENTS * seconds))


async def deliver(live: LiveDelivery, count: int) -> Delivered:
    """Make so many changes over CLIENTS connections, and wait until every client has received each of them once."""
    numbers = range(live.next, live.next + count)
    live.next += count
    pool = live.pool
    complete = pool.expect(count * len(pool.watchers))

    def changes(first: int) -> Iterator[bytes]:
        for number in numbers[first::CLIENTS]:
            pool.sent[number] = time.perf_counter()
            yield live.change(number)

    begun = time.perf_counter()
    result = await load(pool.address, [changes(n) for n in range(CLIENTS)], 2 * GIVE_UP)
    await asyncio.wait([complete], timeout=GIVE_UP)
    seconds = time.perf_counter() - begun
    await asyncio.sleep(PAUSE)  # so that a surplus event can arrive
    faults = [*pool.check(lambda _: numbers), *result.failures]
    return Delivered(len(pool.lags), seconds, sorted(pool.lags), faults)
