"""Where the CPU of a read by id goes: `python -m benchmarks.layers [--engine sqlite|mongodb|both] [--rounds N]`.

One hub listens on a port for each step, from uvicorn alone to all of its layers (`benchmarks.layered_hub`). The load of
the row `read by id` goes to one port after the other, in each round in another order. A layer costs what its step costs
more than the step before. Costs are measured as shares of the whole read in the same round, whose medians count, since
the speed of a machine drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import uvloop

from benchmarks import rest
from benchmarks.data import prepare
from benchmarks.layered_hub import PORTS, STEPS
from benchmarks.load import spread
from benchmarks.processes import Cores, Hub, Program, on_cores, running_hub
from benchmarks.report import conclude, failures, number, parser, say

DEVIATION: Final = 1.4826
"""Standard deviation of a normal distribution, per median absolute deviation."""
OF_MEDIAN: Final = math.sqrt(math.pi / 2)
"""Standard error of a median, per that of a mean."""


@dataclass(slots=True)
class Found:
    """The CPU of a read in each round, µs, at each of `STEPS`."""

    engine: str
    rounds: list[list[float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def layers(self) -> Iterator[dict[str, Any]]:
        """Yield the figures of each layer: its share of the whole read, the error of this, and µs."""
        whole = statistics.median(costs[-1] for costs in self.rounds)
        for step, layer in enumerate(STEPS):
            shares = [(costs[step] - (costs[step - 1] if step else 0.0)) / costs[-1] for costs in self.rounds]
            share = statistics.median(shares)
            yield {
                "engine": self.engine,
                "layer": layer,
                "share": share,
                "error": error_of_median(shares),
                "us": share * whole,
            }


def error_of_median(values: Sequence[float]) -> float:
    """Return the standard error of the median, from the median absolute deviation."""
    middle = statistics.median(values)
    deviation = DEVIATION * statistics.median(abs(value - middle) for value in values)
    return OF_MEDIAN * deviation / math.sqrt(len(values))


def in_turn(round_number: int) -> list[int]:
    """Return the order of the steps in a round: it begins with another one each time, and every second one is
    reversed."""
    order = [(round_number // 2 + step) % len(STEPS) for step in range(len(STEPS))]
    return order[::-1] if round_number % 2 else order


async def measure(hub: Hub, given: argparse.Namespace) -> Found:
    """Load every step in each round."""
    say(f"{hub.engine}: creating {given.entities} entities ...")
    scene = await asyncio.to_thread(prepare, hub, given.entities)
    ports = orjson.loads((hub.log.parent / PORTS).read_bytes())
    found = Found(hub.engine)
    requests = rest.Bench(scene, given.seconds).reads()
    for round_number in range(given.rounds):
        say(f"{hub.engine}: round {round_number + 1} ...")
        costs = [0.0] * len(STEPS)
        for step in in_turn(round_number):
            bench = rest.Bench(replace(scene, hub=replace(hub, port=ports[step])), given.seconds)
            row = await bench.measure("read by id", spread(requests))
            found.faults += failures([row])
            costs[step] = row.micros(row.hub_cpu) or math.nan
        found.rounds.append(costs)
    found.faults += [f"the hub logged: {line}" for line in hub.complaints()[:10]]
    return found


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: layers down, engines across."""
    rows = figures["layers"]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    head = ["layer", *(f"{engine}, {unit}" for engine in engines for unit in ("µs", "%", "±"))]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    found = {(row["engine"], row["layer"]): row for row in rows}
    for layer in STEPS:
        cells = [cell for engine in engines for cell in _cells(found[engine, layer])]
        lines.append(f"| {' | '.join([layer, *cells])} |")
    wholes = [[row["us"] for row in rows if row["engine"] == engine] for engine in engines]
    return [*lines, f"| all | {' | '.join(f'{number(sum(whole))} | 100 | ' for whole in wholes)} |"]


def _cells(row: dict[str, Any]) -> list[str]:
    return [number(row["us"]), f"{100 * row['share']:.1f}", f"{100 * row['error']:.1f}"]


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.layers", __doc__)
    options.add_argument("--engine", choices=("sqlite", "mongodb", "both"), default="both")
    options.add_argument("--seconds", type=float, default=0.5, help="length of each run (default 0.5)")
    options.add_argument("--rounds", type=int, default=24, help="rounds; medians count (default 24)")
    options.add_argument("--entities", type=int, default=50_000, help="entities to read from (default 50000)")
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if an answer was an error."""
    given = arguments()
    cores = Cores.choose()
    program = replace(Program.here(), module="benchmarks.layered_hub")
    found: list[Found] = []
    with ExitStack() as stack:
        for database_url in rest.engines(given.engine, given.mongodb, cores, stack):
            with running_hub(database_url, cores, program=program) as hub, on_cores(cores.load):
                found.append(uvloop.run(measure(hub, given)))
    figures = {"entities": given.entities, "layers": [layer for each in found for layer in each.layers()]}
    faults = [fault for each in found for fault in each.faults]
    return conclude(lines_of(figures), faults, figures, given.json)


if __name__ == "__main__":
    sys.exit(main())
