"""A definition that existing entities violate is refused, and every entity can be sent back as it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from auth.view import View
from hub.services.violations import Checked
from stores.errors import Violation
from stores.limits import MOST_VIOLATIONS
from stores.protocol import Update
from stores.query import EVERYTHING
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.platform.answers import definition_of, every_entity_can_be_sent_back, good, refused
from tests.support.engines import Database, opened
from tests.support.hub import Client, Hub, entity_of, running_hub

FIELDS: list[dict[str, Any]] = [
    {"id": "name", "type": "Text"},
    {"id": "amount", "type": "Numeric"},
    {"id": "state", "type": "Select", "options": [{"id": 1, "name": "open"}, {"id": 2, "name": "done"}]},
    {"id": "extra", "type": "JSON"},
]


def changed(name: str, **settings: Any) -> list[dict[str, Any]]:
    return [field | settings if field["id"] == name else field for field in FIELDS]


REFUSED: list[tuple[str, dict[str, Any], str, int]] = [
    ("remove", {"fields": FIELDS[1:]}, "name", 3),
    ("rename", {"fields": changed("name", id="title")}, "name", 3),
    ("require", {"fields": changed("name", required=True)}, "name", 2),
    ("require with a default", {"fields": changed("amount", required=True, default=1)}, "amount", 1),
    ("require a new one", {"fields": [*FIELDS, {"id": "currency", "type": "Text", "required": True}]}, "currency", 4),
    ("another type", {"fields": changed("amount", type="Text")}, "amount", 3),
    ("shorter", {"fields": changed("name", length=3)}, "name", 1),
    ("an option less", {"fields": changed("state", options=[{"id": 1, "name": "open"}])}, "state", 1),
    ("a type for anything", {"fields": changed("extra", type="Number")}, "extra", 2),
    ("unique, with several values", {"unique": ["extra"]}, "extra", 1),
    ("unique, with equal values", {"fields": changed("amount", unique=True)}, "amount", 2),
]
ALLOWED: list[dict[str, Any]] = [
    {"fields": changed("name", length=4)},
    {"fields": changed("name", type="Textarea")},
    {"fields": changed("amount", type="JSON")},
    {"fields": [*FIELDS, {"id": "currency", "type": "Text", "default": "EUR"}]},
    {"fields": changed("state", options=[{"id": i, "name": str(i)} for i in (1, 2, 3)])},
    {"fields": FIELDS[1:], "open": True},
    {"open": True},
    {"label": "Orders"},
]


@pytest.fixture
async def orders(hub: Hub, user: Client) -> str:
    store = await hub.define(fields=FIELDS)
    bodies: list[dict[str, Any]] = [
        {"name": "abcd", "amount": 1.5, "state": 1},
        {"name": "abc", "amount": 1.5, "state": 2, "extra": [1, 2]},
        {"name": "", "amount": 3, "extra": "x"},
        {"name": None, "amount": None, "extra": None},
    ]
    await user.make_all(store, bodies)
    return store


@pytest.mark.parametrize(("change", "field", "count"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
async def test_a_change_is_refused_while_data_stand_against_it(
    admin: Client, user: Client, orders: str, change: dict[str, Any], field: str, count: int
) -> None:
    """The answer is 409 with the field and the number of entities; the old definition stays."""
    path = await definition_of(admin, orders)
    before = good(await admin.get(path))
    errors = refused(await admin.patch(path, change), 409, field)
    assert errors[field][0].startswith("1 entity " if count == 1 else f"{count} entities ")
    assert good(await admin.get(path)) == before
    await every_entity_can_be_sent_back(user, orders)


@pytest.mark.parametrize("change", ALLOWED, ids=lambda change: str(change)[:60])
async def test_a_change_that_all_entities_fit_is_made(
    admin: Client, user: Client, orders: str, change: dict[str, Any]
) -> None:
    """Afterwards every entity can be sent back as it is shown."""
    good(await admin.patch(await definition_of(admin, orders), change))
    for entity in await user.list(orders):
        good(await user.put(f"/{orders}/{entity['_id']}", entity))


async def test_cleared_data_stand_against_nothing(admin: Client, user: Client, orders: str) -> None:
    """In a closed store, a field that is null in all entities can be removed, and is no longer shown."""
    for entity in await user.list(orders):
        good(await user.patch(f"/{orders}/{entity['_id']}", {"name": None}))
    good(await admin.patch(await definition_of(admin, orders), {"fields": FIELDS[1:]}))
    assert all("name" not in entity for entity in await user.list(orders))
    assert "name" not in (await user.get(f"/{orders}")).text
    await every_entity_can_be_sent_back(user, orders)
    refused(await user.get(f"/{orders}", {"name": "x"}), 400)


async def test_a_store_is_not_closed_over_fields_that_it_does_not_know(hub: Hub, admin: Client, user: Client) -> None:
    """The error names each such field with its count; null values do not matter."""
    store = await hub.define(fields=FIELDS, open=True)
    await user.make_all(store, [{"a": 1, "name": "x"}, {"a": 2, "b": []}, {"c": None}])
    path = await definition_of(admin, store)
    errors = refused(await admin.patch(path, {"open": False}), 409)
    assert {name: text[0].split(" this")[0] for name, text in errors.items()} == {
        "a": "2 entities have",
        "b": "1 entity has",
    }
    good(await user.delete(f"/{store}", {"filter": '{"$or":[{"a":{"$gt":0}},{"b":{"$exists":true}}]}'}))
    good(await admin.patch(path, {"open": False}))
    await every_entity_can_be_sent_back(user, store)


async def test_every_definition_can_be_sent_back(admin: Client, orders: str) -> None:
    """A definition replaced by itself does not change."""
    path = await definition_of(admin, orders)
    definition = entity_of(await admin.get(path))
    again = entity_of(await admin.put(path, definition))
    kept = {name: value for name, value in again.items() if name not in ("_rev", "_at") and value is not None}
    assert kept == {name: v for name, v in definition.items() if name not in ("_rev", "_at") and v is not None}


def test_invalid_fields_that_are_sent_back_keep_their_order() -> None:
    """The order does not depend on the hashes of the process, also when there are more violations than are known."""
    names = [f"field{n}" for n in range(20)]
    body: Entity = dict.fromkeys(names, "x")
    view = View(StoreDefinition("notes"), EVERYTHING, frozenset(), frozenset(), "")
    for violations in (names[::-1], names * MOST_VIOLATIONS):
        found = [Violation(name, "invalid") for name in violations][:MOST_VIOLATIONS]
        assert [*Checked(view, body, found, lambda rest: []).kept(body)] == names


async def test_what_is_older_than_its_definition_can_be_sent_back(database: Database, tmp_path: Any) -> None:
    """An entity that is invalid by the current definition can be sent back as it is shown, but not with other invalid
    values."""
    async with running_hub(database, tmp_path) as hub:
        store = await hub.define(fields=[*FIELDS, {"id": "must", "type": "Text", "required": True}])
        made = await hub.admin.make(store, name="a", must="x")
        good(await hub.admin.patch(await definition_of(hub.admin, store), {"label": "Changed"}))
        hub.process.stop()
        old = {"name": "x" * 300, "amount": "many", "must": None, "leftover": 1}
        async with opened(database.engine()) as engine:
            await engine.commit([Update(store, made["_id"], old)], None)
    async with running_hub(database, tmp_path) as hub:
        shown = await hub.admin.see(store, made["_id"])
        path = f"/{store}/{made['_id']}"
        assert "leftover" not in shown
        assert entity_of(await hub.admin.patch(path, {"name": "x" * 300})) == shown
        again = entity_of(await hub.admin.put(path, shown))
        assert again == shown | {"_rev": again["_rev"], "_at": again["_at"]}
        refused(await hub.admin.put(path, shown | {"amount": "more"}), 400, "amount")
        refused(await hub.admin.patch(path, {"name": "y" * 300}), 400, "name")
        refused(await hub.admin.put(path, {n: v for n, v in shown.items() if n != "must"}), 400, "must")
        mended = await hub.admin.put(path, {"must": "y", "amount": 1})
        assert entity_of(mended)["amount"] == 1


async def test_a_name_longer_than_the_limit_can_be_sent_back(database: Database, tmp_path: Any) -> None:
    """The limit has been lowered since, or another program has written the field."""
    long, other = "x" * 300, "y" * 300
    async with running_hub(database, tmp_path, max_name_length=500) as hub:
        store = await hub.define()
        made = await hub.admin.make(store, **{long: 1}, n=1)
    async with running_hub(database, tmp_path) as hub:
        path = f"/{store}/{made['_id']}"
        shown = await hub.admin.see(store, made["_id"])
        for send in (hub.admin.patch, hub.admin.put):
            again = entity_of(await send(path, shown | {"n": shown["n"] + 1}))
            assert again[long] == 1
            refused(await send(path, shown | {long: 2}), 400, "x" * 200)
            refused(await send(path, shown | {other: 1}), 400, "y" * 200)
            shown = again


async def test_with_more_violations_than_are_listed_every_other_one_is_found(database: Database, tmp_path: Any) -> None:
    """An entity of another program has more of them than an answer lists. It can be sent back as it is, and not with an
    invalid value behind them."""
    async with running_hub(database, tmp_path) as hub:
        store = await hub.define()
        made = await hub.admin.make(store, n=1)
        hub.process.stop()
        async with opened(database.engine()) as engine:
            await engine.commit([Update(store, made["_id"], {"odd": [{"$": 0}] * (MOST_VIOLATIONS + 1)})], None)
    async with running_hub(database, tmp_path) as hub:
        path = f"/{store}/{made['_id']}"
        shown = await hub.admin.see(store, made["_id"])
        for send in (hub.admin.patch, hub.admin.put):
            again = entity_of(await send(path, shown | {"n": 2}))
            assert again == shown | {"n": 2, "_rev": again["_rev"], "_at": again["_at"]}
            refused(await send(path, shown | {"z": [1, {"$": 0}]}), 400, "z.1.$")
            errors = refused(await send(path, shown | {"odd": shown["odd"][1:]}), 400)
            assert len(errors) == MOST_VIOLATIONS
            shown = again
