"""This tree beside another commit of it: `python -m benchmarks against COMMIT [--engine ENGINE] [--only ROW]`.

The other commit is installed into a cache folder, with its own environment if its packages differ. Each round starts a
hub of each on the same core. One program loads both from another core, row by row, and alternates which is first. A
figure is the median over the rounds of the ratio within a round. Above 1, this tree does more per CPU second, or per
second. The speed of a machine drifts, but the ratios within a round do not. Two starts of the same program differ by
several percent, because memory and hashes are laid out differently; the median over the rounds does not. Memory per
connection is compared likewise. Its noise is measured: how far the rounds of one and the same program lie apart.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import fanout, rest
from benchmarks.data import prepare
from benchmarks.packages import install_once
from benchmarks.processes import ROOT, Cores, Hub, Program, mongodb, on_cores, replica_set, running_hub
from benchmarks.report import Row, conclude, failures, parser, say
from benchmarks.runs import grown, warm_up
from benchmarks.targets import EVERYTHING, Audience, HubTarget, slice_view
from hub.serve import allow_connections

PACKAGE_FILES: Final = ("pyproject.toml", "constraints.txt")

LEAST: Final = 0.95
"""CPU ratio below which this tree counts as slower in a row."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one row. `cpu` is the hub's CPU per operation, µs. `memory`, KiB per connection, is all that a row on
    memory has."""

    cpu: float | None = None
    per_second: float = 0.0
    memory: float | None = None


@dataclass(slots=True)
class Comparison:
    """The samples of a row, round by round, as (other commit, this tree)."""

    rounds: list[tuple[Sample, Sample]] = field(default_factory=list)

    @property
    def cpu(self) -> float | None:
        """The median ratio of operations per CPU second; None where CPU time cannot be read."""
        ratios = [other.cpu / here.cpu for other, here in self.rounds if other.cpu and here.cpu]
        return statistics.median(ratios) if ratios else None

    @property
    def throughput(self) -> float | None:
        """The median ratio of operations per second; None if the row has none."""
        ratios = [here.per_second / other.per_second for other, here in self.rounds if other.per_second]
        return statistics.median(ratios) if ratios else None

    @property
    def memory(self) -> float | None:
        """The median ratio of connections per KiB; None if the row has no memory."""
        ratios = [other.memory / here.memory for other, here in self.rounds if other.memory and here.memory]
        return statistics.median(ratios) if ratios else None

    @property
    def noise(self) -> float:
        """Half of the range of the memory of one and the same program over the rounds, as a share of its median: the
        greater one of both programs. A single round shows no noise, so it decides nothing."""
        if len(self.rounds) < 2:
            return math.inf
        programs = ([each.memory for each in program if each.memory] for program in zip(*self.rounds, strict=True))
        return max((max(kib) - min(kib)) / 2 / statistics.median(kib) if kib else 0.0 for kib in programs)

    @property
    def is_worse(self) -> bool:
        """Whether this tree takes more CPU than LEAST allows, or more memory than the noise explains."""
        cpu, memory = self.cpu, self.memory
        return (cpu is not None and cpu < LEAST) or (memory is not None and memory < 1 - self.noise)


Comparisons = dict[tuple[str, str], Comparison]
"""By engine and operation."""


def installed(commit: str) -> tuple[str, Program]:
    """Return the full name of a commit, and its hub. Raises SystemExit if there is no such commit."""
    named = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, text=True
    )
    if named.returncode != 0:
        raise SystemExit(f"benchmarks against: there is no commit {commit!r} here")
    name = named.stdout.strip()

    def install(folder: Path) -> None:
        archive = subprocess.run(["git", "archive", name], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
        if not _has_our_packages(folder):
            subprocess.run(["bash", "-c", ". scripts/environment && prepare"], cwd=folder, check=True)

    say(f"installing {name[:10]} ...")
    ours = b"".join((ROOT / file).read_bytes() for file in PACKAGE_FILES)  # they decide whether it has its own packages
    folder = install_once(f"commit-{name[:10]}", name.encode() + sys.version.encode() + ours, install)
    python = sys.executable if _has_our_packages(folder) else str(folder / ".venv" / "bin" / "python")
    return name, Program(folder, python)


def _has_our_packages(folder: Path) -> bool:
    """Return whether that tree needs the same packages as this one, so that it runs with this interpreter."""
    return all((folder / name).read_bytes() == (ROOT / name).read_bytes() for name in PACKAGE_FILES)


def in_turns(round_number: int) -> Sequence[int]:
    """Return the order of the two targets in a round: each comes first in every second round."""
    return (0, 1) if round_number % 2 == 0 else (1, 0)


async def compare_rest(hubs: Sequence[Hub], number: int, given: argparse.Namespace, found: Comparisons) -> list[str]:
    """Measure every row of `benchmarks.rest` in one round. Return the faults."""
    benches = [rest.Bench(prepare(hub, given.entities), given.seconds) for hub in hubs]
    faults: list[str] = []
    for row in rest.ROWS:
        if given.only in row.__name__:
            say(f"{hubs[0].engine}: {row.__name__}, round {number + 1} ...")
            faults += await _round(benches, row, number, found)
    return faults


async def _round(
    benches: Sequence[rest.Bench],
    row: Callable[[rest.Bench], Awaitable[list[Row]]],
    number: int,
    found: Comparisons,
) -> list[str]:
    measured: dict[int, list[Row]] = {}
    for target in in_turns(number):
        measured[target] = await row(benches[target])
    faults: list[str] = []
    for other, here in zip(measured[0], measured[1], strict=True):
        faults += failures([other, here])
        samples = [Sample(each.micros(each.hub_cpu), each.per_second) for each in (other, here)]
        found[here.engine, here.operation].rounds.append((samples[0], samples[1]))
    return faults


async def compare_fanout(
    hubs: Sequence[Hub], number: int, cores: Cores, given: argparse.Namespace, found: Comparisons
) -> list[str]:
    """Measure broadcasts to all clients, and writes that one of them receives, in one round. Return the faults."""
    bench = fanout.Bench(cores, None, "", given.clients, 0, 0, given.seconds, given.rounds)
    rows: tuple[tuple[str, Audience, float], ...] = (
        ("broadcast to all: deliveries", "all", min(fanout.WRITE_RATE, fanout.DELIVERY_RATE / given.clients)),
        ("one of all hears: writes", "slice", fanout.LATENCY_RATE / 2),
    )
    targets = [HubTarget(hub) for hub in hubs]
    for label, audience, rate in rows:
        say(f"{hubs[0].engine}: {label}, round {number + 1} ...")
        for target in targets:
            target.slices = min(target.slices, given.clients)
            views = [EVERYTHING if audience == "all" else slice_view(n % target.slices) for n in range(given.clients)]
            await target.pool.join([[view] for view in views])
            await bench.write(target, rate, audience)
        samples: dict[int, Sample] = {}
        for index in in_turns(number):
            run = await bench.write(targets[index], rate, audience)
            done = len(run.lags) if audience == "all" else run.writes
            samples[index] = Sample(run.micros(done), done / run.seconds)
        found[hubs[0].engine, f"{label}, of {given.clients}"].rounds.append((samples[0], samples[1]))
        for target in targets:
            target.pool.leave()
    return list(bench.faults)


async def compare_memory(hubs: Sequence[Hub], number: int, given: argparse.Namespace, found: Comparisons) -> list[str]:
    """Measure the resident memory of idle, authenticated connections with one subscription each. Return the faults."""
    say(f"{hubs[0].engine}: memory, round {number + 1} ...")
    targets, faults = [HubTarget(hub) for hub in hubs], list[str]()
    kib: dict[int, float | None] = {}
    for index in in_turns(number):
        target = targets[index]
        await warm_up(target, EVERYTHING)
        kib[index] = await grown(target, [[EVERYTHING]] * given.connections)
        faults += target.pool.faults
        target.pool.leave()
    samples = [Sample(memory=grew and grew / given.connections) for _, grew in sorted(kib.items())]
    found[hubs[0].engine, f"memory per connection, of {given.connections}"].rounds.append((samples[0], samples[1]))
    return faults


async def measure(
    engine: str, given: argparse.Namespace, other: Program, cores: Cores, found: Comparisons
) -> list[str]:
    """Measure all rows on one engine: the REST rows, the live rows and memory on different hubs. Return the faults."""
    allow_connections()
    faults: list[str] = []
    names = {"rest": [row.__name__ for row in rest.ROWS], "fanout": ["fanout"], "memory": ["memory"]}
    parts = [part for part, rows in names.items() if any(given.only in row for row in rows)]
    with ExitStack() as servers:
        server = servers.enter_context(replica_set(given.mongodb, cores)) if engine == "mongodb" else ""
        for number, part in itertools.product(range(given.rounds), parts):
            with _both_hubs(server, other, cores) as hubs:
                if part == "rest":
                    faults += await compare_rest(hubs, number, given, found)
                elif part == "memory":
                    faults += await compare_memory(hubs, number, given, found)
                else:
                    faults += await compare_fanout(hubs, number, cores, given, found)
                faults += [f"the hub logged: {line}" for line in hubs[1].complaints()[:10]]
    return faults


@contextmanager
def _both_hubs(server: str, other: Program, cores: Cores) -> Iterator[list[Hub]]:
    """Run a fresh hub of the other commit and one of this tree, on SQLite if `server` (of MongoDB) is empty."""
    with ExitStack() as stack:
        urls = [stack.enter_context(mongodb(server, cores)) if server else "" for _ in range(2)]
        programs = (other, Program.here())
        yield [
            stack.enter_context(running_hub(url, cores, program=program))
            for url, program in zip(urls, programs, strict=True)
        ]


def table(found: Comparisons) -> Iterator[str]:
    width = max((len(operation) for _, operation in found), default=9)
    yield f"{'engine':8} {'operation':{width}} {'CPU':>7} {'per s':>7} {'memory':>7}   rounds"
    for (engine, operation), row in found.items():
        ratios = ("" if ratio is None else f"{ratio:.2f}" for ratio in (row.cpu, row.throughput, row.memory))
        cells = " ".join(f"{ratio:>7}" for ratio in ratios)
        noise = "" if row.memory is None else f", noise {row.noise:.2f}"
        worse = "" if not row.is_worse else "  slower" if row.memory is None else "  larger"
        yield f"{engine:8} {operation:{width}} {cells}   {len(row.rounds)}{noise}{worse}"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    options = parser("benchmarks against", __doc__)
    options.add_argument("commit", help="the commit to compare with")
    options.add_argument("--engine", choices=("sqlite", "mongodb", "both"), default="both")
    options.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    options.add_argument("--seconds", type=float, default=2.0, help="length of each run (default 2)")
    options.add_argument("--entities", type=int, default=20_000, help="entities to read from (default 20000)")
    options.add_argument("--clients", type=int, default=300, help="live clients of each hub (default 300)")
    options.add_argument("--connections", type=int, default=1_000, help="whose memory is measured (default 1000)")
    names = ", ".join(row.__name__ for row in rest.ROWS)
    options.add_argument("--only", default="", help=f"rows whose name contains this: {names}, fanout, memory")
    return options.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Print the table; return 1 if a row is slower by CPU or needs more memory, or an answer was wrong."""
    given = arguments(argv)
    name, other = installed(given.commit)
    cores, found, faults = Cores.choose(), defaultdict[tuple[str, str], Comparison](Comparison), list[str]()
    engines = ("sqlite", "mongodb") if given.engine == "both" else (given.engine,)
    with on_cores(cores.load):
        for engine in engines:
            faults += uvloop.run(measure(engine, given, other, cores, found))
    rows = [
        {
            "engine": engine,
            "operation": operation,
            "cpu": row.cpu,
            "throughput": row.throughput,
            "memory": row.memory,
            "noise": None if row.memory is None else row.noise,
        }
        for (engine, operation), row in found.items()
    ]
    lines = [f"this tree per {name[:10]}: above 1, this tree does more", "", *table(found)]
    code = conclude(lines, list(dict.fromkeys(faults)), {"against": name, "rows": rows}, given.json)
    return 1 if any(row.is_worse for row in found.values()) else code
