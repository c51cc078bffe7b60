"""A soak test: `python -m benchmarks.soak [--minutes N] [--clients N] [--engine sqlite|mongodb]`.

One hub has a mixed load for ten minutes: clients connect and leave, while REST creates, changes, deletes and lists.
Every few seconds the hub's memory, file descriptors, tasks, live connections, channels and kept changes are read. After
the second minute memory may grow by 5 %, and the other figures by 25 %, plus 5 each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sqlite3
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.data import READINGS, WRITES, Scene, body, prepare
from benchmarks.load import LoadResult, load
from benchmarks.processes import Cores, mongodb, on_cores, resident_kib, running_hub
from benchmarks.report import conclude, number, parser, say
from benchmarks.targets import EVERYTHING, slice_view
from benchmarks.watchers import ClientPool

ENTITIES: Final = 5_000
READ_EVERY: Final = 5.0
"""Seconds between two samples."""
WARM_UP: Final = 2.0
"""Minutes after which figures must not grow; a third of a run that is shorter than six."""
MEMORY_SHARE: Final = 0.05
CYCLE: Final = 20
"""Clients that leave, and connect, at a time."""

SETTINGS: Final = {
    # Small, so that the table of changes fills and empties many times in ten minutes.
    "HUB_FEED_RETENTION_MB": "1",
    "HUB_SWEEP_INTERVAL": "5",
    "HUB_LIVE_RECENT": "1000",
}
NAMES: Final = {
    "process_open_fds": "file descriptors",
    "hub_tasks": "tasks",
    "hub_live_connections": "live connections",
    "hub_live_channels": "channels",
}


@dataclass(slots=True)
class Soak:
    """One run. A sample is the minute at which it was taken, and {name: value}."""

    scene: Scene
    clients: int
    minutes: float
    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    answered: int = 0
    came: int = 0

    @property
    def ends(self) -> float:
        return self._begun + self.minutes * 60

    _begun: float = field(default_factory=time.perf_counter)

    async def run(self) -> None:
        jobs = [self.write(), self.read(), self.come_and_go(), self.sample()]
        await asyncio.gather(*jobs)

    async def write(self) -> None:
        """Create, change and delete on a few connections, with pauses, so that the hub is not fully loaded."""
        result = await load(self._address, [self.writes(n) for n in range(4)], self.minutes * 60, pause=0.02)
        self.note(result)

    def writes(self, seed: int) -> Any:
        """Yield requests endlessly. Entities that are created are deleted in bulk later."""
        rng = random.Random(seed)
        for count in itertools.count():
            content = orjson.dumps(body(count) | {"serial": count})
            if count % 50 == 49:
                query = "serial%5Blt%5D=1000000000"
                yield self.scene.request("DELETE", f"{WRITES}?{query}")
            elif count % 2:
                yield self.scene.request("POST", WRITES, content=content)
            else:
                id = rng.choice(self.scene.ids)
                yield self.scene.request("PATCH", f"{READINGS}/{id}", content=b'{"value":%d}' % count)

    async def read(self) -> None:
        lists = [
            f"{READINGS}?limit=100",
            f"{READINGS}?meta=true",
            f"{READINGS}?station=station-0001&sort=-serial",
            f"{READINGS}?search=drift&limit=5",
            f"{READINGS}?limit=5000",
        ]
        requests = [itertools.cycle([self.scene.request("GET", path) for path in lists])]
        self.note(await load(self._address, requests, self.minutes * 60, pause=0.05))

    async def come_and_go(self) -> None:
        """Keep `clients` connections open. The oldest leave as new ones connect; one in ten watches everything."""
        greeting = "40" + orjson.dumps({"token": self.scene.user}).decode()
        pools: list[ClientPool] = []
        while time.perf_counter() < self.ends:
            pool = ClientPool(self._address, greeting)
            pool.expect(0)
            views = [EVERYTHING if n % 10 == 0 else slice_view(self.came + n) for n in range(CYCLE)]
            await pool.join([[view] for view in views])
            self.came += CYCLE
            pools.append(pool)
            if len(pools) * CYCLE > self.clients:
                oldest = pools.pop(0)
                oldest.leave()
                self.faults += oldest.faults
            for each in pools:  # forget what they received
                each.expect(0)
            await asyncio.sleep(0.5)
        for pool in pools:
            pool.leave()
            self.faults += pool.faults

    async def sample(self) -> None:
        async with httpx.AsyncClient(base_url=self.scene.hub.url, trust_env=False, timeout=60) as http:
            while time.perf_counter() < self.ends - READ_EVERY:
                await asyncio.sleep(READ_EVERY)
                text = (await http.get("/metrics")).text
                values = totals(text)
                if self.scene.hub.engine == "sqlite":
                    values["changes kept"] = changes_kept(self.scene.hub.log.parent)
                memory = resident_kib(self.scene.hub.pid)
                if memory is not None:
                    values["memory, MiB"] = memory / 1024
                minute = (time.perf_counter() - self._begun) / 60
                self.samples.append((minute, values))
                say(f"{minute:5.1f} min  " + "  ".join(f"{name} {number(value)}" for name, value in values.items()))

    def note(self, result: LoadResult) -> None:
        self.answered += len(result.latencies)
        self.faults += result.failures

    @property
    def _address(self) -> tuple[str, int]:
        return self.scene.hub.host, self.scene.hub.port


def changes_kept(folder: Path) -> float:
    """Return the number of rows in the table of changes, read from the hub's database file."""
    with closing(sqlite3.connect(f"file:{folder}/data/hub.db?mode=ro", uri=True, timeout=10)) as database:
        return float(database.execute("SELECT count(*) FROM changes").fetchone()[0])


