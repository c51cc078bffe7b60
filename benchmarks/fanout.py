"""Live fan-out, beside a Socket.IO server of Node: `python -m benchmarks.fanout [--only ROW] [--seconds N]`.

Real server processes, `hub serve` and Node in turn, run on one core. Writes and clients come from this process on
another core, with the same program for both. The main figure is the CPU of the server per delivery. Each figure is
taken in several rounds, in which the hub and Node alternate. docs/performance.md describes each row.

For latency, 500 subscribers each watch a slice of their own. So each of 500 writes per second reaches one of them,
while all of them are connected. If all 500 received all 500 writes, that would be 250 000 deliveries per second, more
than one core has time for. The number of writes per second that may go to all is a separate figure.
"""

from __future__ import annotations

import argparse
import gc
import math
import resource
import secrets
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import uvloop

from benchmarks.baseline import baseline
from benchmarks.figures import Figures
from benchmarks.processes import Cores, mongodb, on_cores, replica_set, running_hub
from benchmarks.report import conclude, parser, say
from benchmarks.runs import Run, grown, warm_up, write
from benchmarks.targets import EVERYTHING, Audience, HubTarget, Node, Target, entity_view, slice_view
from hub.serve import allow_connections

WRITE_RATE: Final = 100.0
DELIVERY_RATE: Final = 50_000
"""A broadcast has WRITE_RATE writes per second, or fewer, to stay within DELIVERY_RATE deliveries per second."""

FRAME_HEAD: Final = 4
"""Bytes of the head of a WebSocket frame, for an event of more than 125 bytes."""

CROWD_RATE: Final = 20_000
"""Deliveries per second to many connections: low enough that one event is delivered before the next is written."""

MANY_WRITES: Final = 10
"""Minimum writes of such a run."""

SPARE_FILES: Final = 200
"""Open files that are not clients."""

LATENCY_RATE: Final = 500.0
RAMP_FROM: Final = 25_000
"""Deliveries per second at which the search for the highest rate of broadcasts starts, in steps of RAMP_BY."""
RAMP_BY: Final = 1.25
RAMP_MOST: Final = 6_400.0
"""Writes per second at which the search ends in any case."""

SUSTAINED_MS: Final = 100.0
"""A rate is sustained while 9 of 10 deliveries take no longer. Beyond it the backlog grows, and most deliveries are
late."""
ATTEMPTS: Final = 2
"""Runs in which a rate can be shown to be sustained, because other load on the machine spoils a run now and then."""

FEW: Final = 100
"""Connections that share the distinct subscriptions, and the lowest number of subscriptions."""

# Upper targets for the hub.
DELIVERY_US: Final = 6.0
MEMORY_KIB: Final = 28.0
CHANNELS_RATIO: Final = 2.0
P50_MS: Final = 3.0
P99_MS: Final = 15.0


@dataclass(slots=True)
class Bench:
    """What to measure with, and the results. `replica_set` is empty for SQLite."""

    cores: Cores
    node: Node | None
    replica_set: str
    clients: int
    connections: int
    subscriptions: int
    seconds: float
    rounds: int
    figures: Figures = field(default_factory=Figures)
    faults: list[str] = field(default_factory=list)
    _written: int = 0

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[HubTarget]:
        """Run a fresh hub."""
        with ExitStack() as stack:
            url = stack.enter_context(mongodb(self.replica_set, self.cores)) if self.replica_set else ""
            hub = stack.enter_context(running_hub(url, self.cores))
            target = HubTarget(hub)
            yield target
            target.pool.leave()
            self.faults += [f"the hub logged: {line}" for line in hub.complaints()[:10]]

    @asynccontextmanager
    async def targets(self) -> AsyncIterator[list[Target]]:
        """Run a fresh hub and, if Node is available, a fresh Socket.IO server."""
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(self.hub())
            yield [hub, stack.enter_context(self.node.running(self.cores, hub.pool))] if self.node else [hub]

    async def write(self, target: Target, rate: float, audience: Audience, least: int = 1) -> Run:
        """Do a run at this rate, with at least `least` writes."""
        count = max(least, round(rate * self.seconds))
        numbers = range(self._written, self._written + count)
        self._written += count

        def expected(index: int) -> Iterable[int]:
            if audience == "slice":
                return [number for number in numbers if number % target.slices == index % target.slices]
            return numbers if audience == "all" else ()

        run, faults = await write(target, numbers, rate, audience, expected)
        self.faults += [f"{target.name}: {fault}" for fault in faults]
        return run

    async def pair(self, target: Target, rate: float, audience: Audience) -> tuple[Run, Run]:
        """Do the same writes with subscribers that receive them, and without."""
        return await self.write(target, rate, audience), await self.write(target, rate, "nobody")


# The rows.


