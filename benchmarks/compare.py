"""The hub beside Feathers 5, Eve and PocketBase: `python -m benchmarks.compare [--seconds N] [--rounds N]`.

All servers get the same entities and requests on the same machine in one run. They take turns round by round, so that
other load on the machine affects all of them. docs/performance.md describes the setup of each.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from benchmarks import deliveries
from benchmarks.data import prepare
from benchmarks.load import CLIENTS, load, spread
from benchmarks.peers import (
    BULK,
    BULK_CREATE,
    EVE,
    FEATHERS,
    LIVE,
    OPERATIONS,
    READ,
    SIGNED_IN,
    SORTED_INDEX,
    Subject,
    hub_subject,
    running_peer,
)
from benchmarks.pocketbase import NAME as POCKETBASE
from benchmarks.pocketbase import running_pocketbase
from benchmarks.processes import Cores, cpu_seconds, mongodb, on_cores, running_hub, wait_until_idle
from benchmarks.report import conclude, number, parser, say

BULK_CLIENTS: Final = 2
LIKE_FOR_LIKE, OPEN, ON_SQLITE = "signed in", "open", "PocketBase"
BESIDE: Final = {LIKE_FOR_LIKE: SIGNED_IN.name, OPEN: FEATHERS.name, ON_SQLITE: POCKETBASE}
"""The servers whose throughput the others are compared with: a Feathers application that does the same work per request
as the hub, a bare one, and PocketBase."""

TARGETS: Final[Mapping[str, Mapping[str, float]]] = {
    "hub, sqlite": {LIKE_FOR_LIKE: 4.0, OPEN: 4.0, ON_SQLITE: 3.0},
    "hub, mongodb": {LIKE_FOR_LIKE: 1.5, OPEN: 1.5},
}
"""Target throughput, as a multiple of that of the servers in BESIDE. PocketBase has no MongoDB."""


@dataclass(slots=True)
class Result:
    """One operation on one server. CPU is in µs per operation, for the server and its database together."""

    per_second: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "per_second": statistics.median(self.per_second),
            "cpu_us": statistics.median(self.cpu),
            "p99_ms": statistics.median(self.p99_ms),
            "rounds": self.per_second,
            "errors": len(self.failures),
        }


Results = dict[tuple[str, str], Result]
"""By operation and server."""


async def warm_up(subjects: Sequence[Subject], seconds: float) -> None:
    """Load each server for three times the length of a measurement, because Node gets faster for that long."""
    for subject in subjects:
        say(f"warming up: {subject.name} ...")
        await load(subject.address, spread(subject.requests[READ], CLIENTS), 3 * seconds)


async def measure(subject: Subject, operation: str, seconds: float, into: Result) -> None:
    """Run one round: load the server with the operation, and add the results to `into`."""
    if operation == LIVE:
        await measure_live(subject, seconds, into)
        return
    clients, entities = (BULK_CLIENTS, BULK) if operation == BULK_CREATE else (CLIENTS, 1)
    requests = spread(subject.requests[operation], clients)
    await load(subject.address, requests, seconds / 4)
    await idle(subject)
    before = cpu_of(subject)
    result = await load(subject.address, requests, seconds)
    into.per_second.append(result.per_second * entities)
    into.cpu.append((cpu_of(subject) - before) / max(1, len(result.latencies) * entities) * 1e6)
    into.p99_ms.append(result.percentile(0.99) * 1e3)
    into.failures += result.failures


async def measure_live(subject: Subject, seconds: float, into: Result) -> None:
    """Run one round of changes that are delivered to all clients. The operation is a delivery."""
    assert subject.live is not None
    count = await deliveries.join(subject.live, seconds)
    await idle(subject)
    before = cpu_of(subject)
    run = await deliveries.deliver(subject.live, count)
    into.per_second.append(run.per_second)
    into.cpu.append((cpu_of(subject) - before) / max(1, run.deliveries) * 1e6)
    into.p99_ms.append(run.percentile(0.99) * 1e3)
    into.failures += run.faults
    subject.live.pool.leave()


async def idle(subject: Subject) -> None:
    for pid in (subject.pid, subject.database_pid):
        await asyncio.to_thread(wait_until_idle, pid)


def cpu_of(subject: Subject) -> float:
    return sum(cpu_seconds(pid) or 0.0 for pid in (subject.pid, subject.database_pid) if pid is not None)


async def run(subjects: Sequence[Subject], seconds: float, rounds: int, only: str) -> Results:
    results: Results = {}
    await warm_up(subjects, seconds)
    for operation in OPERATIONS:
        if only not in operation:
            continue
        able = [subject for subject in subjects if subject.has(operation)]
        for turn in range(rounds):
            for subject in able:
                say(f"{operation}, round {turn + 1}: {subject.name} ...")
                await measure(subject, operation, seconds, results.setdefault((operation, subject.name), Result()))
    return results


def as_json(results: Results) -> dict[str, Any]:
    rows = [
        {"operation": o, "server": s, "times": times_beside(results, o, s), **result.as_json()}
        for (o, s), result in results.items()
    ]
    return {"rows": rows, "misses": list(misses(results))}


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Return Markdown lines: operations down, servers across, then the misses of targets."""
    servers = list(dict.fromkeys(row["server"] for row in figures["rows"]))
    lines = ["| operation | " + " | ".join(servers) + " |", "| --- " * (1 + len(servers)) + "|"]
    for operation in dict.fromkeys(row["operation"] for row in figures["rows"]):
        found = {row["server"]: cell(row) for row in figures["rows"] if row["operation"] == operation}
        lines.append(f"| {operation} | " + " | ".join(found.get(server, "") for server in servers) + " |")
    return [*lines, "", *(f"- {miss}" for miss in figures["misses"])]


