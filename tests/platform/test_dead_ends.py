"""Paths at which no entity has a value: requests that name one are refused, since their answers would be empty."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of, unique


@pytest.fixture(scope="module")
async def customers(hub: Hub) -> str:
    return await hub.define(fields=[{"id": "name", "type": "Text"}])


@pytest.fixture(scope="module")
async def orders(hub: Hub, customers: str) -> str:
    return await hub.define(fields=fields_for(customers))


def fields_for(customers: str) -> list[dict[str, Any]]:
    return [
        {"id": "customer", "type": "Reference", "store": customers},
        {"id": "amount", "type": "Number"},
        {"id": "address", "type": "Object", "fields": [{"id": "city", "type": "Text"}]},
        {"id": "tags", "type": "Text", "many": True},
        {"id": "extra", "type": "JSON"},
    ]


FILTER = json.dumps({"$or": [{"amount": 1}, {"customer.name": "x"}]})


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("GET", {"customer.name": "x"}, "customer.name"),
        ("GET", {"amount.x[gt]": "1"}, "amount.x"),
        ("GET", {"address.zip": ""}, "address.zip"),
        ("GET", {"filter": FILTER}, "customer.name"),
        ("GET", {"filter": FILTER, "meta": "true"}, "customer.name"),
        ("GET", {"filter": FILTER, "since": "x"}, "customer.name"),
        ("GET", {"filter": FILTER, "aggregate": "count"}, "customer.name"),
        ("GET", {"aggregate": "sum:amount.x"}, "amount.x"),
        ("GET", {"aggregate": "count", "by": "customer.name"}, "customer.name"),
        ("GET", {"sort": "-customer.name"}, "customer.name"),
        ("GET", {"only": "amount,customer.name"}, "customer.name"),
        ("GET", {"only": "amount,address.zip", "expand": "customer"}, "address.zip"),
        ("PATCH", {"customer.name": "x"}, "customer.name"),
        ("DELETE", {"address.zip[exists]": "false"}, "address.zip"),
    ],
)
async def test_every_use_of_a_path_is_refused_by_name(
    user: Client, orders: str, customers: str, method: str, params: dict[str, str], path: str
) -> None:
    body = {"amount": 1} if method == "PATCH" else None
    [text] = refused(await user.http.request(method, f"/{orders}", params=params, json=body), 400, path)[path]
    if path == "customer.name":
        beyond = f"customer is a Reference, and a path does not reach into {customers}"
        assert text == f"{beyond}: ask {customers} first, or use expand"


async def test_paths_that_exist_are_followed(user: Client, orders: str, customers: str) -> None:
    """Through objects, into JSON and to the elements of lists; through a reference where it is expanded."""
    customer = await user.make(customers, name="Ann")
    order = await user.make(
        orders, customer=customer["_id"], address={"city": "Laval"}, tags=["a", "b"], extra={"x": [{"y": 1}]}
    )
    for params in ({"address.city": "Laval"}, {"extra.x.0.y": "1"}, {"tags.1": "b"}, {"access.0[exists]": "false"}):
        assert await user.list(orders, params) == [order]
    [shown] = await user.list(orders, {"expand": "customer", "only": "customer.name"})
    assert shown == {"_id": order["_id"], "customer": {"_id": customer["_id"], "name": "Ann"}}
    path = f"/{orders}/{order['_id']}"
    refused(await user.get(path, {"only": "customer.name"}), 400, "customer.name")
    assert good(await user.get(path, {"expand": "customer", "only": "customer.name"}))["customer"]["name"] == "Ann"


async def test_operators_name_no_such_path(user: Client, orders: str) -> None:
    """Neither those that would write there nor those that would do nothing."""
    order = await user.make(orders, tags=["a"])
    for place in (f"/{orders}/{order['_id']}", f"/{orders}?all=true"):
        for operator in ({"$unset": ["amount.x"]}, {"$pull": {"address.zip": 1}}, {"$set": {"customer.name": "x"}}):
            [[path]] = [[*(each if isinstance(each, dict | list) else ())] for each in operator.values()]
            refused(await user.patch(place, operator), 400, path)
    assert entity_of(await user.patch(f"/{orders}/{order['_id']}", {"$set": {"address.city": "Laval"}}))["_rev"] == 2


async def test_a_definition_names_no_such_path(admin: Client, hub: Hub, customers: str) -> None:
    """Neither a new one, nor one from which a field goes that an index, a unique path or the search needs."""
    fields = fields_for(customers)
    parts = {
        "indexes": ["amount", "customer.name", ["amount", "-zip"]],
        "unique": ["zip"],
        "search": ["address.city", "address.zip"],
    }
    body = {"name": unique("store"), "fields": fields, **parts}
    errors = refused(await admin.post("/stores", body), 400)
    assert errors.keys() == {"indexes.1", "indexes.2.1", "unique.0", "search.1"}
    refused(await admin.get(f"/{body['name']}"), 404)
    store = await hub.define(fields=fields, indexes=["address.city"], search=["extra.text"])
    [definition] = await admin.list("stores", {"name": store})
    path = f"/stores/{definition['_id']}"
    refused(await admin.patch(path, {"fields": fields[:2]}), 400, "indexes.0", "search.0")
    entity_of(await admin.patch(path, {"fields": fields[:2], "indexes": [], "search": []}))
