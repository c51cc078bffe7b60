"""References, counts and serial numbers while many clients write at once: through one process of the hub, and through
two where a database is shared (MongoDB)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest

from hub.services.batch import LIGHT_REQUESTS
from stores.records import Entity
from tests.platform.answers import good
from tests.support.engines import Database
from tests.support.hub import Client, Hub, eventually, running_hub
from tests.support.live import token_of

pytestmark = pytest.mark.races

CLIENTS = 64
NAME: Entity = {"id": "name", "type": "Text"}


@dataclass(frozen=True)
class Processes:
    """One user as the client of each process of the hub."""

    hub: Hub
    clients: Sequence[Client]

    def of(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    async def define(self, **definition: Any) -> str:
        """Create a store; return its name once every process knows it."""
        store = await self.hub.define(**definition)
        for client in self.clients:
            await eventually(lambda: knows(client, store))  # noqa: B023
        return store

    async def at_once(self, work: Callable[[Client, int], Awaitable[None]]) -> None:
        """Run `work` for many clients at once, each with the number of the client."""
        await asyncio.gather(*(work(self.of(number), number) for number in range(CLIENTS)))


async def knows(client: Client, store: str) -> bool:
    return (await client.get(f"/{store}")).status_code == 200


@pytest.fixture(scope="module")
async def processes(
    hub: Hub, user: Client, shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    if shared_database.kind == "sqlite":
        yield Processes(hub, [user])
        return
    async with running_hub(shared_database, tmp_path_factory.mktemp("second")) as second:
        yield Processes(hub, [user, second.client(token_of(user), user.user)])


# References.


def post(store: str, **fields: Any) -> Entity:
    return {"method": "POST", "path": f"/{store}", "body": fields}


def batch(client: Client, *requests: Entity) -> Awaitable[httpx.Response]:
    return client.post("/batch", {"requests": list(requests)})


Refer = Callable[[Client, str, str, str], Awaitable[httpx.Response]]
"""Makes an entity refer to a target: takes the client, the store, the id of an entity of the store, the target."""

WAYS: tuple[Refer, ...] = (
    lambda client, store, one, target: client.post(f"/{store}", {"target": target}),
    lambda client, store, one, target: client.patch(f"/{store}/{one}", {"target": target}),
    lambda client, store, one, target: client.put(f"/{store}/{one}", {"target": target}),
    lambda client, store, one, target: client.post(f"/{store}", [{"name": "first"}, {"target": target}]),
    lambda client, store, one, target: client.patch(f"/{store}?_id={one}", {"target": target}),
    lambda client, store, one, target: batch(client, post(store, name="first"), post(store, target=target)),
)

RACES = [*product(WAYS, (True, False), (True, False))]
"""Ways to refer, whether that request comes first, and whether the other one deletes by a filter."""
MIXED = 7
"""A step through the list, without a common divisor, so that few races have some of each."""


async def in_order(first: bool, *calls: Awaitable[httpx.Response]) -> list[httpx.Response]:
    """Make two concurrent calls, the first one or the second one first; return their answers."""
    one, other = calls
    if first:
        return list(await asyncio.gather(one, other))
    return list(await asyncio.gather(other, one))[::-1]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("on_delete", ["refuse", "clear", "cascade"])
async def test_of_a_deletion_and_a_new_reference_nothing_dangles(
    processes: Processes, races: int, on_delete: str
) -> None:
    """Whatever makes the reference, and whether one entity or all matches are deleted. If a reference refuses the
    deletion, one of the two requests is refused. Otherwise the reference is refused, or goes with its target."""
    targets = await processes.define(fields=[NAME])
    store = await processes.define(
        fields=[NAME, {"id": "target", "type": "Reference", "store": targets, "on_delete": on_delete}]
    )
    for number in range(races):
        refer, is_first, by_filter = RACES[MIXED * number % len(RACES)]
        here, there = processes.of(number), processes.of(number + 1)
        target = (await here.make(targets))["_id"]
        id = (await here.make(store))["_id"]
        await eventually(lambda: sees(there, store, id))  # noqa: B023
        path = f"/{targets}?_id={target}" if by_filter else f"/{targets}/{target}"
        refers, deletes = await in_order(is_first, refer(there, store, id, target), here.delete(path))
        statuses = (refers.status_code, deletes.status_code)
        expected = [(200, 409), (400, 200)] if on_delete == "refuse" else [(200, 200), (400, 200)]
        assert statuses in expected, (refers.text, deletes.text)
        is_there = (await here.get(f"/{targets}/{target}")).status_code == 200
        assert is_there is (statuses == (200, 409))
        assert bool(await here.list(store, {"target": target})) is is_there


async def sees(client: Client, store: str, id: str) -> bool:
    return (await client.get(f"/{store}/{id}")).status_code == 200


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_value_does_not_change_under_a_new_reference(processes: Processes, races: int) -> None:
    """A product gets another code, or is deleted, while something refers to the code: one of the two is refused."""
    store = await processes.define(fields=[{"id": "sku", "type": "Text", "unique": True}])
    lines = await processes.define(fields=[{"id": "product", "type": "Reference", "store": store, "by": "sku"}])
    for number in range(races):
        here, there = processes.of(number), processes.of(number + 1)
        sku = f"p-{number}"
        path = f"/{store}/{(await here.make(store, sku=sku))['_id']}"
        away = here.delete(path) if number % 4 < 2 else here.patch(path, {"sku": f"{sku}-new"})
        refers, goes = await in_order(number % 2 == 0, there.post(f"/{lines}", {"product": sku}), away)
        assert (refers.status_code, goes.status_code) in [(200, 409), (400, 200)], (refers.text, goes.text)
        is_there = bool(await here.list(store, {"sku": sku}))
        assert is_there is (refers.status_code == 200)
        assert bool(await here.list(lines, {"product": sku})) is is_there


async def test_one_target_takes_the_references_of_many(processes: Processes, races: int) -> None:
    """None is refused, although the target itself changes meanwhile."""
    customers = await processes.define(fields=[NAME, {"id": "seen", "type": "Number", "default": 0}])
    orders = await processes.define(
        fields=[{"id": "customer", "type": "Reference", "store": customers, "required": True}]
    )
    customer = (await processes.of(0).make(customers, name="Hot"))["_id"]

    async def refer(client: Client, number: int) -> None:
        for _ in range(races):
            await client.make(orders, customer=customer)
        good(await client.patch(f"/{customers}/{customer}", {"$inc": {"seen": 1}}))

    await processes.at_once(refer)
    count = good(await processes.of(0).get(f"/{orders}?meta=true&customer={customer}"))["count"]
    assert count == CLIENTS * races
    assert (await processes.of(0).see(customers, customer))["seen"] == CLIENTS


# Counts.

STOCK: list[Entity] = [
    {"id": "stock", "type": "Number", "default": 0, "min": 0},
    {"id": "amount", "type": "Numeric", "default": 0},
]


async def test_increments_of_many_are_exact(processes: Processes, races: int) -> None:
    """None is refused, and none is lost or made twice."""
    store = await processes.define(fields=STOCK)
    made = await processes.of(0).make(store)
    path = f"/{store}/{made['_id']}"

    async def count(client: Client, number: int) -> None:
        for _ in range(races):
            good(await client.patch(path, {"$inc": {"stock": 1, "amount": "0.01"}}))

    await processes.at_once(count)
    found = await processes.of(0).see(store, made["_id"])
    total = CLIENTS * races
    assert (found["stock"], found["amount"], found["_rev"]) == (total, total / 100, total + 1)


@pytest.mark.gate("sqlite", "mongodb")
async def test_no_more_is_taken_than_there_is(processes: Processes, races: int) -> None:
    """Many take pieces of a stock until it is empty: as many get one as there are, and the others are refused."""
    store = await processes.define(fields=STOCK)
    there = CLIENTS * races // 2
    made = await processes.of(0).make(store, stock=there)
    path = f"/{store}/{made['_id']}"
    statuses: Counter[int] = Counter()

    async def take(client: Client, number: int) -> None:
        for _ in range(races):
            statuses[(await client.patch(path, {"$inc": {"stock": -1}})).status_code] += 1

    await processes.at_once(take)
    assert statuses == {200: there, 400: CLIENTS * races - there}
    assert (await processes.of(0).see(store, made["_id"]))["stock"] == 0


@pytest.mark.parametrize("size", [1, pytest.param(LIGHT_REQUESTS, marks=pytest.mark.alone)])
async def test_orders_of_one_product_at_once(processes: Processes, races: int, size: int) -> None:
    """Each is one batch: an order, its lines, and the stock that it lowers. None is refused, and the stock is exact."""
    products = await processes.define(fields=[{"id": "sku", "type": "Text", "unique": True}, *STOCK])
    orders = await processes.define(fields=[{"id": "number", "type": "Serial"}])
    lines = await processes.define(
        fields=[
            {"id": "order", "type": "Reference", "store": orders, "on_delete": "cascade"},
            {"id": "product", "type": "Reference", "store": products, "by": "sku"},
        ]
    )
    each = 1 + races // 8
    hot = await processes.of(0).make(products, sku="hot", stock=CLIENTS * each * size + 1)
    sold = {"method": "PATCH", "path": f"/{products}/{hot['_id']}", "body": {"$inc": {"stock": -size}}}
    line = post(lines, order={"$ref": "0._id"}, product="hot")

    async def order(client: Client, number: int) -> None:
        for _ in range(each):
            good(await batch(client, post(orders), *[line] * size, sold))

    await processes.at_once(order)
    assert (await processes.of(0).see(products, hot["_id"]))["stock"] == 1
    numbers = [made["number"] for made in await processes.of(0).list(orders)]
    assert len(numbers) == len(set(numbers)) == CLIENTS * each
    assert good(await processes.of(0).get(f"/{lines}?meta=true"))["count"] == CLIENTS * each * size


# Serial numbers.


@dataclass(frozen=True)
class Numbered:
    """A creation: its numbers, and when its request began and had its answer."""

    numbers: list[int]
    began: float
    ended: float


async def test_serial_numbers_are_never_used_twice_and_rise(processes: Processes, races: int) -> None:
    """By single creations and arrays. In each process what is created later gets a larger number."""
    store = await processes.define(fields=[{"id": "number", "type": "Serial"}])
    by_process: list[list[Numbered]] = [[] for _ in processes.clients]

    async def create(client: Client, number: int) -> None:
        for _ in range(races):
            began = time.monotonic()
            made = await client.make_all(store, [{}] * 3) if number % 8 == 0 else [await client.make(store)]
            created = Numbered([each["number"] for each in made], began, time.monotonic())
            by_process[processes.clients.index(client)].append(created)

    await processes.at_once(create)
    taken = [number for creations in by_process for created in creations for number in created.numbers]
    assert len(taken) == len(set(taken)) == CLIENTS * races + CLIENTS // 8 * races * 2
    for creations in by_process:
        check_rising(creations)


def check_rising(creations: Sequence[Numbered]) -> None:
    """Check that the numbers of each creation rise, and are above those of all creations that had ended before."""
    ends = iter(sorted(creations, key=lambda created: created.ended))
    ended, highest = next(ends), 0
    for created in sorted(creations, key=lambda created: created.began):
        while ended.ended < created.began:
            highest = max(highest, *ended.numbers)
            ended = next(ends)
        assert created.numbers == sorted(created.numbers)
        assert created.numbers[0] > highest
