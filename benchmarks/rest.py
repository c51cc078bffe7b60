"""The REST API under load: `python -m benchmarks.rest [--engine sqlite|mongodb|both] [--seconds N] [--entities N]`.

A real hub process runs on its own core. This process loads it from another core, over the loopback interface.
docs/performance.md describes each row.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import orjson
import uvloop

from benchmarks.data import READINGS, STATIONS, WRITES, Scene, body, prepare
from benchmarks.load import CLIENTS, LoadResult, Requests, load, spread
from benchmarks.processes import Cores, Hub, cpu_seconds, mongodb, on_cores, running_hub, wait_until_idle
from benchmarks.report import Row, conclude, failures, parser, say, table

BULK: Final = 1_000
PREBUILT: Final = 2_000
"""Requests that are made before a run and sent over and over."""

READ_EVERY: Final = 0.005
"""Seconds between the small reads whose latency is measured while a long list is streamed."""

DEPTHS: Final = (0.0, 0.1, 0.5, 0.99)


@dataclass(frozen=True, slots=True)
class Bench:
    """One hub, and the duration of each row."""

    scene: Scene
    seconds: float

    async def measure(self, operation: str, requests: Sequence[Requests], entities: int = 1) -> Row:
        """Load the hub with `requests`, one sequence per connection, after a short run to warm up. Return the row."""
        await load(self.address, requests, self.seconds / 5)
        return await self.watch(operation, load(self.address, requests, self.seconds), entities)

    async def watch(self, operation: str, run: Awaitable[LoadResult], entities: int = 1) -> Row:
        """Return the row of a run: its results, and the CPU that the hub and its database used meanwhile."""
        hub = self.scene.hub
        await asyncio.to_thread(wait_until_idle, hub.pid)
        before = cpu_seconds(hub.pid), cpu_seconds(hub.database_pid)
        result = await run
        after = cpu_seconds(hub.pid), cpu_seconds(hub.database_pid)
        cpu = [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]
        return Row(hub.engine, operation, result, cpu[0], cpu[1], entities)

    @property
    def address(self) -> tuple[str, int]:
        return self.scene.hub.host, self.scene.hub.port

    def reads(self, token: str = "") -> list[bytes]:
        return [self.scene.request("GET", f"{READINGS}/{id}", token) for id in self.scene.ids[:PREBUILT]]


# The rows.


async def read_by_id(bench: Bench) -> list[Row]:
    user = await bench.measure("read by id", spread(bench.reads()))
    return [user, await bench.measure("read by id, administrator", spread(bench.reads(bench.scene.admin)))]


async def list_of_100(bench: Bench) -> list[Row]:
    path = f"{READINGS}?limit=100"
    user = await bench.measure("list of 100", spread([bench.scene.request("GET", path)]))
    request = bench.scene.request("GET", path, bench.scene.admin)
    return [user, await bench.measure("list of 100, administrator", spread([request]))]


async def filtered_list(bench: Bench) -> list[Row]:
    """Measure lists of one station in order of creation, and of a range of serial numbers in order of these."""
    scene = bench.scene
    one = [scene.request("GET", f"{READINGS}?station=station-{n:04}&limit=100") for n in range(STATIONS)]
    starts = [random.Random(n).randrange(max(1, scene.entities - 100)) for n in range(STATIONS)]
    ranges = [f"{READINGS}?serial%5Bgte%5D={n}&sort=serial&limit=100" for n in starts]
    ranged = [scene.request("GET", path) for path in ranges]
    return [
        await bench.measure("100 of one station (indexed)", spread(one)),
        await bench.measure("100 from a serial on (indexed)", spread(ranged)),
    ]


async def create(bench: Bench) -> list[Row]:
    bodies = [orjson.dumps(body(number)) for number in range(PREBUILT)]
    requests = [bench.scene.request("POST", WRITES, content=content) for content in bodies]
    return [await bench.measure(f"durable create, {CLIENTS} clients", spread(requests))]


async def change(bench: Bench) -> list[Row]:
    # Each pass over the entities sets other values than the last one: a change without effect would not be written.
    contents = [orjson.dumps({"value": number / 10}) for number in range(101)]
    paths = 2 * [f"{READINGS}/{id}" for id in bench.scene.ids[: PREBUILT // 2]]
    requests = [bench.scene.request("PATCH", p, content=contents[n % 101]) for n, p in enumerate(paths)]
    return [await bench.measure(f"durable change, {CLIENTS} clients", spread(requests))]


async def bulk_create(bench: Bench) -> list[Row]:
    contents = [orjson.dumps([body(BULK * n + m) for m in range(BULK)]) for n in range(4)]
    requests = [bench.scene.request("POST", WRITES, content=content) for content in contents]
    return [await bench.measure(f"bulk create, arrays of {BULK}: entities", spread(requests, 2), BULK)]


async def streamed_list(bench: Bench) -> list[Row]:
    """Measure lists of 10 000, and small reads, one at a time, first alone and then beside a stream."""
    streams = spread([bench.scene.request("GET", f"{READINGS}?limit=10000")], 1)
    entities = min(10_000, bench.scene.entities)
    rows = [await bench.measure(f"list of {entities}, streamed: entities", streams, entities)]
    reads = spread(bench.reads(), 1)
    alone = load(bench.address, reads, bench.seconds, pause=READ_EVERY)
    rows.append(await bench.watch("small reads, one each 5 ms", alone))
    results: list[LoadResult] = []

    async def beside() -> LoadResult:
        streaming = asyncio.ensure_future(load(bench.address, streams, bench.seconds))
        results.append(await load(bench.address, reads, bench.seconds, pause=READ_EVERY, until=streaming))
        return results[0]

    return [*rows, await bench.watch("the same beside a streamed list", beside())]


async def paging(bench: Bench) -> list[Row]:
    """Measure pages of 100 by cursor, from the start of the list to its end."""
    rows = []
    for depth in DEPTHS:
        request = bench.scene.request("GET", page_at(bench.scene, int(depth * bench.scene.entities)))
        rows.append(await bench.measure(f"page of 100 at {depth:.0%}, one client", spread([request], 1)))
    return rows


def page_at(scene: Scene, depth: int) -> str:
    """Return the path of the page after the first `depth` entities."""
    first = f"{READINGS}?limit=100"
    if depth == 0:
        return first
    with scene.http() as http:
        answer = http.get(READINGS, params={"limit": 1, "offset": depth - 1, "only": "_id"})
    cursor = answer.links["next"]["url"].partition("after=")[2].partition("&")[0]
    return f"{first}&after={quote(cursor, safe='%')}"


async def count(bench: Bench) -> list[Row]:
    everything = bench.scene.request("GET", f"{READINGS}?meta=true")
    one = [bench.scene.request("GET", f"{READINGS}?meta=true&station=station-{n:04}") for n in range(STATIONS)]
    return [
        await bench.measure("count of all, with first and last", spread([everything], 1)),
        await bench.measure("count of one station", spread(one, 1)),
    ]


ROWS: Final[tuple[Callable[[Bench], Awaitable[list[Row]]], ...]] = (
    read_by_id,
    list_of_100,
    filtered_list,
    create,
    change,
    bulk_create,
    streamed_list,
    paging,
    count,
)


# Running them.


async def run(hub: Hub, seconds: float, entities: int, only: str) -> list[Row]:
    """Run every row whose name contains `only`."""
    say(f"{hub.engine}: creating {entities} entities ...")
    bench = Bench(await asyncio.to_thread(prepare, hub, entities), seconds)
    rows: list[Row] = []
    for row in ROWS:
        if only in row.__name__:
            say(f"{hub.engine}: {row.__name__} ...")
            rows += await row(bench)
    for line in hub.complaints()[:20]:
        say(f"{hub.engine}: the hub logged: {line}")
    return rows


def engines(choice: str, mongodb_url: str | None, cores: Cores, stack: ExitStack) -> Iterator[str]:
    """Yield the database URLs to run on; an empty one stands for SQLite."""
    if choice in ("sqlite", "both"):
        yield ""
    if choice in ("mongodb", "both"):
        yield stack.enter_context(mongodb(mongodb_url, cores))


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.rest", __doc__)
    options.add_argument("--engine", choices=("sqlite", "mongodb", "both"), default="both")
    options.add_argument("--seconds", type=float, default=3.0, help="length of each row (default 3)")
    options.add_argument("--entities", type=int, default=50_000, help="entities to read from (default 50000)")
    options.add_argument(
        "--only", default="", help="rows whose name contains this: " + ", ".join(r.__name__ for r in ROWS)
    )
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if an answer was an error."""
    given = arguments()
    cores = Cores.choose()
    rows: list[Row] = []
    with ExitStack() as stack:
        for database_url in engines(given.engine, given.mongodb, cores, stack):
            with running_hub(database_url, cores) as hub, on_cores(cores.load):
                rows += uvloop.run(run(hub, given.seconds, given.entities, given.only))
    lines = [f"entities: {given.entities}, seconds per row: {given.seconds:g}", "", *table(rows)]
    figures = {"entities": given.entities, "rows": [row.as_json() for row in rows]}
    return conclude(lines, list(failures(rows)), figures, given.json)


if __name__ == "__main__":
    sys.exit(main())
