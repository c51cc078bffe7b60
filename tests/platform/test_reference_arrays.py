"""References in arrays of upserts: each item is checked against the entity as the items before it leave it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub

CODE = {"id": "code", "type": "Text", "unique": True}


@pytest.fixture
async def customers(hub: Hub) -> str:
    return await hub.define(fields=[{"id": "name", "type": "Text"}])


@pytest.fixture
async def orders(hub: Hub, customers: str) -> str:
    """Orders have a code, and refer to customers: plainly, in a list, and inside of objects."""
    to = {"type": "Reference", "store": customers}
    lines = {"id": "lines", "type": "Object", "many": True, "fields": [{"id": "to", **to}]}
    place = {"id": "place", "type": "Object", "fields": [{"id": "to", **to}]}
    fields = [CODE, {"id": "customer", **to}, {"id": "seen", "many": True, **to}, lines, place]
    return await hub.define(fields=fields, open=True)


async def upsert(user: Client, store: str, *bodies: Entity) -> Any:
    return await user.post(f"/{store}", list(bodies), {"upsert": "code"})


ITEMS: list[tuple[str, str]] = [
    ('{"$set": {"customer": %s}}', "customer"),
    ('{"customer": %s}', "customer"),
    ('{"$push": {"seen": %s}}', "seen.0"),
    ('{"$addToSet": {"seen": {"$each": [%s]}}}', "seen.0"),
    ('{"$push": {"lines": {"to": %s}}}', "lines.0.to"),
    ('{"$set": {"place.to": %s}}', "place.to"),
]
"""A change that refers to a customer, as JSON text, and the place of the reference."""


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize(("change", "place"), ITEMS)
async def test_a_repeated_key_refers_to_nothing_unchecked(
    user: Client, other: Client, customers: str, orders: str, change: str, place: str
) -> None:
    """Whether its first item makes the entity or meets it, and whether the target is missing or out of sight."""
    mine, hidden = (await user.make(customers))["_id"], (await other.make(customers))["_id"]

    def body(id: str) -> Entity:
        return {"code": "n", **json.loads(change % f'"{id}"')}

    for start in ({"code": "n"}, {"code": "n", "place": {}}):
        for wrong in (new_id(), hidden):
            text = f"There is no such entity of {customers}."
            errors = refused(await upsert(user, orders, start, body(wrong)), 400)
            assert errors == {f"1.{place}": [text]}
        assert await user.list(orders) == []
    first = await upsert(user, orders, {"code": "n"}, {"code": "other"}, body(mine))
    assert [each["_rev"] for each in good(first)["entities"]] == [1, 1, 2]
    for start in ({"code": "n"}, {"code": "n", "place": {}, "lines": [], "seen": []}):
        kept = await user.list(orders)
        refused(await upsert(user, orders, start, body(hidden)), 400)
        assert await user.list(orders) == kept
    good(await other.delete(f"/{customers}/{hidden}"))


async def test_an_item_keeps_what_those_before_it_leave(
    hub: Hub, user: Client, other: Client, customers: str, orders: str
) -> None:
    """A reference to an entity out of sight may stay; once it is removed, it cannot be written again."""
    hidden = (await other.make(customers))["_id"]
    order = await user.make(orders, code="n")
    good(await hub.admin.patch(f"/{orders}/{order['_id']}", {"customer": hidden}))
    gone: list[Entity] = [{"code": "n", "customer": None}, {"code": "n", "customer": hidden}]
    assert set(refused(await upsert(user, orders, *gone), 400)) == {"1.customer"}
    kept: list[Entity] = [
        {"code": "n", "customer": hidden},
        {"code": "n", "note": "x"},
        {"code": "n", "customer": hidden},
    ]
    assert [each["customer"] for each in good(await upsert(user, orders, *kept))["entities"]] == [hidden] * 3
    empty: list[Entity] = [
        {"code": "n", "customer": None},
        {"code": "n", "$unset": ["customer"]},
        {"code": "n", "note": "y"},
    ]
    assert "customer" not in good(await upsert(user, orders, *empty))["entities"][2]


async def test_what_an_item_computes_fits_what_those_before_it_leave(user: Client, orders: str) -> None:
    await user.make(orders, code="c", n="x")
    again: list[Entity] = [{"code": "c", "n": 1}, *({"code": "c", "$inc": {"n": 1}} for _ in range(3))]
    assert [each["n"] for each in good(await upsert(user, orders, *again))["entities"]] == [1, 2, 3, 4]
    wrong: list[Entity] = [{"code": "c", "n": "x"}, {"code": "c", "$inc": {"n": 1}}]
    assert set(refused(await upsert(user, orders, *wrong), 400)) == {"1.n"}
    new: list[Entity] = [{"code": "d", "n": 5}, {"code": "e"}, {"code": "d", "$inc": {"n": 1}, "$unset": ["code.x"]}]
    refused(await upsert(user, orders, *new), 400)
    new[-1].pop("$unset")
    assert [each.get("n") for each in good(await upsert(user, orders, *new))["entities"]] == [5, None, 6]


@pytest.fixture
async def products(hub: Hub) -> str:
    """Products have a code, and others refer to them by their `sku` or their number."""
    fields = [CODE, {"id": "sku", "type": "Number", "unique": True}, {"id": "number", "type": "Serial"}]
    return await hub.define(fields=fields, open=True)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_key_that_is_referred_to_stays(hub: Hub, user: Client, products: str) -> None:
    """In whichever item it changes, and from whichever value it had at first."""
    by = {"type": "Reference", "store": products}
    lines = await hub.define(fields=[{"id": "of", "by": "sku", **by}, {"id": "nth", "by": "number", **by}])
    first, second = await user.make_all(products, [{"code": "a", "sku": 1}, {"code": "b", "sku": 2}])
    line = await user.make(lines, of=1, nth=second["number"])
    wrong: list[list[Entity]] = [
        [{"code": "a"}, {"code": "a", "$inc": {"sku": 5}}],
        [{"code": "a", "$inc": {"sku": 5}}, {"code": "a", "sku": 1}],
        [{"code": "b", "x": 1}, {"code": "a", "sku": None}],
        [{"code": "b", "sku": 3}, {"code": "a", "$unset": ["sku"]}],
    ]
    for changes in wrong:
        refused(await upsert(user, products, *changes), 409, "sku")
    passed: list[Entity] = [
        {"code": "b", "sku": 3},
        {"code": "a", "sku": 1},
        {"code": "b", "$inc": {"sku": 1}},
        {"code": "a"},
    ]
    assert [each["sku"] for each in good(await upsert(user, products, *passed))["entities"]] == [3, 1, 4, 1]
    numbers: list[Entity] = [{"code": "b", "number": 9}, {"code": "b", "n": 1}]
    assert {each["number"] for each in good(await upsert(user, products, *numbers))["entities"]} == {second["number"]}
    good(await user.patch(f"/{lines}/{line['_id']}", {"of": 4}))
    moved: list[Entity] = [{"code": "a", "sku": 7}, {"code": "c", "sku": 1}, {"code": "a", "$inc": {"sku": 1}}]
    assert [each["sku"] for each in good(await upsert(user, products, *moved))["entities"]] == [7, 1, 8]
    assert (await user.see(products, first["_id"]))["sku"] == 8


async def test_many_items_of_one_key(hub: Hub, user: Client, customers: str, orders: str) -> None:
    """More than one search looks for. The answer to each is the entity after it."""
    mine = (await user.make(customers))["_id"]
    bodies: list[Entity] = [{"code": f"c{n % 3}", "$addToSet": {"seen": mine}, "$inc": {"n": 1}} for n in range(1_100)]
    made = good(await upsert(user, orders, *bodies))["entities"]
    assert [each.get("n") for each in made] == [None] * 3 + [n // 3 for n in range(3, 1_100)]
    assert made[-1]["seen"] == [mine]
    bodies[1_050] = {"code": "c0", "$push": {"seen": new_id()}}
    assert set(refused(await upsert(user, orders, *bodies), 400)) == {"1050.seen.1"}
    assert {each["n"] for each in await user.list(orders)} == {366, 365}
