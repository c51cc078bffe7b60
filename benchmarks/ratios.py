"""Operations beside simpler ones: `python -m benchmarks.ratios [--engine sqlite|mongodb|both] [--only ROW]`.

A read beside a bare ASGI function, references that are expanded, sums by group, an index over two fields, batches, and
many writes of one entity. A real hub process runs on its own core. This process loads it from another core, both
operations of a row in each round, in turns the one and the other first.
docs/performance.md describes each row.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import uvloop

from benchmarks import rest
from benchmarks.bare import NAMES, PROTOCOLS, of_read, running_bare
from benchmarks.beside import Comparison, Cost, as_json, lines_of
from benchmarks.data import READINGS, WRITES, Scene, body, client, fill, prepare
from benchmarks.load import CLIENTS, load, spread
from benchmarks.orders import CUSTOMERS, ORDERS, Orders, make_orders
from benchmarks.processes import Cores, Hub, on_cores, running_hub
from benchmarks.report import conclude, failures, parser, say
from benchmarks.statements import GROUP, SUMS, cost_of, group_sums

BATCH: Final = 10
FEWER: Final = 4
HOT_CLIENTS: Final = 64
HOT_SECONDS: Final = 300.0
"""Maximum seconds for all writes of one entity."""

FIRST: Final = 50
FLOORS: Final = 12
INDEX: Final = [GROUP, "-value"]

READ_FROM: Final = 50_000
"""Entities among which the reads by id find theirs, as in `benchmarks.rest`."""

# Upper targets.
BARE_RATIO: Final = {"sqlite": 2.4, "mongodb": 2.7}
EXPANDED_RATIO: Final = 3.5
STATEMENT_RATIO: Final = 1.5
INDEXED_MS: Final = {"sqlite": 2.0, "mongodb": 5.0}

Measure = Callable[[], Awaitable[Cost]]


@dataclass(slots=True)
class Bench:
    """One hub with `entities` entities to read, and the results. Each of HOT_CLIENTS makes `writes` writes."""

    scene: Scene
    orders: Orders
    cores: Cores
    entities: int
    seconds: float
    rounds: int
    writes: int
    comparisons: list[Comparison] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """Those of a sample of the entities."""
    _filled: int = 0

    @property
    def engine(self) -> str:
        return self.scene.hub.engine

    @property
    def rest(self) -> rest.Bench:
        return rest.Bench(self.scene, self.seconds)

    def post(self, path: str, value: object) -> bytes:
        return self.scene.request("POST", path, content=orjson.dumps(value))

    async def fill(self, number: int | None = None) -> None:
        """Create the entities up to this number, or all, as far as they do not exist."""
        wanted = self.entities if number is None else min(number, self.entities)
        if self._filled < wanted:
            say(f"{self.engine}: creating {wanted - self._filled} entities ...")
            with self.scene.http() as http:
                self.ids += await asyncio.to_thread(fill, http, wanted, self._filled)
            self._filled = wanted

    async def get(self, path: str) -> Any:
        with self.scene.http() as http:
            answer = await asyncio.to_thread(http.get, path)
        return answer.raise_for_status().json()

    def load(self, operation: str, requests: Sequence[bytes], clients: int = 1) -> Measure:
        """Return a measurement of requests that are sent over and over."""

        async def measure() -> Cost:
            row = await self.rest.measure(operation, spread(requests, clients))
            self.faults += failures([row])
            return Cost.of(row, clients)

        return measure

    def reads(self, server: Hub, requests: Sequence[bytes]) -> Measure:
        """Return a measurement of reads, of a hub or of a bare server, without the CPU of the database."""
        bench = rest.Bench(replace(self.scene, hub=server), self.seconds)

        async def measure() -> Cost:
            row = await bench.measure("read by id", spread(requests))
            self.faults += failures([row])
            return Cost.of(replace(row, database_cpu=None), CLIENTS)

        return measure

    def hot(self, operation: str, make: Callable[[int], bytes]) -> Measure:
        """Return a measurement of HOT_CLIENTS clients, each of which sends its request `writes` times."""

        async def measure() -> Cost:
            requests = [iter([make(number)] * self.writes) for number in range(HOT_CLIENTS)]
            row = await self.rest.watch(operation, load(self.rest.address, requests, HOT_SECONDS))
            self.faults += failures([row])
            return Cost.of(row, HOT_CLIENTS)

        return measure

    async def compare(self, comparison: Comparison, own: Measure, base: Measure) -> None:
        """Measure both operations in each round, in turns the one and the other first."""
        self.comparisons.append(comparison)
        for number in range(self.rounds):
            say(f"{self.engine}: {comparison.operation}, round {number + 1} ...")
            if number % 2:
                cost = await own()
                comparison.rounds.append((cost, await base()))
            else:
                cost = await base()
                comparison.rounds.append((await own(), cost))

    def check(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.faults.append(f"{self.engine}, {what}: {found!r:.200}, not {expected!r:.200}")


# The rows.


async def bare(bench: Bench) -> None:
    """Measure the CPU of reads by id, beside that of a bare ASGI function which answers the same bytes."""
    await bench.fill(READ_FROM)
    scene = replace(bench.scene, ids=bench.ids)
    reads = rest.Bench(scene, bench.seconds).reads()
    answer = await asyncio.to_thread(of_read, scene, f"{READINGS}/{bench.ids[0]}")
    for protocol in PROTOCOLS:
        with running_bare(protocol, answer, bench.cores, bench.engine) as server:
            most = BARE_RATIO[bench.engine] if protocol == "uvicorn" else None
            beside = f"a bare ASGI function, {NAMES[protocol]}"
            comparison = Comparison(bench.engine, "read by id, the hub alone", beside, most, of_cpu=True)
            await bench.compare(comparison, bench.reads(scene.hub, reads), bench.reads(server, reads))


async def expand(bench: Bench) -> None:
    """Measure a list of 100 with two references in each entity expanded, beside the plain list."""
    label, path = "list of 100, two references expanded", f"{ORDERS}?limit=100"
    plain = bench.load("list of 100", [bench.scene.request("GET", path)], CLIENTS)
    expanded = bench.load(label, [bench.scene.request("GET", f"{path}&expand=customer,product")], CLIENTS)
    first = (await bench.get(f"{ORDERS}?limit=1&expand=customer,product"))[0]
    bench.check(
        "what is expanded", (first["customer"]["name"], first["product"]["name"]), ("customers 0000", "products 0000")
    )
    await bench.compare(Comparison(bench.engine, label, "the plain list", EXPANDED_RATIO), expanded, plain)


async def aggregate(bench: Bench) -> None:
    """Measure a sum by group, of an ordinary user and of the administrator, beside the database's own statement."""
    await bench.fill()
    hub = bench.scene.hub
    with group_sums(hub) as statement:
        groups = {each["by"][GROUP]: each["count"] for each in (await bench.get(SUMS))["groups"]}
        expected = {group: count for group, (count, _) in (await asyncio.to_thread(statement)).items()}
        bench.check("entities in each group", groups, expected)

        async def own_statement() -> Cost:
            return await asyncio.to_thread(cost_of, statement, hub.database_pid, bench.seconds)

        for who, token in (("", bench.scene.user), (", administrator", bench.scene.admin)):
            label = f"sum by group of {bench.entities}{who}"
            comparison = Comparison(bench.engine, label, "the database's own statement", STATEMENT_RATIO)
            sums = bench.load(label, [bench.scene.request("GET", SUMS, token)])
            await bench.compare(comparison, sums, own_statement)


