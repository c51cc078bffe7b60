"""Deletions that are refused for what goes with them name the deleted entity: no filter, and no field of another
store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.engines import Database
from tests.support.hub import Client, Hub, running_hub

NUMBER: Entity = {"id": "number", "type": "Text"}


async def in_a_batch(client: Client, path: str) -> httpx.Response:
    return await client.post("/batch", {"requests": [{"method": "DELETE", "path": path}]})


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("on_delete", ["clear", "cascade"])
async def test_what_goes_with_a_deletion_may_be_too_much(database: Database, tmp_path: Path, on_delete: str) -> None:
    """The matches of a bulk deletion themselves are still those of its filter."""
    async with running_hub(database, tmp_path, max_matches=3) as hub:
        customers = await hub.define(fields=[NUMBER])
        customer: Entity = {"id": "customer", "type": "Reference", "store": customers, "on_delete": on_delete}
        orders = await hub.define(fields=[customer])
        made = await hub.admin.make_all(customers, [{"number": str(n)} for n in range(4)])
        await hub.admin.make_all(orders, [{"customer": made[0]["_id"]}] * 3)
        path = f"/{customers}/{made[0]['_id']}"
        text = "With what goes with it, more than 3 entities would change (HUB_MAX_MATCHES)."
        assert refused(await hub.admin.delete(path), 400) == {"_id": [text]}
        assert refused(await hub.admin.delete(f"/{customers}?number=0"), 400) == {"_id": [text]}
        assert refused(await in_a_batch(hub.admin, path), 400) == {"requests.0._id": [text]}
        assert [*refused(await hub.admin.delete(f"/{customers}?all=true"), 400)] == ["filter"]
        [first, *_] = await hub.admin.list(orders)
        good(await hub.admin.delete(f"/{orders}/{first['_id']}"))
        good(await hub.admin.delete(path))


@pytest.fixture
async def shop(hub: Hub) -> dict[str, str]:
    """Stores of a shop by role. Orders without a customer have a number of their own; of these, none has two lists."""
    customers = await hub.define(fields=[{"id": "name", "type": "Text"}])
    customer: Entity = {"id": "customer", "type": "Reference", "store": customers, "on_delete": "clear"}
    lists: list[Entity] = [{"id": name, "type": "Text", "many": True} for name in ("tags", "colours")]
    indexes: list[Any] = [
        {"fields": ["number"], "unique": True, "where": {"customer": None}},
        {"fields": ["tags", "colours"], "where": {"customer": None}},
    ]
    return {"customers": customers, "orders": await hub.define(fields=[NUMBER, customer, *lists], indexes=indexes)}


@pytest.mark.gate("sqlite", "mongodb")
async def test_an_index_may_refuse_to_clear_a_reference(user: Client, other: Client, shop: dict[str, str]) -> None:
    """A value that the caller does not see is in the way, or lists. The answer tells of neither."""
    await other.make(shop["orders"], number="1")
    text = f"Entities of {shop['orders']} cannot lose their reference to it: an index of {shop['orders']} refuses them"
    cases: list[tuple[str, Entity]] = [("1", {}), ("2", {"tags": ["a"], "colours": ["b"]})]
    for number, more in cases:
        customer = await user.make(shop["customers"], name=number)
        order = await user.make(shop["orders"], more, number=number, customer=customer["_id"])
        path = f"/{shop['customers']}/{customer['_id']}"
        errors = {"_id": [f"{text} without it."]}
        assert refused(await user.delete(path), 409) == errors
        assert refused(await user.delete(f"/{shop['customers']}?name={number}"), 409) == errors
        assert refused(await in_a_batch(user, path), 409) == {"requests.0._id": errors["_id"]}
        assert (await user.see(shop["orders"], order["_id"]))["customer"] == customer["_id"]
        good(await user.patch(f"/{shop['orders']}/{order['_id']}", {"number": "3", "tags": None}))
        good(await user.delete(path))
        good(await user.delete(f"/{shop['orders']}/{order['_id']}"))