def cell(row: dict[str, Any]) -> str:
    times = (f"**{t:.1f} ×**" if which == LIKE_FOR_LIKE else f"{which} {t:.1f} ×" for which, t in row["times"].items())
    beside = f" ({', '.join(times)})" if row["times"] else ""
    return f"{number(row['per_second'])}/s{beside}, {number(row['cpu_us'])} µs"


def times_beside(results: Results, operation: str, server: str) -> dict[str, float]:
    """Return the throughput as a multiple of that of each server in BESIDE that does the operation; empty for these
    servers themselves.

    It is the median of the ratios within a round, because the servers of a round had the same machine.
    """
    if server in BESIDE.values():
        return {}
    own = results[operation, server].per_second
    beside = {which: (operation, name) for which, name in BESIDE.items() if (operation, name) in results}
    peers = {which: results[key].per_second for which, key in beside.items()}
    return {w: statistics.median(a / b for a, b in zip(own, peer, strict=True) if b) for w, peer in peers.items()}


def misses(results: Results) -> Iterator[str]:
    """Yield a line for every row and each server in BESIDE for which the row misses its target."""
    for operation, server in results:
        for which, times in times_beside(results, operation, server).items():
            aim = TARGETS.get(server, {}).get(which, 0.0)
            if times < aim:
                yield f"{server}, {operation}: {times:.2f} × {BESIDE[which]}, below {aim:g}"


def failures(results: Results) -> list[str]:
    """Return a line for every row with errors."""
    return [
        f"{server}, {operation}: {len(result.failures)} errors: {result.failures[0][:200]}"
        for (operation, server), result in results.items()
        if result.failures
    ]


def subjects(stack: ExitStack, cores: Cores, given: argparse.Namespace) -> list[Subject]:
    """Start and fill the servers. MongoDB serves four of the six, and is left out with them for `--engine sqlite`."""
    database_url = stack.enter_context(mongodb(given.mongodb, cores)) if given.engine == "both" else ""
    started: list[Subject] = []
    for url in dict.fromkeys(("", database_url)):
        hub = stack.enter_context(running_hub(url, cores))
        say(f"hub, {hub.engine}: creating {given.entities} entities ...")
        started.append(hub_subject(prepare(hub, given.entities, [SORTED_INDEX])))
    for peer in (SIGNED_IN, FEATHERS, EVE) if database_url else ():
        say(f"{peer.name}: starting, creating {given.entities} entities ...")
        started.append(stack.enter_context(running_peer(peer, database_url, cores, given.entities)))
    say(f"{POCKETBASE}: starting, creating {given.entities} entities ...")
    started.append(stack.enter_context(running_pocketbase(cores, given.entities))[0])
    return started


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.compare", __doc__)
    options.add_argument("--engine", choices=("sqlite", "both"), default="both", help="sqlite: without MongoDB")
    options.add_argument("--seconds", type=float, default=3.0, help="length of each measurement (default 3)")
    options.add_argument("--rounds", type=int, default=3, help="measurements of each row; medians count (default 3)")
    options.add_argument("--entities", type=int, default=50_000, help="entities to read from (default 50000)")
    options.add_argument("--only", default="", help="operations whose name contains this")
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if an answer was an error."""
    given = arguments()
    cores = Cores.choose()
    with ExitStack() as stack:
        started = subjects(stack, cores, given)
        with on_cores(cores.load):
            results = uvloop.run(run(started, given.seconds, given.rounds, given.only))
    figures = as_json(results)
    return conclude(lines_of(figures), failures(results), figures, given.json)


if __name__ == "__main__":
    sys.exit(main())