def totals(text: str) -> dict[str, float]:
    """Return the figures that are watched, each summed over its labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name in NAMES:
            found[NAMES[family.name]] = sum(sample.value for sample in family.samples)
    return found


def verdict(samples: list[tuple[float, dict[str, float]]]) -> tuple[list[str], list[str]]:
    """Return a line for each figure, and a line for each one that grew.

    A figure grew if its median of the last half minute exceeds that of the half minute after minute two by more than a
    quarter (memory: `MEMORY_SHARE`) and 5.
    """
    lines, grown = [], []
    last = samples[-1][0]
    warm_up = min(WARM_UP, last / 3)
    for name in samples[-1][1]:
        early = middle(values[name] for minute, values in samples if warm_up <= minute < warm_up + 0.5)
        late = middle(values[name] for minute, values in samples if minute > last - 0.5)
        lines.append(f"{name}: {number(early)} at minute {warm_up:.1f}, {number(late)} at the end")
        if late > early * (1 + (MEMORY_SHARE if name.startswith("memory") else 0.25)) + 5:
            grown.append(f"{name} grew from {number(early)} to {number(late)}")
    return lines, grown


def middle(values: Any) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.soak", __doc__)
    options.add_argument("--engine", choices=("sqlite", "mongodb"), default="sqlite")
    options.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    options.add_argument("--clients", type=int, default=1_000, help="live connections at any time (default 1000)")
    return options.parse_args()


def main() -> int:
    """Print the verdict; return 1 if something grew or an answer was an error."""
    given = arguments()
    cores = Cores.choose()
    with ExitStack() as stack:
        url = stack.enter_context(mongodb(given.mongodb, cores)) if given.engine == "mongodb" else ""
        hub = stack.enter_context(running_hub(url, cores, settings=SETTINGS))
        soak = Soak(prepare(hub, ENTITIES), given.clients, given.minutes)
        with on_cores(cores.load):
            uvloop.run(soak.run())
        complaints = hub.complaints()[:20]
    lines, grown = verdict(soak.samples)
    faults = [*dict.fromkeys(soak.faults), *complaints, *grown]
    said = [f"requests answered: {soak.answered}, clients that came: {soak.came}", *lines]
    figures = {"samples": soak.samples, "verdict": lines}
    return conclude(said, faults, figures, given.json, calm="nothing grew, no errors")


if __name__ == "__main__":
    sys.exit(main())