async def compound_index(bench: Bench) -> None:
    """Measure a list filtered by one field and sorted by another, without an index over both and then with it."""
    await bench.fill()
    label = f"first {FIRST} of {bench.entities}, filtered and sorted"
    paths = [f"{READINGS}?{GROUP}={number}&sort=-value&limit={FIRST}" for number in range(FLOORS)]
    measure = bench.load(label, [bench.scene.request("GET", path) for path in paths])
    costs: list[list[Cost]] = []
    answers: list[list[dict[str, Any]]] = []
    for state in ("without an index", "with an index"):
        say(f"{bench.engine}: {label}, {state} ...")
        answers.append(await bench.get(paths[0]))
        costs.append([await measure() for _ in range(bench.rounds)])
        if len(costs) == 1:
            await asyncio.to_thread(_set_index, bench.scene)
    bench.check("the list with an index", answers[1], answers[0])
    bench.check("entities of the list", len(answers[0]), min(FIRST, -(-bench.entities // FLOORS)))
    most = INDEXED_MS[bench.engine]
    rounds = list(zip(costs[1], costs[0], strict=True))
    bench.comparisons.append(Comparison(bench.engine, label, "without an index", most_ms=most, rounds=rounds))


def _set_index(scene: Scene) -> None:
    with client(scene.hub, scene.admin) as http:
        (store,) = http.get("stores", params={"name": READINGS, "only": "name"}).raise_for_status().json()
        http.patch(f"stores/{store['_id']}", json={"indexes": [INDEX]}).raise_for_status()


async def batch(bench: Bench) -> None:
    """Measure a batch of 10 creates beside 4 and 10 single ones, one after the other, and 10 at once."""
    label = f"batch of {BATCH} creates"
    bodies = [body(number) for number in range(100 * BATCH)]
    single = [bench.post(WRITES, each) for each in bodies]
    writes = [{"method": "POST", "path": f"/{WRITES}", "body": each} for each in bodies]
    batches = [bench.post("batch", {"requests": writes[n : n + BATCH]}) for n in range(0, len(writes), BATCH)]
    own, alone, at_once = bench.load(label, batches), bench.load("create", single), bench.load("create", single, BATCH)

    def times(measure: Measure, number: int) -> Measure:
        async def measured() -> Cost:
            return (await measure()).times(number)

        return measured

    for beside, base, most in (
        (f"{FEWER} single creates", times(alone, FEWER), 1.0),
        (f"{BATCH} single creates", times(alone, BATCH), None),
        (f"{BATCH} single creates at once", times(at_once, BATCH), None),
    ):
        await bench.compare(Comparison(bench.engine, label, beside, most), own, base)


async def hot_target(bench: Bench) -> None:
    """Measure new references to one entity from many clients, beside references to an entity for each client."""
    customers = bench.orders.customers
    counting = f"{ORDERS}?meta=true&customer={customers[0]}"
    before = (await bench.get(counting))["count"]
    label = f"{HOT_CLIENTS} × {bench.writes} references to one entity: each"
    own = bench.hot(label, lambda _: bench.post(ORDERS, {"customer": customers[0]}))
    base = bench.hot("references", lambda number: bench.post(ORDERS, {"customer": customers[1 + number]}))
    await bench.compare(Comparison(bench.engine, label, "to an entity for each client"), own, base)
    made = (await bench.get(counting))["count"] - before
    bench.check("references to one entity", made, bench.rounds * HOT_CLIENTS * bench.writes)


async def hot_counter(bench: Bench) -> None:
    """Measure `$inc` of one entity from many clients, beside that of an entity for each client."""
    customers = bench.orders.customers
    before = (await bench.get(f"{CUSTOMERS}/{customers[0]}"))["count"]
    label = f"{HOT_CLIENTS} × {bench.writes} $inc of one entity: each"

    def increment(id: str) -> bytes:
        return bench.scene.request("PATCH", f"{CUSTOMERS}/{id}", content=b'{"$inc":{"count":1}}')

    own = bench.hot(label, lambda _: increment(customers[0]))
    base = bench.hot("$inc", lambda number: increment(customers[1 + number]))
    await bench.compare(Comparison(bench.engine, label, "of an entity for each client"), own, base)
    counted = (await bench.get(f"{CUSTOMERS}/{customers[0]}"))["count"] - before
    bench.check("$inc of one entity", counted, bench.rounds * HOT_CLIENTS * bench.writes)


ROWS: Final[tuple[Callable[[Bench], Awaitable[None]], ...]] = (
    bare,
    expand,
    aggregate,
    compound_index,
    batch,
    hot_target,
    hot_counter,
)


# Running them.


async def run(hub: Hub, cores: Cores, given: argparse.Namespace) -> Bench:
    """Run every row whose name contains `--only`."""
    scene = await asyncio.to_thread(prepare, hub, 0)
    orders = await asyncio.to_thread(make_orders, scene)
    bench = Bench(scene, orders, cores, given.entities, given.seconds, given.rounds, given.writes)
    for row in ROWS:
        if given.only in row.__name__:
            await row(bench)
    bench.faults += [f"the hub logged: {line}" for line in hub.complaints()[:10]]
    return bench


def arguments() -> argparse.Namespace:
    options = parser("benchmarks.ratios", __doc__)
    options.add_argument("--engine", choices=("sqlite", "mongodb", "both"), default="both")
    options.add_argument("--seconds", type=float, default=2.0, help="length of each run (default 2)")
    options.add_argument("--rounds", type=int, default=3, help="rounds of each row; medians count (default 3)")
    options.add_argument("--entities", type=int, default=1_000_000, help="entities to read from (default 1000000)")
    options.add_argument("--writes", type=int, default=100, help="of each client to one entity (default 100)")
    names = ", ".join(row.__name__ for row in ROWS)
    options.add_argument("--only", default="", help=f"rows whose name contains this: {names}")
    return options.parse_args()


def main() -> int:
    """Print the table; return 1 if an answer was an error, or wrong."""
    given = arguments()
    cores = Cores.choose()
    comparisons: list[Comparison] = []
    faults: list[str] = []
    with ExitStack() as stack:
        for database_url in rest.engines(given.engine, given.mongodb, cores, stack):
            with running_hub(database_url, cores) as hub, on_cores(cores.load):
                bench = uvloop.run(run(hub, cores, given))
            comparisons += bench.comparisons
            faults += bench.faults
    figures = as_json(comparisons)
    return conclude(lines_of(figures), faults, {"entities": given.entities, **figures}, given.json)


if __name__ == "__main__":
    sys.exit(main())