async def broadcast(bench: Bench) -> None:
    """Measure writes that go to every client, and the same writes to nobody, whose cost is subtracted."""
    rate = min(WRITE_RATE, DELIVERY_RATE / bench.clients)
    to = f"broadcast to {bench.clients} at {rate:g}/s"
    async with bench.targets() as targets:
        for target in targets:
            await target.pool.join([[EVERYTHING]] * bench.clients)
            await bench.pair(target, rate, "all")  # to warm up
        for _ in range(bench.rounds):
            for target in targets:
                heard, quiet = await bench.pair(target, rate, "all")
                deliveries = len(heard.lags)
                bench.figures.add(target.name, f"{to}: CPU per delivery, net", "µs", heard.net(quiet), DELIVERY_US)
                bench.figures.add(target.name, f"{to}: CPU per delivery, gross", "µs", heard.micros(deliveries))
                bench.figures.add(target.name, f"{to}: CPU per write, no receivers", "µs", quiet.micros(quiet.writes))
                bench.figures.add(target.name, f"{to}: server busy", "%", heard.busy(heard.cpu))
                bench.figures.add(target.name, f"{to}: clients busy", "%", heard.busy(heard.load))
            octets = len(targets[0].pool.sample) + FRAME_HEAD
            least = await baseline(bench.cores, bench.clients, octets, rate, round(rate * bench.seconds))
            bench.figures.add("hub", f"{to}: a bare write(2) of the same", "µs", least)


async def memory(bench: Bench) -> None:
    """Measure how much a server grows for each idle client with one subscription."""
    number = 4 * bench.clients
    for _ in range(bench.rounds):
        async with bench.targets() as targets:
            for target in targets:
                await warm_up(target, EVERYTHING)
                kib = await grown(target, [[EVERYTHING]] * number)
                label = f"memory per idle client, of {number}"
                bench.figures.add(target.name, label, "KiB", kib and kib / number, MEMORY_KIB)


