"""Definitions of stores: administrators create, change and delete them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import refused
from tests.support.hub import Client, Hub, entity_of, unique
from tests.support.program import printed


async def definition_of(admin: Client, name: str) -> Entity:
    [found] = await admin.list("stores", {"name": name})
    return found


async def test_a_store_is_there_as_soon_as_it_is_defined(admin: Client, user: Client) -> None:
    """Before its definition every call is answered 404; afterwards it accepts entities."""
    name = unique("units")
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/5f00000000000000000000a1"), ("DELETE", "?a=1")):
        body = b"{}" if method == "POST" else b""
        refused(await user.send(method, f"/{name}{path}", body), 404)
    definition = await admin.make("stores", name=name, label="Units", description="what is for sale")
    assert (definition["name"], definition["label"]) == (name, "Units")
    made = await user.make(name, n=1)
    assert await user.list(name) == [made]


async def test_a_name_is_taken_once(admin: Client) -> None:
    """Names of system stores and paths of the API cannot be used either."""
    name = unique("units")
    await admin.make("stores", name=name)
    refused(await admin.post("/stores", {"name": name}), 409, "name")
    for reserved in ("users", "groups", "roles", "tokens", "sessions", "stores", "auth"):
        assert (await admin.post("/stores", {"name": reserved})).status_code in (400, 409), reserved


BAD: list[tuple[Entity, str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": 5}, "name"),
    ({"name": "1a"}, "name"),
    ({"name": "_a"}, "name"),
    ({"name": "a b"}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": "a.b"}, "name"),
    ({"name": "$a"}, "name"),
    ({"name": "é"}, "name"),
    ({"name": "a\n"}, "name"),
    ({"name": "a" * 64}, "name"),
    ({"name": "x", "colour": 1}, "colour"),
    ({"name": "x", "fields": {}}, "fields"),
    ({"name": "x", "fields": [5]}, "fields.0"),
    ({"name": "x", "fields": [{"id": "a"}]}, "fields.0.type"),
    ({"name": "x", "fields": [{"id": "a", "type": "Blob"}]}, "fields.0.type"),
    ({"name": "x", "fields": [{"type": "Text"}]}, "fields.0.id"),
    ({"name": "x", "fields": [{"id": "_id", "type": "Text"}]}, "fields.0.id"),
    ({"name": "x", "fields": [{"id": "owner", "type": "Text"}]}, "fields.0.id"),
    ({"name": "x", "fields": [{"id": "a.b", "type": "Text"}]}, "fields.0.id"),
    ({"name": "x", "fields": [{"id": "$a", "type": "Text"}]}, "fields.0.id"),
    ({"name": "x", "fields": [{"id": "a", "type": "Text"}, {"id": "a", "type": "Text"}]}, "fields.1.id"),
    ({"name": "x", "fields": [{"id": "a", "type": "Select"}]}, "fields.0.options"),
    ({"name": "x", "fields": [{"id": "a", "type": "Select", "options": [5]}]}, "fields.0.options.0"),
    (
        {
            "name": "x",
            "fields": [{"id": "a", "type": "Radio", "options": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}],
        },
        "fields.0.options.1",
    ),
    ({"name": "x", "fields": [{"id": "a", "type": "Boolean", "unique": True}]}, "fields.0.unique"),
    ({"name": "x", "fields": [{"id": "a", "type": "Number", "search": True}]}, "fields.0.search"),
    ({"name": "x", "fields": [{"id": "a", "type": "Text", "length": 0}]}, "fields.0.length"),
    ({"name": "x", "fields": [{"id": "a", "type": "Text", "required": "yes"}]}, "fields.0.required"),
    ({"name": "x", "fields": [{"id": "a", "type": "Number", "default": "x"}]}, "fields.0.default"),
    ({"name": "x", "fields": [{"id": "a", "type": "Text", "size": 1}]}, "fields.0.size"),
    ({"name": "x", "open": "yes"}, "open"),
    ({"name": "x", "unique": "code"}, "unique"),
    ({"name": "x", "unique": ["$code"]}, "unique.0"),
    ({"name": "x", "unique": ["a..b"]}, "unique.0"),
    ({"name": "x", "indexes": [5]}, "indexes.0"),
    ({"name": "x", "indexes": ["a", "a.0"]}, "indexes.1"),
    ({"name": "x", "search": ["a", "_id"]}, "search.1"),
    ({"name": "x", "fields": [{"id": "a", "type": "Number"}], "search": ["a"]}, "search.0"),
    ({"name": "x", "indexes": [f"f{n}" for n in range(40)]}, "indexes"),
]


@pytest.mark.parametrize(("definition", "name"), BAD, ids=[str(n) for n in range(len(BAD))])
async def test_a_bad_definition_is_refused_by_name(admin: Client, definition: Entity, name: str) -> None:
    """Every error names its place, and no store is created."""
    title = unique("x")
    body = definition | ({"name": title} if definition.get("name") == "x" else {})
    refused(await admin.post("/stores", body), 400, name)
    refused(await admin.get(f"/{title}"), 404)


async def test_only_administrators_define_stores(user: Client, hub: Hub, store: str) -> None:
    """A role with `*` is not enough; it may not even read definitions, unless a scope names their store."""
    definition = await definition_of(hub.admin, store)
    ruler = await hub.as_user(roles=[await hub.role("* /*")])
    reader = await hub.as_user(roles=[await hub.role("GET /stores/*", "POST /stores/*")])
    for caller in (user, ruler, reader):
        refused(await caller.post("/stores", {"name": unique("x")}), 403)
        refused(await caller.patch(f"/stores/{definition['_id']}", {"label": "x"}), 403)
        refused(await caller.delete(f"/stores/{definition['_id']}"), 403)
    for caller in (user, ruler):
        refused(await caller.get("/stores"), 403)
    assert (await reader.get("/stores")).status_code == 200


async def test_a_new_field_is_in_force_at_once(admin: Client, user: Client, hub: Hub) -> None:
    """It applies from the next request on; existing entities stay unchanged."""
    store = await hub.define(fields=[{"id": "name", "type": "Text"}])
    old = await user.make(store, name="a")
    refused(await user.post(f"/{store}", {"floor": 5}), 400, "floor")
    refused(await user.get(f"/{store}?floor=5"), 400)
    id = (await definition_of(admin, store))["_id"]
    fields: list[Entity] = [{"id": "name", "type": "Text"}, {"id": "floor", "type": "Number", "index": True}]
    entity_of(await admin.patch(f"/stores/{id}", {"fields": fields}))
    new = await user.make(store, floor=5)
    assert await user.list(f"{store}?floor=5") == [new]
    assert await user.list(store) == [old, new]


async def test_a_new_unique_field_must_be_unique_already(admin: Client, user: Client, store: str) -> None:
    """It is answered 409 while two entities have the same value, and the definition stays. It succeeds after
    correction."""
    first, _ = await user.make_all(store, [{"ref": "a"}, {"ref": "a"}])
    definition = await definition_of(admin, store)
    refused(await admin.patch(f"/stores/{definition['_id']}", {"unique": ["code", "ref"]}), 409, "ref")
    assert (await definition_of(admin, store))["unique"] == ["code"]
    await user.make(store, ref="a")
    await user.delete(f"/{store}", {"ref": "a"})
    await user.make(store, ref="a")
    entity_of(await admin.patch(f"/stores/{definition['_id']}", {"unique": ["code", "ref"]}))
    refused(await user.post(f"/{store}", {"ref": "a"}), 409, "ref")
    entity_of(await admin.patch(f"/stores/{definition['_id']}", {"unique": ["code"]}))
    assert (await user.make(store, ref="a"))["_id"] != first["_id"]


async def test_a_bad_change_leaves_the_definition(admin: Client, user: Client, store: str) -> None:
    """A store cannot be renamed by a change either."""
    definition = await definition_of(admin, store)
    bad: list[tuple[Any, str]] = [
        ({"fields": [{"id": "a", "type": "Blob"}]}, "fields.0.type"),
        ({"name": unique("x")}, "name"),
        ({"colour": 1}, "colour"),
    ]
    for body, name in bad:
        refused(await admin.patch(f"/stores/{definition['_id']}", body), 400, name)
    assert await definition_of(admin, store) == definition
    assert (await user.make(store, anything=1))["anything"] == 1


async def test_a_store_goes_when_it_is_empty(admin: Client, user: Client, store: str) -> None:
    """Deletion is answered 409 while the store has entities. Afterwards the name can be used for a new, empty store."""
    made = await user.make(store, code="a")
    definition = await definition_of(admin, store)
    refused(await admin.delete(f"/stores/{definition['_id']}"), 409)
    assert await user.see(store, made["_id"]) == made
    await user.delete(f"/{store}/{made['_id']}")
    entity_of(await admin.delete(f"/stores/{definition['_id']}"))
    refused(await user.get(f"/{store}"), 404)
    refused(await user.post(f"/{store}", {}), 404)
    await admin.make("stores", name=store)
    assert await user.list(store) == []
    await user.make_all(store, [{"code": "a"}, {"code": "a"}])


async def test_several_definitions_at_once_are_all_or_none(admin: Client) -> None:
    """If one definition in an array is invalid, no store is created."""
    names = [unique("x") for _ in range(3)]
    refused(await admin.post("/stores", [{"name": names[0]}, {"name": names[1], "open": 5}]), 400, "1.open")
    blob = {"name": names[1], "fields": [{"id": "a", "type": "Blob"}]}
    refused(await admin.post("/stores", [{"name": names[0]}, blob]), 400, "1.fields.0.type")
    refused(await admin.post("/stores", [{"name": names[0]}, {"name": "batch"}]), 400, "1.name")
    refused(await admin.get(f"/{names[0]}"), 404)
    refused(await admin.post("/stores", [{"name": names[2]}, {"name": names[2]}]), 409, "1.name")
    await admin.make("stores", name=names[2])
    refused(await admin.post("/stores", [{"name": names[0]}, {"name": names[2]}]), 409, "1.name")
    entity_of(await admin.delete(f"/stores/{(await definition_of(admin, names[2]))['_id']}"))
    refused(await admin.get(f"/{names[2]}"), 404)
    await admin.make_all("stores", [{"name": names[0]}, {"name": names[1]}])
    assert await admin.list(names[0]) == await admin.list(names[1]) == []


async def test_an_upsert_or_bulk_change_does_not_reach_definitions(admin: Client, store: str) -> None:
    """Entities of system stores are changed one by one."""
    refused(await admin.post("/stores", {"name": store}, {"upsert": "name"}), 400)
    refused(await admin.patch("/stores", {"label": "x"}, {"name": store}), 400)
    refused(await admin.delete("/stores", {"name": store}), 400)
    assert await admin.list(store) == []


async def test_stores_that_come_and_go_at_once_are_known_at_once(hub: Hub, admin: Client) -> None:
    """Each store can be used as soon as its creation is answered, and no longer once its deletion is answered."""

    async def live_and_die() -> list[int]:
        made = await admin.make("stores", {"name": unique("store"), "unique": ["code"]})
        path = f"/{made['name']}"
        first = await admin.post(path, {"code": "a"})
        deleted = await admin.delete(f"{path}/{first.json()['_id']}")
        gone = await admin.delete(f"/stores/{made['_id']}")
        return [first.status_code, deleted.status_code, gone.status_code, (await admin.get(path)).status_code]

    outcomes = await asyncio.gather(*(live_and_die() for _ in range(12)))
    assert outcomes == [[200, 200, 200, 404]] * 12


def test_what_was_read_earlier_does_not_replace_what_was_read_later() -> None:
    """Two refreshes at once, and the first one's read is answered last."""
    assert printed("overlapping_refreshes") == "old new"
