"""An expansion makes one query of the database for each path and page, whatever the number of entities."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from hub.dialects.platform.expand import parse_expand
from hub.services.expansion import Expansions
from hub.services.registry import StoreRegistry
from stores.field import Field
from stores.long_lists import LongLists
from stores.protocol import Engine, Insert
from stores.query import Query
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support.entities import entity
from tests.support.principals import user
from tests.support.registries import FixedRegistry

REGIONS = StoreDefinition("regions", (Field("code", "Text", unique=True),), open=False)
CUSTOMERS = StoreDefinition("customers", (Field("region", "Reference", store="regions", by="code"),), open=False)
PRODUCTS = StoreDefinition("products", (Field("name", "Text"),), open=False)
LINE = Field("product", "Reference", store="products")
ORDERS = StoreDefinition(
    "orders",
    (
        Field("customer", "Reference", store="customers"),
        Field("lines", "Object", many=True, fields=(LINE,)),
    ),
    open=False,
)
SHOP = {each.name: each for each in (REGIONS, CUSTOMERS, PRODUCTS, ORDERS)}
COUNT = 40


@pytest.fixture
async def expansions(engine: Engine) -> Expansions:
    """Orders with a customer and two products each, all different; customers of four regions."""
    await engine.define(*SHOP.values())
    made: list[tuple[str, Entity]] = [("regions", entity(code=f"r{n}")) for n in range(4)]
    for n in range(COUNT):
        customer, products = entity(region=f"r{n % 4}"), [entity(name=f"p{n}"), entity(name=f"q{n}")]
        lines = [{"product": each["_id"]} for each in products]
        made += [("customers", customer), *(("products", each) for each in products)]
        made.append(("orders", entity(customer=customer["_id"], lines=lines)))
    await engine.commit([Insert(store, each) for store, each in made], None)
    return Expansions(engine, cast("StoreRegistry", FixedRegistry(SHOP.values())), LongLists(1))


@pytest.fixture
def asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores of all queries, in their order."""
    found: list[str] = []
    for method in ("find", "get", "newest", "entities", "summarize"):
        note_calls(engine, method, found, monkeypatch)
    return found


def note_calls(engine: Any, method: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    call = getattr(engine, method)

    def noted(store: str, *args: Any, **more: Any) -> Any:
        found.append(store)
        return call(store, *args, **more)

    monkeypatch.setattr(engine, method, noted)


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize(
    ("store", "expand", "stores"),
    [
        ("orders", "customer", ["orders", "customers"]),
        ("orders", "customer.region,lines.product", ["orders", "customers", "products", "regions"]),
        ("customers", "orders(customer).lines.product", ["customers", "orders", "products"]),
        ("regions", "customers(region).orders(customer)", ["regions", "customers", "orders"]),
    ],
)
async def test_a_page_takes_one_query_for_each_path(
    expansions: Expansions, asked: list[str], store: str, expand: str, stores: list[str]
) -> None:
    """For one entity and for many, by id and by key, forward and in reverse."""
    for limit in (1, COUNT):
        asked.clear()
        page = await expansions.find(user(admin=True), store, Query(limit=limit), parse_expand(expand, None))
        body = page.body
        shown = list(map(orjson.loads, body)) if isinstance(body, list) else orjson.loads(body)
        assert len(shown) == min(limit, 4 if store == "regions" else COUNT)
        assert sorted(asked) == sorted(stores)
        first, *further = expand.split(",")[0].split(".")
        assert all(isinstance(each[first], dict | list) for each in shown), further
