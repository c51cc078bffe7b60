"""How costs grow: `python -m benchmarks.curves [--only NAME] [--entities N] [--subscriptions N] [--connections N]`.

It measures up to a million entities, 100 000 distinct subscriptions, 20 000 connections to one process, the same number
to two processes over one MongoDB, and a thousand clients that resume at once after a restart. The hub is on one core,
the load on another. The two processes use MongoDB; all else uses the embedded engine.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import uvloop

from benchmarks import rest
from benchmarks.data import READINGS, STATIONS, Scene, accounts, client, fill, made, sign_in
from benchmarks.fanout import Bench, affordable
from benchmarks.load import spread
from benchmarks.multi_process import MultiProcess
from benchmarks.processes import (
    Cores,
    Hub,
    cpu_seconds,
    mongodb,
    on_cores,
    replica_set,
    resident_kib,
    running_hub,
    wait_until_idle,
)
from benchmarks.report import Row, conclude, number, parser, say
from benchmarks.targets import EVERYTHING, HubTarget, entity_view
from benchmarks.watchers import ClientPool
from hub.serve import allow_connections

SPREAD: Final = 100
"""Connections that share the distinct subscriptions."""
MISSED: Final = 100
"""Changes that each resuming client has missed."""
RESUMING: Final = 1_000
GUESTS: Final = 50
"""Entities that a guest sees in the growing store."""
DELIVERIES: Final = 20_000
"""Deliveries per second at each number of connections."""
RESUME_SECONDS: Final = 60.0
HUBS: Final = 2
"""Processes over one MongoDB. They share the connections, because the system limits the open files of each process."""


@dataclass(slots=True)
class Curve:
    """`points` are (x, {series: value})."""

    name: str
    title: str
    x: str
    unit: str
    points: list[tuple[float, dict[str, float | None]]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a Markdown table."""
        series = list(dict.fromkeys(name for _, values in self.points for name in values))
        yield f"| {self.x} | " + " | ".join(f"{name}, {self.unit}" for name in series) + " |"
        yield "| --- " * (len(series) + 1) + "|"
        for x, values in self.points:
            yield f"| {number(x)} | " + " | ".join(number(values.get(name)) for name in series) + " |"

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "title": self.title, "x": self.x, "unit": self.unit, "points": self.points}


@dataclass(slots=True)
class Curves:
    """The sizes to measure, and the results."""

    cores: Cores
    mongodb: str | None
    entities: int
    subscriptions: int
    connections: int
    seconds: float
    curves: list[Curve] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def begin(self, name: str, title: str, x: str, unit: str) -> Curve:
        self.curves.append(Curve(name, title, x, unit))
        return self.curves[-1]

    def bench(self, clients: int) -> Bench:
        """Return a fan-out benchmark with these clients, without a peer, for one round."""
        return Bench(self.cores, None, "", clients, clients, 0, self.seconds, 1)


def sizes(first: int, most: int) -> list[int]:
    """Return `first` times powers of ten below `most`, and `most` itself."""
    found = []
    while first < most:
        found.append(first)
        first *= 10
    return [*found, most]


# The curves.


async def entities(run: Curves) -> None:
    """Measure the cost of reading from one store at growing sizes."""
    cost = run.begin("entities", "Reading from a store that grows", "entities", "µs of CPU")
    import_rate = run.begin("import", "Filling a store through the API, in arrays of 5 000", "entities", "entities/s")
    with running_hub("", run.cores) as hub:
        user, admin = accounts(hub)
        guest = guest_of(hub, admin)
        there = GUESTS
        for size in sizes(1_000, run.entities):
            begun = time.perf_counter()
            with client(hub, user) as http:
                ids = await asyncio.to_thread(fill, http, size, there)
            import_rate.points.append((size, {"import": (size - there) / (time.perf_counter() - begun)}))
            there = size
            say(f"entities: {size} ...")
            bench = rest.Bench(Scene(hub, user, admin, size - GUESTS, ids), run.seconds)
            cost.points.append((size, await reading(bench, guest)))
        run.faults += hub.complaints()[:10]


