"""A change of a definition changes data with it: fields are renamed, dropped, filled and converted in one commit."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from stores.errors import DataConflict
from stores.query import Query
from stores.records import Entity
from stores.seen_values import SeenValues
from tests.platform.answers import definition_of, every_entity_can_be_sent_back, good, refused, shown
from tests.support.engines import Database
from tests.support.hub import Client, Hub, eventually, running_hub, unique
from tests.support.live import live
from tests.support.racing import Racing

NAME: Entity = {"id": "name", "type": "Text"}
MARGIN: Entity = {"id": "margin", "type": "Numeric", "index": True}
AMOUNT: Entity = {"id": "amount", "type": "Text"}
OLD: Entity = {"id": "old", "type": "Text"}
FIELDS: list[Entity] = [NAME, MARGIN, AMOUNT, OLD]
BODIES: list[Entity] = [
    {"name": "a", "margin": 1.5, "amount": "12.5", "old": "x"},
    {"name": "b", "margin": None, "amount": " 3 ", "old": None},
    {"name": "c", "amount": ""},
    {"name": "d"},
]


@pytest.fixture
async def orders(hub: Hub, user: Client) -> str:
    store = await hub.define(fields=FIELDS)
    await user.make_all(store, BODIES)
    return store


async def change(admin: Client, store: str, fields: list[Entity] | None = None, **data: Any) -> Any:
    body = {"data": data} | ({} if fields is None else {"fields": fields})
    return await admin.patch(await definition_of(admin, store), body)


async def test_all_operations_in_one_commit(admin: Client, user: Client, orders: str) -> None:
    """Each changed entity gets one revision, and one entry of its history with the administrator in `by`."""
    before = await user.list(orders)
    profit = MARGIN | {"id": "profit"}
    currency: Entity = {"id": "currency", "type": "Text", "required": True, "default": "CAD"}
    fields = [NAME, profit, AMOUNT | {"type": "Numeric"}, currency]
    data = {"rename": {"margin": "profit"}, "drop": ["old"], "fill": ["currency"], "convert": ["amount"]}
    answer = good(await change(admin, orders, fields, **data))
    assert [field["id"] for field in answer["fields"]] == ["name", "profit", "amount", "currency"]
    assert "data" not in answer
    after = await user.list(orders)
    assert shown(after, "name", "profit", "amount", "currency", "margin", "old") == [
        {"name": "a", "profit": 1.5, "amount": 12.5, "currency": "CAD"},
        {"name": "b", "profit": None, "amount": 3, "currency": "CAD"},
        {"name": "c", "amount": None, "currency": "CAD"},
        {"name": "d", "currency": "CAD"},
    ]
    assert [each["_rev"] for each in after] == [2, 2, 2, 2]
    assert [each["_id"] for each in after] == [each["_id"] for each in before]
    for entity in after:
        entries = good(await user.get(f"/{orders}/{entity['_id']}/history"))["history"]
        assert [(entry["op"], entry["by"]) for entry in entries] == [("insert", user.id), ("update", admin.id)]
    changes = good(await user.get(f"/{orders}/{after[0]['_id']}/history"))["history"][1]["changes"]
    assert (changes["profit"], changes["amount"]) == ({"old": None, "new": 1.5}, {"old": "12.5", "new": 12.5})
    assert [each["name"] for each in await user.list(orders, {"profit[gt]": "1"})] == ["a"]
    assert [each["name"] for each in await user.list(orders, {"amount[gte]": "3", "sort": "amount"})] == ["b", "a"]
    await every_entity_can_be_sent_back(user, orders)
    refused(await user.get(f"/{orders}", {"margin": "1"}), 400)


async def test_entities_without_the_fields_stay_as_they_are(admin: Client, user: Client, orders: str) -> None:
    """No revision, no history: nothing of them changes."""
    before = await user.list(orders)
    good(await change(admin, orders, [NAME, MARGIN | {"id": "profit"}, AMOUNT, OLD], rename={"margin": "profit"}))
    after = await user.list(orders)
    assert [each["_rev"] for each in after] == [2, 2, 1, 1]
    assert after[2:] == before[2:]


@pytest.mark.gate("sqlite", "mongodb")
async def test_indexes_follow_the_new_definition(admin: Client, user: Client, hub: Hub) -> None:
    """A renamed unique field is unique by its new name, and searched if the definition says so."""
    code: Entity = {"id": "code", "type": "Text", "unique": True}
    store = await hub.define(fields=[code])
    made = await user.make_all(store, [{"code": "One"}, {"code": "Two"}])
    good(await change(admin, store, [code | {"id": "sku", "search": True}], rename={"code": "sku"}))
    refused(await user.post(f"/{store}", {"sku": "Two"}), 409, "sku")
    assert [each["_id"] for each in await user.list(store, {"search": "two"})] == [made[1]["_id"]]
    assert good(await user.post(f"/{store}?upsert=sku", {"sku": "One"}))["_id"] == made[0]["_id"]


async def test_stray_fields_of_an_open_store(admin: Client, user: Client, hub: Hub) -> None:
    """They are dropped, renamed to a field or converted where they stand, and the store can be closed."""
    store = await hub.define(fields=[NAME], open=True)
    await user.make_all(store, [{"name": "a", "price": "5", "x": 1, "total": 7}, {"price": 6, "y": [1]}])
    path = await definition_of(admin, store)
    fields: list[Entity] = [NAME, {"id": "price", "type": "Number"}, {"id": "sum", "type": "Number"}]
    body: Entity = {
        "fields": fields,
        "open": False,
        "data": {"rename": {"total": "sum"}, "drop": ["x"], "convert": ["price"]},
    }
    errors = refused(await admin.patch(path, body), 409, "y")
    assert errors["y"][0].startswith("1 entity has this field")
    body["data"]["drop"].append("y")
    good(await admin.patch(path, body))
    assert shown(await user.list(store), "name", "price", "sum", "x", "y", "total") == [
        {"name": "a", "price": 5, "sum": 7},
        {"price": 6},
    ]
    await every_entity_can_be_sent_back(user, store)


NAMING_STATE: list[tuple[Entity, str]] = [
    ({"indexes": ["state"]}, "indexes.0"),
    ({"indexes": [["number", "-state.at"]]}, "indexes.0.1"),
    ({"unique": ["state"]}, "unique.0"),
    ({"search": ["state"]}, "search.0"),
    (
        {"indexes": [{"fields": ["number"], "unique": True, "where": {"$and": [{"state": "open"}]}}]},
        "indexes.0.where.state",
    ),
]


@pytest.mark.parametrize(("parts", "at"), NAMING_STATE, ids=[at for _, at in NAMING_STATE])
async def test_a_field_does_not_leave_its_paths_behind(
    admin: Client, user: Client, hub: Hub, parts: Entity, at: str
) -> None:
    """In an open store they would cover nothing any more: what was unique would be unique no longer, in silence."""
    store = await hub.define(open=True, **parts)
    await user.make(store, {"number": 1, "state": "open"})
    errors = refused(await change(admin, store, rename={"state": "status"}), 400, "data.rename.state")
    assert errors == {"data.rename.state": [f"The new definition still names state: {at}."]}
    body: Entity = {part: [] for part in parts} | {"data": {"rename": {"state": "status"}}}
    good(await admin.patch(await definition_of(admin, store), body))
    assert shown(await user.list(store), "number", "status") == [{"number": 1, "status": "open"}]


CURRENCY: Entity = {"id": "currency", "type": "Text", "default": "CAD"}
SECRET: Entity = {"id": "secret", "type": "Text", "hidden": True}
BAD: list[tuple[str, list[Entity] | None, Any, str]] = [
    ("no object", None, [], "data"),
    ("no such operation", None, {"remove": ["old"]}, "data.remove"),
    ("no list", None, {"drop": "old"}, "data.drop"),
    ("no names", None, {"rename": ["old"]}, "data.rename"),
    ("an empty list of names", None, {"rename": []}, "data.rename"),
    ("no truth value", None, {"steps": 1}, "data.steps"),
    ("no name", None, {"drop": [5]}, "data.drop.0"),
    ("an unknown name", FIELDS, {"drop": ["odd"]}, "data.drop.0"),
    ("an unknown name to rename", FIELDS, {"rename": {"odd": "even"}}, "data.rename.odd"),
    ("a field that stays", None, {"drop": ["old"]}, "data.drop.0"),
    ("a field that stays, renamed", [*FIELDS, CURRENCY], {"rename": {"old": "currency"}}, "data.rename.old"),
    ("an undefined target", [NAME, MARGIN, AMOUNT], {"rename": {"old": "new"}}, "data.rename.old"),
    ("an existing target", [NAME, MARGIN, AMOUNT], {"rename": {"old": "amount"}}, "data.rename.old"),
    ("a target that is no name", [NAME, MARGIN, AMOUNT], {"rename": {"old": 5}}, "data.rename.old"),
    ("a system field", [NAME, MARGIN, AMOUNT], {"rename": {"old": "owner"}}, "data.rename.old"),
    ("a system field to drop", None, {"drop": ["_id"]}, "data.drop.0"),
    ("twice", [NAME, MARGIN, AMOUNT], {"drop": ["old", "old"]}, "data.drop.1"),
    (
        "two of one target",
        [NAME, MARGIN, {"id": "new", "type": "Text"}],
        {"rename": {"old": "new", "amount": "new"}},
        "data.rename.amount",
    ),
    (
        "in two operations",
        [NAME | {"default": "x"}, *FIELDS[1:]],
        {"fill": ["name"], "convert": ["name"]},
        "data.convert.0",
    ),
    ("no default", None, {"fill": ["name"]}, "data.fill.0"),
    ("an unknown field to fill", None, {"fill": ["currency"]}, "data.fill.0"),
    ("an unknown field to convert", None, {"convert": ["currency"]}, "data.convert.0"),
    ("a new field to convert", [*FIELDS, CURRENCY], {"convert": ["currency"]}, "data.convert.0"),
    ("too many", None, {"drop": [f"f{n}" for n in range(501)]}, "data"),
]


@pytest.mark.parametrize(("fields", "data", "place"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_names_that_make_no_sense_are_refused_by_their_places(
    admin: Client, user: Client, orders: str, fields: list[Entity] | None, data: Any, place: str
) -> None:
    before = await user.list(orders), good(await admin.get(await definition_of(admin, orders)))
    body = {"data": data} | ({} if fields is None else {"fields": fields})
    errors = refused(await admin.patch(await definition_of(admin, orders), body), 400, place)
    assert len(errors) == 1
    assert (await user.list(orders), good(await admin.get(await definition_of(admin, orders)))) == before


async def test_a_hidden_field_stays_hidden_under_another_name(admin: Client, user: Client, hub: Hub) -> None:
    """In one commit it would be shown until all readers know the new definition: it is renamed in steps."""
    store = await hub.define(fields=[NAME, SECRET])
    made = await user.make(store, name="a", secret="s")
    visible = [NAME, SECRET | {"id": "open_secret", "hidden": False}]
    refused(await change(admin, store, visible, rename={"secret": "open_secret"}), 400, "data.rename.secret")
    other = [NAME, SECRET | {"id": "other"}]
    errors = refused(await change(admin, store, other, rename={"secret": "other"}), 409, "data")
    assert errors["data"][0].endswith(f"hub field rename {store} secret other")
    good(await change(admin, store, other, rename={"secret": "other"}, steps=True))
    path = await definition_of(admin, store)
    for _ in range(2):
        assert '"s"' not in (await user.get(f"/{store}")).text
        good(await admin.patch(path, {"data": {"continue": 5}}))
    text = (await user.get(f"/{store}")).text + (await user.get(f"/{store}/{made['_id']}/history")).text
    assert "secret" not in text
    assert '"s"' not in text
    assert good(await admin.get(path))["pending"] is None


async def test_who_changes_data_may_change_the_entities(admin: Client, hub: Hub, orders: str) -> None:
    """The right to change definitions is not enough, in one commit or in steps."""
    scopes = ["GET /stores/*", "PATCH /stores/*"]
    defining = await hub.with_token(admin.user, scopes=scopes)
    both = await hub.with_token(admin.user, scopes=[*scopes, f"PATCH /{orders}/*"])
    path, body = await definition_of(admin, orders), {"fields": [NAME, MARGIN, AMOUNT], "data": {"drop": ["old"]}}
    refused(await defining.patch(path, body), 403)
    good(await defining.patch(path, {"label": "Orders"}))
    good(await both.patch(path, body))
    good(await both.patch(path, {"fields": [NAME, MARGIN], "data": {"drop": ["amount"], "steps": True}}))
    refused(await defining.patch(path, {"data": {"continue": 5}}), 403)
    good(await both.patch(path, {"data": {"continue": 5}}))


async def test_a_definition_is_created_without_data(admin: Client, hub: Hub) -> None:
    refused(await admin.post("/stores", {"name": "x-with-data", "data": {"drop": ["a"]}}), 400, "data")


OBSTACLES: list[tuple[str, list[Entity], dict[str, Any], str, int, int]] = [
    ("what cannot be converted", [AMOUNT | {"type": "Numeric"}], {"convert": ["amount"]}, "amount", 2, 1),
    ("what does not fit", [AMOUNT | {"id": "sum", "type": "Numeric"}], {"rename": {"amount": "sum"}}, "sum", 4, 0),
    ("what would be too long", [AMOUNT | {"length": 3}], {}, "amount", 2, 1),
    ("what lacks a value", [AMOUNT | {"required": True}], {}, "amount", 1, 4),
    (
        "what lacks a value of its new name",
        [AMOUNT | {"id": "sum", "required": True}],
        {"rename": {"amount": "sum"}},
        "sum",
        1,
        4,
    ),
    ("a removed field", [], {}, "amount", 4, 0),
    ("equal values", [AMOUNT | {"unique": True}], {}, "amount", 2, 1),
    (
        "equal values under a new name",
        [AMOUNT | {"id": "sum", "unique": True}],
        {"rename": {"amount": "sum"}},
        "sum",
        2,
        1,
    ),
    ("another type", [AMOUNT | {"type": "Phone", "unique": True}], {}, "amount", 4, 0),
]


@pytest.mark.parametrize(
    ("fields", "data", "field", "count", "first"), [case[1:] for case in OBSTACLES], ids=[case[0] for case in OBSTACLES]
)
async def test_what_data_stand_against_is_refused(
    admin: Client,
    user: Client,
    hub: Hub,
    fields: list[Entity],
    data: dict[str, Any],
    field: str,
    count: int,
    first: int,
) -> None:
    """The answer names how many entities, and the first by `_id`. Nothing changes, neither data nor definition."""
    store = await hub.define(fields=[NAME, AMOUNT])
    made = await user.make_all(store, [{"amount": text} for text in ("12", "many", "many", "3.5")] + [{"name": "none"}])
    before = await user.list(store), good(await admin.get(await definition_of(admin, store)))
    errors = refused(await change(admin, store, [NAME, *fields], **data), 409, field)
    assert errors[field][0].startswith("1 entity " if count == 1 else f"{count} entities ")
    assert errors[field][0].endswith(f" The first is {made[first]['_id']}.")
    assert (await user.list(store), good(await admin.get(await definition_of(admin, store)))) == before
    assert [field["id"] for field in before[1]["fields"]] == ["name", "amount"]
    await every_entity_can_be_sent_back(user, store)


async def test_values_that_become_equal(admin: Client, user: Client, hub: Hub) -> None:
    store = await hub.define(fields=[AMOUNT])
    made = await user.make_all(store, [{"amount": text} for text in ("5", "1", "1.0", " 1")])
    numeric = AMOUNT | {"type": "Numeric", "unique": True}
    errors = refused(await change(admin, store, [numeric], convert=["amount"]), 409, "amount")
    assert errors["amount"] == [f"3 entities would share a value of it with another. The first is {made[1]['_id']}."]
    for each in made[2:]:
        good(await user.delete(f"/{store}/{each['_id']}"))
    good(await change(admin, store, [numeric], convert=["amount"]))
    assert shown(await user.list(store), "amount") == [{"amount": 5}, {"amount": 1}]
    refused(await user.post(f"/{store}", {"amount": 5}), 409, "amount")


async def test_a_name_that_an_entity_uses_already(admin: Client, user: Client, hub: Hub) -> None:
    """In an open store entities may have a field of the new name."""
    store = await hub.define(fields=[AMOUNT], open=True)
    made = await user.make_all(
        store, [{"amount": "1"}, {"amount": "2", "sum": 3}, {"sum": 4}, {"amount": None, "sum": 5}]
    )
    fields = [{"id": "sum", "type": "JSON"}]
    errors = refused(await change(admin, store, fields, rename={"amount": "sum"}), 409, "sum")
    assert errors["sum"] == [f"1 entity has a value of it already. The first is {made[1]['_id']}."]
    good(await user.patch(f"/{store}/{made[1]['_id']}", {"sum": None}))
    good(await change(admin, store, fields, rename={"amount": "sum"}))
    assert shown(await user.list(store), "amount", "sum") == [{"sum": each} for each in ("1", "2", 4, 5)]


RENAME_TOTAL: Entity = {"rename": {"total": "sum"}}


@pytest.mark.parametrize(
    ("kind", "good_value", "bad_value"),
    [
        ({"type": "Number"}, 3, "many"),
        ({"type": "JSON"}, "x", [1]),
        ({"type": "Reference"}, None, "f" * 24),
    ],
    ids=["a type", "a unique field", "a reference"],
)
async def test_what_stands_at_a_new_name_already_is_checked(
    admin: Client, user: Client, hub: Hub, kind: Entity, good_value: Any, bad_value: Any
) -> None:
    """It is not renamed, but becomes a value of the field."""
    if kind["type"] == "Reference":
        customers = await hub.define()
        good_value, kind = (await user.make(customers, {}))["_id"], kind | {"store": customers}
    store = await hub.define(fields=[{"id": "total"} | kind], open=True)
    made = await user.make_all(store, [{"total": None}, {"sum": bad_value}, {"sum": good_value}])
    path, body = await definition_of(admin, store), {"fields": [{"id": "sum"} | kind], "data": RENAME_TOTAL}
    if kind["type"] == "JSON":
        body["unique"] = ["sum"]
    errors = refused(await admin.patch(path, body), 409, "sum")
    assert errors["sum"][0].startswith("1 entity has a value of it that ")
    assert errors["sum"][0].endswith(f"The first is {made[1]['_id']}.")
    good(await user.delete(f"/{store}/{made[1]['_id']}"))
    good(await admin.patch(path, body))
    await every_entity_can_be_sent_back(user, store)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_serial_begins_above_what_stands_at_its_new_name(admin: Client, user: Client, hub: Hub) -> None:
    store = await hub.define(open=True)
    await user.make(store, no=70)
    good(await change(admin, store, [{"id": "number", "type": "Serial"}]))
    await user.make(store, {})
    good(await change(admin, store, [{"id": "no", "type": "Serial"}], rename={"number": "no"}))
    assert (await user.make(store, {}))["no"] == 71


async def test_defaults_fill_what_is_missing(admin: Client, user: Client, orders: str) -> None:
    """Also null, and in a required field the empty text; what has a value keeps it."""
    fields = [NAME, MARGIN | {"default": 9}, AMOUNT | {"required": True, "default": "0"}, OLD]
    refused(await change(admin, orders, fields), 409, "amount")
    good(await change(admin, orders, fields, fill=["margin", "amount"]))
    assert shown(await user.list(orders), "margin", "amount") == [
        {"margin": 1.5, "amount": "12.5"},
        {"margin": 9, "amount": " 3 "},
        {"margin": 9, "amount": "0"},
        {"margin": 9, "amount": "0"},
    ]


async def test_a_live_view_gets_what_a_fill_changes(hub: Hub, admin: Client, user: Client, orders: str) -> None:
    """If the fields that are shown stay the same, views go on: the updates of one commit, until the last. The same by
    delta sync."""
    position = (await user.get(f"/{orders}")).headers["x-position"]
    async with live(hub, user) as client:
        watch = await client.watch(orders)
        good(
            await change(admin, orders, [NAME, MARGIN | {"default": 9, "required": True}, AMOUNT, OLD], fill=["margin"])
        )
        await client.until(lambda: len(watch.events) == 3)
        events = watch.take()
        assert {event["commit"] for event in events} == {events[0]["commit"]}
        assert [event.get("last") for event in events] == [None, None, True]
        assert [event["changed"] for event in events if "margin" not in event["changed"]] == []
        assert watch.view == {each["_id"]: each for each in await user.list(orders)}
        assert watch.ended is None
    delta = good(await user.get(f"/{orders}", {"since": position}))["changes"]
    assert [each["entity"] for each in delta] == (await user.list(orders))[1:]


@pytest.mark.parametrize("what", ["a rename", "a drop", "a conversion", "a new field"])
async def test_views_of_other_fields_end(hub: Hub, admin: Client, user: Client, orders: str, what: str) -> None:
    """With 410, before any of the changes; delta sync answers 410, too. A text for people ends none."""
    changes: dict[str, tuple[list[Entity], dict[str, Any]]] = {
        "a rename": ([NAME, MARGIN | {"id": "profit"}, AMOUNT, OLD], {"rename": {"margin": "profit"}}),
        "a drop": ([NAME, MARGIN, AMOUNT], {"drop": ["old"]}),
        "a conversion": ([NAME, MARGIN, AMOUNT | {"type": "Numeric"}, OLD], {"convert": ["amount"]}),
        "a new field": ([*FIELDS, CURRENCY], {"fill": ["currency"]}),
    }
    fields, data = changes[what]
    position = (await user.get(f"/{orders}")).headers["x-position"]
    async with live(hub, user) as client:
        watch = await client.watch(orders)
        good(await admin.patch(await definition_of(admin, orders), {"label": "Orders", "description": "of today"}))
        made = await user.make(orders, name="e")
        await client.until(lambda: watch.events)
        assert watch.ended is None
        good(await change(admin, orders, fields, **data))
        await client.until(lambda: watch.ended is not None)
        assert watch.ended is not None
        assert watch.ended["code"] == "410"
        assert [event["_id"] for event in watch.take()] == [made["_id"]]
        again = await client.watch(orders)
        assert again.view == {each["_id"]: each for each in await user.list(orders)}
    refused(await user.get(f"/{orders}", {"since": position}), 410)


# Serial numbers.

NUMBER: Entity = {"id": "number", "type": "Serial", "start": 100}


async def test_a_serial_numbers_what_is_there(admin: Client, user: Client, hub: Hub) -> None:
    """In order of creation; new entities go on above."""
    store = await hub.define(fields=[NAME])
    await user.make_all(store, [{"name": str(n)} for n in range(5)])
    good(await change(admin, store, [NAME, NUMBER], fill=["number"]))
    assert shown(await user.list(store), "number") == [{"number": 100 + n} for n in range(5)]
    assert (await user.make(store, name="5"))["number"] == 105
    await every_entity_can_be_sent_back(user, store)


async def test_a_serial_that_does_not_fill_begins_above_what_is_there(admin: Client, user: Client, hub: Hub) -> None:
    """Its values may be of another type before; what lacks a number can be filled later."""
    store = await hub.define(fields=[NAME], open=True)
    await user.make_all(store, [{"number": 7}, {"name": "b"}, {"number": 2_000}, {"number": None}])
    good(await change(admin, store, [NAME, NUMBER]))
    assert (await user.make(store, name="e"))["number"] == 2_001
    good(await change(admin, store, [NAME, NUMBER], fill=["number"]))
    assert [each.get("number") for each in await user.list(store)] == [7, 2_002, 2_000, 2_003, 2_001]
    assert (await user.make(store, name="f"))["number"] == 2_004


async def test_a_number_above_which_none_are_left(admin: Client, user: Client, hub: Hub) -> None:
    store = await hub.define(fields=[{"id": "number", "type": "Number"}])
    await user.make_all(store, [{"number": 10**15 + 1}, {"number": 5}])
    errors = refused(await change(admin, store, [NUMBER]), 409, "number")
    assert errors["number"][0].startswith("An entity has the number 1000000000000001")


async def test_numbers_are_converted_and_renamed(admin: Client, user: Client, hub: Hub) -> None:
    store = await hub.define(fields=[{"id": "number", "type": "Text"}])
    await user.make_all(store, [{"number": "300"}, {"number": " 20 "}])
    errors = refused(await change(admin, store, [NUMBER]), 409, "number")
    assert errors["number"][0].startswith("2 entities have a value of it that would not be valid")
    good(await change(admin, store, [NUMBER], convert=["number"]))
    assert (await user.make(store, {}))["number"] == 301
    last = await user.make(store, {})
    good(await user.delete(f"/{store}/{last['_id']}"))
    good(await change(admin, store, [NUMBER | {"id": "no"}], rename={"number": "no"}))
    assert (await user.make(store, {}))["no"] == 303
    assert [each["no"] for each in await user.list(store)] == [300, 20, 301, 303]


# References.


async def test_references_keep_their_targets(admin: Client, user: Client, hub: Hub) -> None:
    customers = await hub.define(fields=[{"id": "number", "type": "Text", "unique": True}])
    customer = await user.make(customers, number="1")
    to = {"id": "customer", "type": "Reference", "store": customers}
    text = {"id": "customer", "type": "Text"}
    orders = await hub.define(fields=[text])
    made = await user.make_all(orders, [{"customer": f" {customer['_id']}"}, {"customer": "f" * 24}, {}])
    refused(await change(admin, orders, [to]), 409, "customer")
    errors = refused(await change(admin, orders, [to], convert=["customer"]), 409, "customer")
    assert errors["customer"] == [
        f"1 entity has a value of it that no entity of the other store has. The first is {made[1]['_id']}."
    ]
    good(await user.delete(f"/{orders}/{made[1]['_id']}"))
    good(await change(admin, orders, [to], convert=["customer"]))
    good(await change(admin, orders, [to | {"id": "buyer"}], rename={"customer": "buyer"}))
    refused(await user.delete(f"/{customers}/{customer['_id']}"), 409, "_id")
    missing = to | {"id": "seller", "default": "e" * 24}
    refused(await change(admin, orders, [to | {"id": "buyer"}, missing], fill=["seller"]), 400, "fields.1.default")
    present = missing | {"default": customer["_id"]}
    good(await change(admin, orders, [to | {"id": "buyer"}, present], fill=["seller"]))
    assert {(each["buyer"], each["seller"]) for each in await user.list(orders, {"buyer[ne]": "null"})} == {
        (customer["_id"], customer["_id"])
    }


async def test_values_that_others_refer_to_are_not_converted(admin: Client, user: Client, hub: Hub) -> None:
    number: Entity = {"id": "number", "type": "Text", "unique": True}
    customers = await hub.define(fields=[number])
    await user.make_all(customers, [{"number": "1"}, {"number": "2"}])
    to = {"id": "customer", "type": "Reference", "store": customers, "by": "number"}
    orders = await hub.define(fields=[to])
    order = await user.make(orders, customer="2")
    wanted = [number | {"type": "Number"}]
    errors = refused(await change(admin, customers, wanted, convert=["number"]), 409, "number")
    assert errors["number"] == [f"Entities of {orders} refer to this value."]
    refused(await change(admin, customers, [number | {"id": "no"}], rename={"number": "no"}), 409, "number")
    steps = {"convert": ["number"], "steps": True}
    assert "in steps" in refused(await change(admin, customers, wanted, **steps), 409, "number")["number"][0]
    good(await user.delete(f"/{orders}/{order['_id']}"))
    good(await change(admin, customers, wanted, convert=["number"]))
    assert shown(await user.list(customers), "number") == [{"number": 1}, {"number": 2}]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.parametrize("steps", [False, True])
async def test_references_within_a_store_follow_the_new_name_of_their_key(
    admin: Client, user: Client, hub: Hub, steps: bool
) -> None:
    """They stay references: by the new name, which is a key from then on."""
    code: Entity = {"id": "code", "type": "Text", "unique": True}
    store = await hub.define(fields=[code])
    parent: Entity = {"id": "parent", "type": "Reference", "store": store, "by": "code"}
    path = await definition_of(admin, store)
    good(await admin.patch(path, {"fields": [code, parent]}))
    await user.make(store, code="a")
    await user.make(store, code="b", parent="a")
    sku = code | {"id": "sku"}
    refused(await change(admin, store, [sku, parent], rename={"code": "sku"}), 409, "code")
    good(await change(admin, store, [sku, parent | {"by": "sku"}], rename={"code": "sku"}, steps=steps))
    while steps and good(await admin.patch(path, {"data": {"continue": 1}}))["pending"]:
        pass
    root, _ = await user.list(store)
    assert shown(await user.list(store), "code", "sku", "parent") == [{"sku": "a"}, {"sku": "b", "parent": "a"}]
    refused(await user.delete(f"/{store}/{root['_id']}"), 409)
    refused(await user.post(f"/{store}", {"sku": "c", "parent": "x"}), 400, "parent")
    await user.make(store, sku="c", parent="b")


async def test_a_key_of_an_open_store_is_not_dropped(admin: Client, user: Client, hub: Hub) -> None:
    """A path may be unique without being a field."""
    customers = await hub.define(unique=["number"])
    await user.make_all(customers, [{"number": "1", "n": 1}, {"number": "2", "n": 2}])
    orders = await hub.define(fields=[{"id": "customer", "type": "Reference", "store": customers, "by": "number"}])
    order = await user.make(orders, customer="1")
    renamed = {"unique": ["no"], "data": {"rename": {"number": "no"}}}
    refused(await change(admin, customers, drop=["number"]), 409, "number")
    refused(await admin.patch(await definition_of(admin, customers), renamed), 409, "number")
    good(await user.delete(f"/{orders}/{order['_id']}"))
    good(await change(admin, customers, drop=["number"]))
    assert shown(await user.list(customers), "number", "n") == [{"n": 1}, {"n": 2}]


async def test_definitions_that_refer_to_each_other(admin: Client, user: Client) -> None:
    """In one array, in any order. A store that none of them defines is missing as before."""
    names = [unique("mutual") for _ in range(2)]
    bodies = [
        {"name": name, "fields": [{"id": "to", "type": "Reference", "store": other}]}
        for name, other in zip(names, reversed(names), strict=True)
    ]
    wrong = bodies[0] | {"fields": [{"id": "to", "type": "Reference", "store": names[1], "by": "code"}]}
    refused(await admin.post("/stores", [wrong, bodies[1]]), 400, "0.fields.0.by")
    refused(await admin.post("/stores", bodies[:1]), 400, "0.fields.0.store")
    bad = bodies[1] | {"fields": [*bodies[1]["fields"], {"id": "a", "type": "Blob"}]}
    assert refused(await admin.post("/stores", [bodies[0], bad]), 400).keys() == {"1.fields.1.type"}
    good(await admin.post("/stores", bodies))
    first = await user.make(names[0], {})
    second = await user.make(names[1], to=first["_id"])
    good(await user.patch(f"/{names[0]}/{first['_id']}", {"to": second["_id"]}))
    refused(await user.delete(f"/{names[0]}/{first['_id']}"), 409, "_id")


# Bounds and races.


SPACED: Entity = {"id": "a b; c", "type": "Text"}
DASHED: Entity = {"id": "-o", "type": "Text"}


async def test_too_many_for_one_request(database: Database, tmp_path: Any) -> None:
    """The answer names the command. Entities without the field do not count."""
    async with running_hub(database, tmp_path, max_matches=3) as hub:
        store = await hub.define(fields=[NAME, OLD])
        await hub.admin.make_all(store, [{"name": str(n), "old": "x"} for n in range(4)] + [{"name": "e"}] * 9)
        errors = refused(await change(hub.admin, store, [NAME], drop=["old"]), 409, "data")
        assert errors["data"][0].endswith(f"hub field drop {store} old")
        assert "3 entities" in errors["data"][0]
        quoted = refused(await change(hub.admin, store, [NAME, SPACED], rename={"old": "a b; c"}), 409, "data")
        assert quoted["data"][0].endswith(f"hub field rename {store} old 'a b; c'")
        dashed = refused(await change(hub.admin, store, [NAME, DASHED], rename={"old": "-o"}), 409, "data")
        assert dashed["data"][0].endswith(f"hub field rename -- {store} old -o")
        serial = [NAME, OLD, {"id": "number", "type": "Serial"}]
        refused(await change(hub.admin, store, serial, fill=["number"]), 409, "data")
        first = (await hub.admin.list(store))[0]
        good(await hub.admin.delete(f"/{store}/{first['_id']}"))
        good(await change(hub.admin, store, [NAME], drop=["old"]))
        assert [each["_rev"] for each in await hub.admin.list(store)] == [2] * 3 + [1] * 9


async def defined(racing: Racing, *bodies: Entity) -> str:
    store = await racing.make("stores", {"name": "orders", "fields": [NAME, AMOUNT]})
    for body in bodies:
        await racing.make("orders", body)
    return store


CONVERT: Entity = {"fields": [NAME, AMOUNT | {"type": "Numeric"}], "data": {"convert": ["amount"]}}


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_is_written_before_the_commit_is_changed_with_the_rest(racing: Racing) -> None:
    store = await defined(racing, {"amount": "1"})
    racing.before("define", lambda: racing.make("orders", {"amount": "2.50"}))
    await racing.hub.entities.change(racing.principal, "stores", store, CONVERT, None)
    found = await racing.hub.engine.entities("orders", Query())
    assert [each["amount"] for each in found] == [1, 2.5]


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_is_written_before_the_commit_stands_against_it(racing: Racing) -> None:
    """Nothing is changed: the definition and all entities are as they were."""
    store = await defined(racing, {"amount": "1"}, {"amount": "2"})
    racing.before("define", lambda: racing.make("orders", {"amount": "many"}))
    with pytest.raises(DataConflict) as refusal:
        await racing.hub.entities.change(racing.principal, "stores", store, CONVERT, None)
    assert refusal.value.found["amount"].startswith("1 entity has a value of it that cannot be converted.")
    found = await racing.hub.engine.entities("orders", Query())
    assert [(each["amount"], each["_rev"]) for each in found] == [("1", 1), ("2", 1), ("many", 1)]
    assert (await racing.see("stores", store))["fields"] == [NAME, AMOUNT]


async def test_a_serial_is_filled_while_others_take_numbers(racing: Racing) -> None:
    number = {"id": "number", "type": "Serial"}
    store = await racing.make("stores", {"name": "orders", "fields": [NAME]})
    await racing.make("orders", {"name": "a"})
    entities, me = racing.hub.entities, racing.principal
    await entities.change(me, "stores", store, {"fields": [NAME, number]}, None)
    racing.before("define", lambda: racing.make("orders", {"name": "b"}))
    await entities.change(me, "stores", store, {"data": {"fill": ["number"]}}, None)
    await racing.make("orders", {"name": "c"})
    found = await racing.hub.engine.entities("orders", Query())
    assert [each["number"] for each in found] == [2, 1, 3]


@pytest.mark.gate("sqlite", "mongodb")
async def test_writes_meanwhile_follow_the_former_or_the_new_definition(racing: Racing) -> None:
    """None is lost, and none leaves a value of the former type."""
    store = await defined(racing, {"amount": "0"})
    writes: list[asyncio.Task[str]] = []

    async def write_meanwhile() -> None:
        writes.extend(asyncio.create_task(racing.make("orders", {"amount": f"{n}.50"})) for n in range(8))
        await asyncio.sleep(0)

    racing.before("define", write_meanwhile)
    await racing.hub.entities.change(racing.principal, "stores", store, CONVERT, None)
    await asyncio.gather(*writes)
    found = await racing.hub.engine.entities("orders", Query())
    assert sorted(each["amount"] for each in found) == [0, *(n + 0.5 for n in range(8))]


async def test_a_cancelled_change_leaves_its_examination_a_file_to_use(
    racing: Racing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that examines the entities goes on for a moment."""
    unique_amount = AMOUNT | {"unique": True}
    store = await racing.make("stores", {"name": "orders", "fields": [unique_amount]})
    for number in range(3):
        await racing.make("orders", {"amount": f"{number}"})
    begun, goes_on = threading.Event(), threading.Event()
    outcomes: list[Any] = []
    note = SeenValues.note

    def note_later(*values: Any) -> Any:
        begun.set()
        goes_on.wait(5)
        try:
            outcomes.append(note(*values))
        except Exception as error:
            outcomes.append(error)
        return ()

    monkeypatch.setattr(SeenValues, "note", note_later)
    body = {"fields": [unique_amount | {"type": "Numeric"}], "data": {"convert": ["amount"]}}
    change = asyncio.create_task(racing.hub.entities.change(racing.principal, "stores", store, body, None))
    await asyncio.to_thread(begun.wait, 5)
    change.cancel()
    asyncio.get_running_loop().call_later(0.1, goes_on.set)
    await asyncio.wait([change])

    async def is_over() -> bool:
        return len(outcomes) == 3

    await eventually(is_over)
    assert outcomes == [()] * 3
