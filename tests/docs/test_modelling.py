"""docs/modelling-an-erp.md, run as printed in a fresh copy of the project; then orders of many clients while its hub is
killed."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from stores.records import Entity
from tests.docs.fresh import Fresh
from tests.docs.pages import page
from tests.support.engines import Database, fitting_database

pytestmark = pytest.mark.timeout(300)

PARTS = re.findall(r"^```(sh|json)\n(.*?)^```$", page("modelling-an-erp.md"), re.DOTALL | re.MULTILINE)
COMMANDS = [text for language, text in PARTS if language == "sh"]
SHOWN = [
    (sum(kind == "sh" for kind, _ in PARTS[:place]) - 1, text)
    for place, (language, text) in enumerate(PARTS)
    if language == "json"
]
"""The answers on the page, each with the number of the block of commands before it."""
STORES = ("orders", "lines", "products")
CHANGES = "".join(f'curl -gsH "$A" "$U/{store}?since=$POSITION"; echo\n' for store in STORES)
"""In the page's shell, prints the changes of each store since its `POSITION`."""

ORDERS = 200
THREADS = 8
STOCK = 450
"""Less than what the orders want together."""
KILLED_AFTER = (60, 130)
"""Numbers of answered orders after which the hub is killed."""
PAUSE = 0.05