def guest_of(hub: Hub, admin: str) -> str:
    """Return the token of a new user in no group, who sees only a few entities of its own."""
    password = secrets.token_urlsafe(16)
    with client(hub, admin) as http:
        made(http, "users", {"login": "guest", "password": password})
    guest = sign_in(hub, "guest", password)
    with client(hub, guest) as http:
        fill(http, GUESTS)
    return guest


async def reading(bench: rest.Bench, guest: str) -> dict[str, float | None]:
    rows = [(await rest.read_by_id(bench))[0], *await rest.filtered_list(bench)]
    names = ["read by id", "100 of one station", "100 from a serial on", f"list of who sees {GUESTS}"]
    rows.append(await bench.measure("guest", spread([bench.scene.request("GET", f"{READINGS}?limit=100", guest)], 1)))
    for depth in (0.0, 0.5, 0.99):
        request = bench.scene.request("GET", rest.page_at(bench.scene, int(depth * bench.scene.entities)))
        rows.append(await bench.measure("page", spread([request], 1)))
        names.append(f"page of 100 at {depth:.0%}")
    return dict(zip(names, map(micros, rows), strict=True))


def micros(row: Row) -> float | None:
    return row.micros(row.hub_cpu)


async def channels(run: Curves) -> None:
    """Measure one change among more and more subscriptions to other entities; one subscription receives it."""
    curve = run.begin("channels", "One change among distinct subscriptions", "subscriptions", "µs of CPU")
    for size in sizes(SPREAD, run.subscriptions):
        say(f"channels: {size} subscriptions ...")
        bench = run.bench(SPREAD)
        async with bench.hub() as target:
            target.slices = SPREAD
            others = range(size // SPREAD - 1)
            views = [[id, *(secrets.token_hex(12) for _ in others)] for id in target.scene.ids[:SPREAD]]
            await target.pool.join([[entity_view(id) for id in ids] for ids in views])
            await bench.write(target, 250, "slice")
            heard = await bench.write(target, 250, "slice")
            curve.points.append((size, {"change": heard.micros(heard.writes)}))
        run.faults += bench.faults


async def subscribers(run: Curves) -> None:
    """Measure writes that go to every connection, with the same number of deliveries per second at each size."""
    cost = run.begin("subscribers", "Broadcast to connections", "connections", "µs of CPU per delivery")
    memory = run.begin("memory", "Memory of connections", "connections", "MiB")
    for size in sizes(10, affordable(run.connections)):
        say(f"subscribers: {size} connections ...")
        bench = run.bench(size)
        async with bench.hub() as target:
            await target.pool.join([[EVERYTHING]] * size)
            rate = min(100.0, DELIVERIES / size)
            await bench.write(target, rate, "all", least=2)
            heard = await bench.write(target, rate, "all", least=4)
            quiet = await bench.write(target, rate, "nobody", least=4)
            cost.points.append((size, {"delivery, net of the write": heard.net(quiet)}))
            memory.points.append((size, {"hub": resident_mib(target)}))
        run.faults += bench.faults


def resident_mib(target: HubTarget) -> float | None:
    kib = resident_kib(target.pid)
    return kib and kib / 1024


async def processes(run: Curves) -> None:
    """Measure writes through one hub process that go to every connection, of this process and of the others."""
    over = f"{HUBS} hub processes over one MongoDB"
    cost = run.begin("processes", f"Broadcast to connections of {over}", "connections", "µs of CPU per delivery")
    delay = run.begin("delay", f"From a write to its last delivery, {over}", "connections", "ms")
    with replica_set(run.mongodb, run.cores) as server:
        for size in sizes(1_000, HUBS * affordable(run.connections // HUBS)):
            say(f"processes: {size} connections ...")
            with ExitStack() as stack:
                url = stack.enter_context(mongodb(server, run.cores))
                hubs = [stack.enter_context(running_hub(url, run.cores)) for _ in range(HUBS)]
                multi = MultiProcess(hubs)
                await multi.join(stack, size // HUBS)
                rate = min(100.0, DELIVERIES / size)
                await multi.write(rate, run.seconds, "all")  # to warm up
                heard = await multi.write(rate, run.seconds, "all")
                quiet = await multi.write(rate, run.seconds, "nobody")
                cost.points.append((size, {"delivery, net of the write": heard.net(quiet)}))
                delay.points.append((size, {"write to last delivery": heard.last_ms}))
                run.faults += heard.faults + [line for hub in hubs for line in hub.complaints()[:10]]


async def resume(run: Curves) -> None:
    """Measure clients that all resume at once after the hub was restarted."""
    curve = run.begin("resume", f"Clients that resume at once after a restart, {MISSED} changes each", "clients", "s")
    for size in sizes(10, RESUMING):
        say(f"resume: {size} clients ...")
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as name:
            folder = Path(name)
            with running_hub("", run.cores, folder) as hub:
                target = HubTarget(hub)
                since = await asyncio.to_thread(missed, target)
            greeting = target.pool.greeting
            with running_hub("", run.cores, folder) as hub:
                pool = ClientPool((hub.host, hub.port), greeting)
                await asyncio.to_thread(wait_until_idle, hub.pid)
                curve.points.append((size, await resumed(pool, hub.pid, since, size, run.faults)))
                pool.leave()


def missed(target: HubTarget) -> str:
    """Make changes, and return the position before them."""
    with target.scene.http() as http:
        position = http.get(READINGS, params={"limit": 1}).headers["x-position"]
        for count in range(MISSED):
            answer: httpx.Response = http.patch(
                f"{READINGS}/{target.scene.ids[count % STATIONS]}", json={"value": count}
            )
            answer.raise_for_status()
    return position


async def resumed(pool: ClientPool, pid: int, since: str, size: int, faults: list[str]) -> dict[str, float | None]:
    """Return the seconds until the last client has everything, and the CPU used."""
    complete = pool.expect(size * MISSED)
    begun, cpu = time.perf_counter(), cpu_seconds(pid)
    wanted = orjson.dumps({"store": READINGS, "since": since}).decode()
    await pool.join([[wanted]] * size)
    await asyncio.wait([complete], timeout=RESUME_SECONDS)
    seconds, after = time.perf_counter() - begun, cpu_seconds(pid)
    faults += pool.check(lambda _: range(MISSED))
    return {"until the last has all": seconds, "CPU": None if cpu is None or after is None else after - cpu}


CURVES: Final[tuple[Callable[[Curves], Awaitable[None]], ...]] = (entities, channels, subscribers, processes, resume)


# Running them.


async def measure(run: Curves, only: str) -> None:
    allow_connections()
    for curve in CURVES:
        if only in curve.__name__:
            await curve(run)


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.curves", __doc__)
    options.add_argument("--entities", type=int, default=1_000_000, help="the largest store (default 1000000)")
    options.add_argument("--subscriptions", type=int, default=100_000, help="the most subscriptions (default 100000)")
    options.add_argument("--connections", type=int, default=20_000, help="the most connections (default 20000)")
    options.add_argument("--seconds", type=float, default=2.0, help="length of each measurement (default 2)")
    names = ", ".join(curve.__name__ for curve in CURVES)
    options.add_argument("--only", default="", help=f"curves whose name contains this: {names}")
    return options.parse_args()


def main() -> int:
    """Print the tables; return 1 if a client missed an event or received one twice."""
    given = arguments()
    most = (given.entities, given.subscriptions, given.connections)
    run = Curves(Cores.choose(), given.mongodb, *most, given.seconds)
    with on_cores(run.cores.load):
        uvloop.run(measure(run, given.only))
    lines = [line for curve in run.curves for line in (curve.title, *curve.lines(), "")][:-1]
    figures = {"curves": [curve.as_json() for curve in run.curves]}
    return conclude(lines, list(dict.fromkeys(run.faults)), figures, given.json)


if __name__ == "__main__":
    sys.exit(main())
