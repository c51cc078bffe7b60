"""A change that alters nothing has no effect: no revision, no event, no history."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import SYSTEM_FIELDS
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, unique
from tests.support.racing import Racing

FIELDS: list[dict[str, Any]] = [
    {"id": "number", "type": "Text", "unique": True},
    {"id": "customer", "type": "Text", "required": True},
    {"id": "amount", "type": "Number", "default": 1},
    {"id": "pin", "type": "Text", "hidden": True},
]


@pytest.fixture
async def orders(hub: Hub) -> str:
    return await hub.define(fields=FIELDS)


async def test_equal_values_leave_the_entity_as_it_is(user: Client, store: str) -> None:
    """PATCH, PUT, upsert, bulk change and sharing with equal values answer the entity with its old ETag."""
    body = {"code": "a", "n": 1, "deep": {"list": [1, {"x": None}]}}
    made = await user.make(store, body)
    path = f"/{store}/{made['_id']}"
    position = (await user.get(f"/{store}")).headers["x-position"]
    for answer in (
        await user.patch(path, {}),
        await user.patch(path, {"n": 1.0}),
        await user.patch(path, made),
        await user.put(path, made),
        await user.put(path, body, if_match='"1"'),
        await user.post(f"/{store}", body, {"upsert": "code"}),
        await user.put(path + "/access", {"access": []}),
    ):
        assert good(answer) == made | {"success": True}
        assert answer.headers["etag"] == '"1"'
    assert good(await user.patch(f"/{store}", {"n": 1}, {"n": 1}))["count"] == 0
    assert good(await user.patch(f"/{store}", {}, {"n": 1}))["count"] == 0
    assert good(await user.get(f"/{store}", {"since": position}))["changes"] == []
    assert len(good(await user.get(path + "/history"))["history"]) == 1


SYSTEM: dict[str, list[Any]] = {
    "users": [{}, {"name": "Ada", "roles": [], "disabled": False}, {"password": "open sesame 1"}],
    "groups": [{"name": "staff"}],
    "roles": [{"scopes": ["GET /units/*"]}],
    "tokens": [{"name": "till"}, {"name": "till", "scopes": ["GET /units/*"], "expires": None}],
    "stores": [{}, {"fields": FIELDS, "open": False}, {"indexes": ["n"], "description": "Orders"}],
}
NAMED = {"users": "login", "roles": "name", "stores": "name"}
"""Members that are unique."""


@pytest.mark.parametrize(("store", "body"), [(store, body) for store, bodies in SYSTEM.items() for body in bodies])
async def test_an_entity_of_a_system_store_is_put_back_as_it_was_shown(admin: Client, store: str, body: Any) -> None:
    """Members that it does not have stay missing. Those that a replacement has emptied can be put back too."""
    if store in NAMED:
        body = body | {NAMED[store]: unique("name")}
    made = await admin.make(store, body)
    path, shown = f"/{store}/{made['_id']}", await admin.see(store, made["_id"])
    position = (await admin.get(f"/{store}?limit=0")).headers["x-position"]
    answer = await admin.put(path, shown, if_match='"1"')
    assert good(answer) == shown | {"success": True}
    assert answer.headers["etag"] == '"1"'
    assert good(await admin.get(f"/{store}", {"since": position}))["changes"] == []
    assert len(good(await admin.get(path + "/history"))["history"]) == 1
    if store == "users":
        emptied = good(await admin.put(path, {"login": shown["login"]}))
        assert [name for name in body if emptied.get(name) is not None] == ["login"]
        assert emptied.keys() == {*shown, "success"}
        assert good(await admin.put(path, emptied)) == emptied


@pytest.mark.parametrize("store", ["users", "groups", "roles"])
async def test_principals_outlive_what_alters_nothing(racing: Racing, store: str, monkeypatch: Any) -> None:
    """Otherwise each such request would have them all read again."""
    name = "login" if store == "users" else "name"
    id = await racing.make(store, {name: "ada", **({"scopes": []} if store == "roles" else {})})
    forgotten: list[str] = []
    monkeypatch.setattr(racing.hub.resolver, "forget", lambda changes: None)  # that of the feed: it tells of `make` yet
    monkeypatch.setattr(racing.hub.resolver, "forget_entity", lambda store, of: forgotten.append(of))
    shown = await racing.see(store, id)
    await racing.hub.entities.replace(racing.principal, store, id, shown, None)
    assert forgotten == []
    await racing.hub.entities.replace(racing.principal, store, id, shown | {name: "eve"}, None)
    assert id in forgotten


async def test_a_stale_condition_counts_all_the_same(user: Client, store: str) -> None:
    """The answer is 412, although the change would alter nothing."""
    made = await user.make(store, n=1)
    refused(await user.patch(f"/{store}/{made['_id']}", {"n": 1}, if_match='"7"'), 412)
    refused(await user.put(f"/{store}/{made['_id']}", {"n": 1}, if_match='"7"'), 412)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_bulk_change_counts_what_it_altered(user: Client, store: str) -> None:
    """The count is the number of altered entities, not of matches."""
    await user.make_all(store, [{"n": n, "kind": "x"} for n in range(5)])
    assert good(await user.patch(f"/{store}", {"n": 3}, {"kind": "x"}))["count"] == 4


@pytest.mark.parametrize("name", SYSTEM_FIELDS)
async def test_system_fields_are_refused_in_a_bulk_body(user: Client, store: str, name: str) -> None:
    """If they were silently dropped, the caller would believe that they were set."""
    made = await user.make(store, n=1)
    answer = await user.patch(f"/{store}", {name: made[name], "n": 2}, {"n": 1})
    assert refused(answer, 400) == {name: ["This field is assigned by the hub."]}
    assert await user.see(store, made["_id"]) == made


async def test_guessing_a_hidden_value_does_not_show(user: Client, orders: str) -> None:
    """Every kind of change increases the revision, whether the guessed value is right or wrong."""
    body = {"number": "1", "customer": "a"}
    made = await user.make(orders, body, pin="1234")
    path = f"/{orders}/{made['_id']}"
    for guess in ("1234", "1234", "0000"):
        before = (await user.see(orders, made["_id"]))["_rev"]
        good(await user.patch(path, {"pin": guess}))
        good(await user.put(path, body | {"pin": guess}))
        good(await user.post(f"/{orders}", body | {"pin": guess}, {"upsert": "number"}))
        assert good(await user.patch(f"/{orders}", {"pin": guess}, {"number": '"1"'}))["count"] == 1
        assert (await user.see(orders, made["_id"]))["_rev"] == before + 4


async def test_an_upsert_changes_with_less_than_a_whole_entity(user: Client, orders: str) -> None:
    """It updates like PATCH. If there is no entity to update, missing required fields are refused."""
    made = await user.make(orders, number="O1", customer="ada", amount=2)
    upsert = {"upsert": "number"}
    changed = good(await user.post(f"/{orders}", {"number": "O1", "amount": 5}, upsert))
    assert (changed["_id"], changed["customer"], changed["amount"]) == (made["_id"], "ada", 5)
    answer = refused(await user.post(f"/{orders}", {"number": "O2", "amount": 5}, upsert), 400)
    assert answer == {"customer": ["This field is required."]}
    answer = refused(await user.post(f"/{orders}", {"number": "O1", "customer": None}, upsert), 400)
    assert answer == {"customer": ["This field is required."]}
    answer = refused(await user.post(f"/{orders}", {"customer": ""}, upsert), 400)
    assert answer == {"customer": ["This field is required."]}
    rows: list[Any] = [{"number": "O1", "amount": 6}, {"number": "O3", "amount": 7}]
    answer = refused(await user.post(f"/{orders}", rows, upsert), 400)
    assert answer == {"1.customer": ["This field is required."]}
    rows = [{"number": "O1", "amount": 6}, {"number": "O3", "customer": "eve"}, {"number": "O3", "amount": 8}]
    entities = good(await user.post(f"/{orders}", rows, upsert))["entities"]
    assert [(e["number"], e["amount"]) for e in entities] == [("O1", 6), ("O3", 1), ("O3", 8)]


async def test_a_hidden_field_is_no_key_of_an_upsert(hub: Hub, user: Client) -> None:
    """The error is the same as for a field that is not unique."""
    store = await hub.define(fields=[*FIELDS])
    answer = refused(await user.post(f"/{store}", {"pin": "1", "customer": "a"}, {"upsert": "pin"}), 400)
    assert list(answer) == ["upsert"]