@pytest.fixture(scope="module")
async def database(
    engine_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    async with fitting_database(engine_kind, request, tmp_path_factory.mktemp("modelling")) as database:
        yield database


@pytest.fixture(scope="module")
def fresh(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """A copy whose hub runs; on SQLite with the data folder of a new user."""
    settings = {"HUB_DATABASE_URL": database.location} if database.kind == "mongodb" else {}
    made = Fresh(tmp_path_factory.mktemp("modelling"), **settings)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def outputs(fresh: Fresh) -> list[str]:
    """The output of each block of the page, and the changes since its `POSITION`."""
    return fresh.run([*COMMANDS, CHANGES], "-eu")  # without pipefail: `head` ends a command


def expression(shown: str) -> str:
    """Return a regular expression for the answers that an answer on the page stands for. `…` stands for any members of
    one object."""
    text = re.escape(on_one_line(shown)).replace("…", "[^{}]*")
    text = re.sub(r"[0-9a-f]{24}", "[0-9a-f]{24}", text)
    return re.sub(r'"(channel|commit|position|time)":"[^"]*"', r'"\1":"[^"]*"', text)


def on_one_line(text: str) -> str:
    return re.sub(r"\n *", "", text)


@pytest.mark.parametrize(("block", "shown"), SHOWN, ids=[str(block) for block, _ in SHOWN])
def test_the_answers_are_those_of_the_page(outputs: list[str], block: int, shown: str) -> None:
    answer = on_one_line(outputs[block])
    assert re.fullmatch(expression(shown), answer), f"{on_one_line(shown)}\n{answer}"


def test_an_order_is_one_commit_in_all_stores(outputs: list[str]) -> None:
    """So is its end. Each store marks the last change of each. Of the order that was refused there is none."""
    seen = [json.loads(line)["changes"] for line in outputs[-1].splitlines()]
    placed, undone = seen[0][0]["commit"], seen[0][-1]["commit"]
    assert placed != undone
    for changes, each in zip(seen, (1, 2, 2), strict=True):
        assert [change["commit"] for change in changes] == [placed] * each + [undone] * each
        assert [change.get("last", False) for change in changes] == ([False] * (each - 1) + [True]) * 2


class Shop:
    """Places orders of one customer for one product until they are answered, whatever happens to the hub."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.customer = self.make("customers", name="Bo")
        self.product = self.make("products", sku="cup", name="Cup", price="0.10", stock=STOCK)
        self.give_up = time.monotonic() + 240

    def make(self, store: str, **fields: Any) -> Entity:
        made = self.http.post(f"/{store}", json=fields)
        assert made.status_code == 200, made.text
        entity: Entity = made.json()
        return entity

    def entities(self, path: str) -> list[Entity]:
        listed = self.http.get(path)
        assert listed.status_code == 200, listed.text
        found: list[Entity] = listed.json()
        return found

    @property
    def stock(self) -> int:
        [product] = self.entities("/products?sku=cup")
        return int(product["stock"])

    def place(self, number: int) -> httpx.Response:
        """Place an order, with the same Idempotency-Key until it is answered."""
        body, headers = self.order(quantities(number)), {"Idempotency-Key": f"order-{number}"}
        while True:
            assert time.monotonic() < self.give_up, "the hub does not come back"
            try:
                answer = self.http.post("/batch", json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            time.sleep(PAUSE)

    def order(self, quantities: list[int]) -> Entity:
        """Return the batch of an order, as on the page."""
        order = {"customer": self.customer["_id"], "amount": cents(10 * sum(quantities))}
        lines = [
            {"order": {"$ref": "0._id"}, "product": "cup", "quantity": n, "price": "0.10", "amount": cents(10 * n)}
            for n in quantities
        ]
        return {
            "requests": [
                {"method": "POST", "path": "/orders", "body": order},
                *({"method": "POST", "path": "/lines", "body": line} for line in lines),
                {
                    "method": "PATCH",
                    "path": f"/products/{self.product['_id']}",
                    "body": {"$inc": {"stock": -sum(quantities)}},
                },
            ]
        }


def quantities(number: int) -> list[int]:
    """Return the quantities in the lines of one of the orders: one to three lines, of one or two pieces each."""
    return [1 + (number + place) % 2 for place in range(1 + number % 3)]


def cents(n: int) -> str:
    return f"{n // 100}.{n % 100:02}"


def test_orders_are_whole_and_the_stock_exact_although_the_hub_is_killed(fresh: Fresh, outputs: list[str]) -> None:
    """Many place orders at once, and repeat those that get no answer. Each is carried out once, as a whole, or refused
    for want of stock."""
    token = fresh.hub("token", "create", "shop", "--quiet")
    api, headers = f"http://{fresh.address}/api/v1", {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=api, headers=headers, timeout=60, trust_env=False, verify=False) as http:
        shop = Shop(http)
        answers = placed_while_killed(fresh, shop)
        taken = {number: entity_ids(answer) for number, answer in answers.items() if answer.status_code == 200}
        left = check_refusals(shop, {n: answer for n, answer in answers.items() if n not in taken})
        assert left == STOCK - sum(sum(quantities(number)) for number in taken)
        check_orders(shop, taken)
        for number in (*taken,)[:: len(taken) // 5]:
            assert entity_ids(shop.place(number)) == taken[number]
        assert shop.stock == left


def placed_while_killed(fresh: Fresh, shop: Shop) -> dict[int, httpx.Response]:
    """Place all orders; return the answers by number."""
    with ThreadPoolExecutor(THREADS) as threads:
        placing = {number: threads.submit(shop.place, number) for number in range(ORDERS)}
        for answered in KILLED_AFTER:
            while sum(each.done() for each in placing.values()) < answered:
                time.sleep(0.005)
            fresh.end(signal.SIGKILL)
            fresh.start()
        return {number: each.result() for number, each in placing.items()}


def entity_ids(answer: httpx.Response) -> list[str]:
    """Return the ids of the order and of its lines in the answer to a batch."""
    assert answer.status_code == 200, answer.text
    return [each["body"]["_id"] for each in answer.json()["responses"][:-1]]


def check_refusals(shop: Shop, refused: dict[int, httpx.Response]) -> int:
    """Check that each refused order wanted more than there is; return the stock that is left."""
    left = shop.stock
    assert refused, "there was enough for all"
    for number, answer in refused.items():
        assert answer.status_code == 400, answer.text
        assert list(answer.json()["errors"]) == [f"requests.{1 + len(quantities(number))}.stock"]
        assert sum(quantities(number)) > left
    return left


def check_orders(shop: Shop, taken: dict[int, list[str]]) -> None:
    """Check that there are these orders with their lines, and nothing else."""
    orders = {order["_id"]: order for order in shop.entities(f"/orders?customer={shop.customer['_id']}")}
    lines = {line["_id"]: line for line in shop.entities("/lines")}
    assert {*orders} == {order for order, *_ in taken.values()}
    assert {*lines} == {line for _, *some in taken.values() for line in some}
    for number, (order, *some) in taken.items():
        assert [lines[line]["quantity"] for line in some] == quantities(number)
        assert {lines[line]["order"] for line in some} == {order}
    assert Counter(order["number"] for order in orders.values()).most_common(1)[0][1] == 1
    [group] = shop.http.get("/lines?aggregate=sum:quantity,sum:amount").json()["groups"]
    assert group["sum"]["amount"] == group["sum"]["quantity"] / 10