async def channels(bench: Bench) -> None:
    """Measure a change that one subscription receives, among few and among many that watch other entities.

    Most of those entities do not exist, which makes no difference to a subscription.
    """
    few, many = FEW, max(FEW, bench.subscriptions)
    async with bench.hub() as small, bench.hub() as large:
        for target, number in ((small, few), (large, many)):
            target.slices = FEW
            others = range(number // FEW - 1)
            views = [[id, *(secrets.token_hex(12) for _ in others)] for id in target.scene.ids[:FEW]]
            kib = await grown(target, [[entity_view(id) for id in ids] for ids in views])
            label = f"memory of {FEW} clients with {number} subscriptions, per subscription"
            bench.figures.add("hub", label, "KiB", kib and kib / number)
            await bench.write(target, LATENCY_RATE / 2, "slice")
        for _ in range(bench.rounds):
            costs = []
            for target, number in ((small, few), (large, many)):
                heard, quiet = await bench.pair(target, LATENCY_RATE / 2, "slice")
                costs.append(heard.micros(heard.writes))
                bench.figures.add("hub", f"change among {number} subscriptions: CPU", "µs", costs[-1])
                bench.figures.add("hub", f"change among {number} subscriptions: CPU, net", "µs", heard.net(quiet))
            if costs[0] and costs[1]:
                label, ratio = f"change among {many} to {few}: CPU", costs[1] / costs[0]
                bench.figures.add("hub", label, "times", ratio, CHANNELS_RATIO)


async def latency(bench: Bench) -> None:
    """Measure the time from a write to the client that watches its slice."""
    label = f"write to client, {LATENCY_RATE:g} writes/s, each to one of {bench.clients}"
    async with bench.targets() as targets:
        for target in targets:
            target.slices = min(target.slices, bench.clients)
            await target.pool.join([[slice_view(index % target.slices)] for index in range(bench.clients)])
            await bench.write(target, LATENCY_RATE, "slice")
        for _ in range(bench.rounds):
            for target in targets:
                run = await bench.write(target, LATENCY_RATE, "slice")
                bench.figures.add(target.name, f"{label}: p50", "ms", run.lag_ms(0.5), P50_MS)
                bench.figures.add(target.name, f"{label}: p99", "ms", run.lag_ms(0.99), P99_MS)
                bench.figures.add(target.name, f"{label}: server busy", "%", run.busy(run.cpu))


async def sustained(bench: Bench) -> None:
    """Measure the highest rate of broadcasts that a server sustains, and the latencies at that rate."""
    label = f"broadcast to {bench.clients}, highest rate"
    async with bench.targets() as targets:
        for target in targets:
            await target.pool.join([[EVERYTHING]] * bench.clients)
            await bench.write(target, RAMP_FROM / bench.clients / 2, "all", least=10)
        for target in targets:
            rate, best = await highest_rate(bench, target)
            bench.figures.add(target.name, f"{label}: writes", "/s", rate)
            bench.figures.add(target.name, f"{label}: deliveries", "/s", len(best.lags) / best.seconds if best else 0.0)
            if best:
                cost = best.micros(len(best.lags))
                bench.figures.add(target.name, f"{label}: CPU per delivery, gross", "µs", cost, DELIVERY_US)
                bench.figures.add(target.name, f"{label}: p50", "ms", best.lag_ms(0.5))
                bench.figures.add(target.name, f"{label}: p99", "ms", best.lag_ms(0.99))
                bench.figures.add(target.name, f"{label}: server busy", "%", best.busy(best.cpu))
                bench.figures.add(target.name, f"{label}: clients busy", "%", best.busy(best.load))


async def highest_rate(bench: Bench, target: Target) -> tuple[float, Run | None]:
    """Return the writes per second, and the run at that rate; 0 and None if even the first rate is not sustained."""
    rate, found, best = min(WRITE_RATE, RAMP_FROM / bench.clients), 0.0, None
    while rate <= RAMP_MOST:
        run = await attempt(bench, target, rate)
        if run is None:
            break
        found, best = rate, run
        rate *= RAMP_BY
    return found, best


async def attempt(bench: Bench, target: Target, rate: float) -> Run | None:
    """Return a run that sustains this rate; None if there is none."""
    for _ in range(ATTEMPTS):
        run = await bench.write(target, rate, "all")
        if run.lag_ms(0.9) <= SUSTAINED_MS:
            return run
    return None


async def connections(bench: Bench) -> None:
    """Measure very many clients on one process, all of which receive every write.

    The targets are measured one after the other: the clients of both would need more open files than many systems
    allow.
    """
    number = affordable(bench.connections)
    rate, label = min(WRITE_RATE, CROWD_RATE / number), f"{number} connections"
    async with bench.targets() as targets:
        for target in targets:
            await warm_up(target, EVERYTHING)
            kib = await grown(target, [[EVERYTHING]] * number)
            bench.figures.add(target.name, f"{label}: memory per client", "KiB", kib and kib / number, MEMORY_KIB)
            await bench.write(target, rate, "all", MANY_WRITES)
            for _ in range(bench.rounds):
                heard = await bench.write(target, rate, "all", MANY_WRITES)
                quiet = await bench.write(target, rate, "nobody", MANY_WRITES)
                bench.figures.add(target.name, f"{label}: CPU per delivery, net", "µs", heard.net(quiet), DELIVERY_US)
                last = statistics.median(heard.last) if heard.last else math.nan
                bench.figures.add(target.name, f"{label}: write to last delivery", "ms", last * 1e3)
                bench.figures.add(target.name, f"{label}: deliveries", "", len(heard.lags))
            target.pool.leave()


def affordable(number: int) -> int:
    """Return `number`, or fewer if this process, and a server under the same limit, may not have that many open
    files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    if number > most:
        say(f"the limit of open files (ulimit -Hn) allows {most} connections, not {number}")
    return min(number, most)


ROWS: Final[tuple[Callable[[Bench], Awaitable[None]], ...]] = (
    broadcast,
    memory,
    channels,
    latency,
    sustained,
    connections,
)


# Running them.


async def run(bench: Bench, only: str) -> None:
    """Run every row whose name contains `only`."""
    allow_connections()
    gc.freeze()
    gc.disable()  # collected between runs: a pause of the clients would count as latency of the server
    for row in ROWS:
        if only in row.__name__:
            say(f"{row.__name__} ...")
            await row(bench)


def installed_node() -> Node | None:
    """Return the installation of Node; None, with a message, if there is no Node."""
    try:
        return Node()
    except (OSError, subprocess.SubprocessError) as error:
        say(f"no Node with socket.io ({error}): only the hub is measured")
        return None


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.fanout", __doc__)
    options.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    options.add_argument("--clients", type=int, default=500, help="subscribers of most rows (default 500)")
    options.add_argument("--connections", type=int, default=10_000, help="of the row of that name (default 10000)")
    options.add_argument("--subscriptions", type=int, default=100_000, help="of the row channels (default 100000)")
    options.add_argument("--seconds", type=float, default=2.0, help="length of each run (default 2)")
    options.add_argument("--rounds", type=int, default=3, help="how often each figure is taken (default 3)")
    names = ", ".join(row.__name__ for row in ROWS)
    options.add_argument("--only", default="", help=f"rows whose name contains this: {names}")
    options.add_argument("--no-node", action="store_true", help="measure the hub alone")
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if a client missed an event or received one twice, or if a write failed."""
    given = arguments()
    cores = Cores.choose()
    node = None if given.no_node else installed_node()
    with ExitStack() as stack:
        url = stack.enter_context(replica_set(given.mongodb, cores)) if given.engine == "mongodb" else ""
        counts = (given.clients, given.connections, given.subscriptions)
        bench = Bench(cores, node, url, *counts, given.seconds, given.rounds)
        with on_cores(cores.load):
            uvloop.run(run(bench, given.only))
    about = {"engine": given.engine, "node": node.versions if node else "not measured"}
    lines = [f"seconds per run: {given.seconds:g}, rounds: {given.rounds}", "", *bench.figures.table()]
    figures = {"figures": [figure.as_json() for figure in bench.figures]}
    return conclude(lines, list(dict.fromkeys(bench.faults)), figures, given.json, about=about)


if __name__ == "__main__":
    sys.exit(main())
