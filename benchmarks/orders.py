"""Stores whose entities refer to each other: orders of customers and products, all of an ordinary user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.data import Scene, body, client, made

CUSTOMERS, PRODUCTS, ORDERS = "customers", "products", "orders"
TARGETS: Final = 1_000
"""Customers, and as many products. Each of 100 orders in a row has others."""
COUNT: Final = 2_000

_NAMED: Final[list[dict[str, object]]] = [{"id": "name", "type": "Text"}, {"id": "count", "type": "Number"}]
_FIELDS: Final[dict[str, list[dict[str, object]]]] = {
    CUSTOMERS: _NAMED,
    PRODUCTS: _NAMED,
    ORDERS: [
        {"id": "customer", "type": "Reference", "store": CUSTOMERS, "required": True},
        {"id": "product", "type": "Reference", "store": PRODUCTS},
    ],
}


@dataclass(frozen=True, slots=True)
class Orders:
    """The ids of the customers and of the products."""

    customers: Sequence[str]
    products: Sequence[str]

    def body(self, number: int) -> dict[str, Any]:
        """Return an order as a client sends it: some 350 bytes."""
        customer, product = self.customers[number % TARGETS], self.products[7 * number % TARGETS]
        return {**body(number), "customer": customer, "product": product}


def make_orders(scene: Scene) -> Orders:
    """Make the stores and their entities. The customers and products have some 150 bytes each."""
    with client(scene.hub, scene.admin) as http:
        for name, fields in _FIELDS.items():
            made(http, "stores", {"name": name, "fields": fields, "open": True})
    with scene.http() as http:
        orders = Orders(*(_ids(http, name) for name in (CUSTOMERS, PRODUCTS)))
        made(http, ORDERS, [orders.body(number) for number in range(COUNT)])
    return orders


def _ids(http: Any, store: str) -> list[str]:
    bodies = [_target(store, number) for number in range(TARGETS)]
    return [entity["_id"] for entity in made(http, store, bodies)["entities"]]


def _target(store: str, number: int) -> dict[str, Any]:
    note = "Delivered on workdays between eight and noon, by the gate at the back of the yard."
    return {"name": f"{store} {number:04}", "count": 0, "city": "Lausanne", "note": note}
