"""Operators over HTTP: PATCH of one entity, bulk PATCH and upserts; what is refused, and what live readers get."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stores.records import SYSTEM_FIELDS, Entity
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, unique


async def test_operators_change_an_entity_in_place(user: Client, store: str) -> None:
    """The answer is the whole entity, the history and the delta have one change."""
    made = await user.make(store, n=5, top=3, tags=["a"], place={"city": "Laval", "zip": "1"}, gone=1)
    path = f"/{store}/{made['_id']}"
    position = (await user.get(f"/{store}")).headers["x-position"]
    body: Entity = {
        "note": "x",
        "$inc": {"n": -2, "count.visits": 1},
        "$min": {"low": 4},
        "$max": {"top": 7},
        "$set": {"place.city": "Lévis"},
        "$unset": ["gone", "place.zip"],
        "$push": {"log": {"$each": [1, 2]}},
        "$addToSet": {"tags": "b"},
        "$pull": {"none": "b"},
    }
    answer = await user.patch(path, body)
    after = {
        "n": 3, "top": 7, "tags": ["a", "b"], "place": {"city": "Lévis"}, "note": "x", "count": {"visits": 1},
        "low": 4, "log": [1, 2],
    }  # fmt: skip
    changed = good(answer)
    assert changed.pop("success") is True
    assert {n: v for n, v in changed.items() if n not in SYSTEM_FIELDS} == after
    assert (changed["_rev"], answer.headers["etag"]) == (2, '"2"')
    assert await user.see(store, made["_id"]) == changed
    [change] = good(await user.get(f"/{store}", {"since": position}))["changes"]
    assert change["op"] == "update"
    history = good(await user.get(path + "/history"))["history"]
    assert len(history) == 2


async def test_a_change_that_alters_nothing_is_not_written(user: Client, store: str) -> None:
    made = await user.make(store, n=5, tags=["a"], code="c")
    body = {"$inc": {"n": 0}, "$addToSet": {"tags": "a"}, "$unset": ["none"], "$min": {"m.n": 1}}
    del body["$min"]
    answer = await user.patch(f"/{store}/{made['_id']}", body)
    assert (good(answer) | {"success": True}, answer.headers["etag"]) == (made | {"success": True}, '"1"')
    assert good(await user.patch(f"/{store}", body, {"n": 5})) == {"success": True, "count": 0}
    assert good(await user.post(f"/{store}", {"code": "c"} | body, {"upsert": "code"}))["_rev"] == 1
    assert good(await user.patch(f"/{store}/{made['_id']}", {"$inc": {}, "$unset": []}))["_rev"] == 1


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_result_that_another_entity_has_is_a_conflict(hub: Hub, user: Client) -> None:
    """As in all other writes: 409 that names the field, and nothing is changed."""
    store = await hub.define(unique=["n", "place.code"])
    first, second = await user.make_all(store, [{"n": 1, "place": {"code": "a"}}, {"n": 2, "place": {"code": "b"}}])
    path = f"/{store}/{first['_id']}"
    text = "Another entity has this value."
    for body, name, key, by in (
        ({"$inc": {"n": 1}}, "n", {"place": {"code": "a"}}, "place.code"),
        ({"$set": {"place.code": "b"}}, "place.code", {"n": 1}, "n"),
    ):
        for answer in (
            await user.patch(path, body),
            await user.patch(f"/{store}", body, {"_id": first["_id"]}),
            await user.post(f"/{store}", key | body, {"upsert": by}),
        ):
            assert refused(answer, 409, name)[name] == [text]
        request = {"method": "PATCH", "path": path, "body": body}
        assert refused(await user.post("/batch", {"requests": [request]}), 409) == {f"requests.0.{name}": [text]}
    assert await user.list(store) == [first, second]


async def test_conditions_apply(user: Client, store: str) -> None:
    made = await user.make(store, n="text")
    path = f"/{store}/{made['_id']}"
    refused(await user.patch(path, {"$inc": {"n": 1}}, if_match='"7"'), 412)
    refused(await user.patch(path, {"$inc": {"n": 1}}, if_match='"1"'), 400, "n")
    assert good(await user.patch(path, {"$set": {"n": 1}}, if_match='"1"'))["n"] == 1


REFUSED: list[tuple[Entity, str]] = [
    ({"$rename": {"a": "b"}}, "$rename"),
    ({"$inc": 5}, "$inc"),
    ({"$inc": {"floor": "1"}}, "floor"),
    ({"$inc": {"floor": 2**63 - 1}}, "floor"),
    ({"$inc": {"floor": 0.5}}, "floor"),
    ({"$inc": {"price": 999_999_999_999}}, "price"),
    ({"$inc": {"price": 0.0001}}, "price"),
    ({"$inc": {"name": 1}}, "name"),
    ({"$min": {"name": 1}}, "name"),
    ({"$max": {"floor": "z"}}, "floor"),
    ({"$max": {"sold": True}}, "sold"),
    ({"$unset": ["name"]}, "name"),
    ({"$unset": {"name": ""}}, "$unset"),
    ({"$set": {"wings": 1}}, "wings"),
    ({"$set": {"floor": "x"}}, "floor"),
    ({"$push": {"code": 1}}, "code"),
    ({"$push": {"extra": {"$each": 1}}}, "extra"),
    ({"$push": {"extra.list": 1}}, "extra.list"),
    ({"$set": {"extra.0.a": 1}}, "extra.0.a"),
    ({"floor": 1, "$inc": {"floor": 1}}, "floor"),
    ({"extra": {}, "$set": {"extra.a": 1}}, "extra.a"),
    ({"$set": {"extra.a": 1}, "$inc": {"extra.a.b": 1}}, "extra.a.b"),
    ({"$inc": {"secret": 1}}, "secret"),
    ({"$set": {"extra": {"$x": 1}}}, "extra.$x"),
    ({"$set": {"_mine": 1}}, "_mine"),
    *(({"$set": {name: 1}}, name) for name in SYSTEM_FIELDS),
    ({"$set": {"success": True}}, "success"),
    ({"$inc": {f"extra.a{n}": 1 for n in range(1_001)}}, "$inc"),
    ({"$set": {"extra" + ".a" * 40: 1}}, "extra" + ".a" * 31),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
async def test_refusals_name_the_fault_and_change_nothing(user: Client, typed: str, body: Entity, field: str) -> None:
    """The same for one entity, a bulk change and an upsert."""
    made = await user.make(typed, name="a", code="c", floor=5, price=1, extra=[1])
    refused(await user.patch(f"/{typed}/{made['_id']}", body), 400, field)
    refused(await user.patch(f"/{typed}", body, {"code": "c"}), 400, field)
    refused(await user.post(f"/{typed}", body | {"code": "c"}, {"upsert": "code"}), 400, field)
    sent = [{"code": "c", "$inc": {"floor": 1}}, body | {"code": "c"}]
    refused(await user.post(f"/{typed}", sent, {"upsert": "code"}), 400, f"1.{field}")
    assert await user.see(typed, made["_id"]) == made


async def test_other_bodies_take_no_operators(user: Client, store: str) -> None:
    made = await user.make(store, n=1)
    refused(await user.post(f"/{store}", {"$inc": {"n": 1}}), 400, "$inc")
    refused(await user.post(f"/{store}", [{"n": 1}, {"$set": {"n": 1}}]), 400, "1.$set")
    refused(await user.put(f"/{store}/{made['_id']}", {"$inc": {"n": 1}}), 400, "$inc")


async def test_numeric_fields_stay_exact(user: Client, typed: str) -> None:
    """Ten cents, a hundred times, are ten; so in a bulk change."""
    made = await user.make(typed, name="a", price=0.1)
    path = f"/{typed}/{made['_id']}"
    for amount in (0.1, "0.1", "0.10"):
        answer = good(await user.patch(path, {"$inc": {"price": amount}}))
    assert answer["price"] == 0.4
    for _ in range(3):
        good(await user.patch(f"/{typed}", {"$inc": {"price": 0.2}}, {"name": "a"}))
    assert (await user.see(typed, made["_id"]))["price"] == 1
    assert '"price":1,' in (await user.get(path)).text


async def test_one_misfit_refuses_a_bulk_change(user: Client, typed: str) -> None:
    """The error names the field, and no match is changed."""
    await user.make_all(typed, [{"name": "a", "floor": n} for n in (1, 2, 2**63 - 1)])
    before = await user.list(typed)
    refused(await user.patch(f"/{typed}", {"notes": "x", "$inc": {"floor": 1}}, {"all": "true"}), 400, "floor")
    assert await user.list(typed) == before
    answer = await user.patch(f"/{typed}", {"notes": "x", "$inc": {"floor": -1}}, {"all": "true"})
    assert good(answer) == {"success": True, "count": 3}
    assert [e["floor"] for e in await user.list(typed)] == [0, 1, 2**63 - 2]


async def test_upserts_apply_operators_to_what_exists(user: Client, typed: str) -> None:
    """A new entity gets the plain fields only, so required fields must be among them."""
    sent = {"code": "c", "name": "a", "$inc": {"floor": 2}}
    assert "floor" not in good(await user.post(f"/{typed}", sent, {"upsert": "code"}))
    assert good(await user.post(f"/{typed}", sent, {"upsert": "code"}))["floor"] == 2
    answer = good(await user.post(f"/{typed}", [sent, sent], {"upsert": "code"}))
    assert [e["floor"] for e in answer["entities"]] == [4, 6]
    refused(await user.post(f"/{typed}", {"code": "d", "$set": {"name": "x"}}, {"upsert": "code"}), 400, "name")


async def test_a_hidden_field_is_set_and_unset_without_a_trace(user: Client, typed: str) -> None:
    """Such a change is always written, so that nobody can find out the value by guessing."""
    made = await user.make(typed, name="a", secret="4711")
    path = f"/{typed}/{made['_id']}"
    for rev, body in enumerate(({"$set": {"secret": "4711"}}, {"$unset": ["secret"]}, {"$unset": ["secret"]}), 2):
        answer = good(await user.patch(path, body))
        assert answer["_rev"] == rev
        assert "secret" not in answer
    for operator in ("$inc", "$min", "$max", "$push", "$pull", "$addToSet"):
        refused(await user.patch(path, {operator: {"secret": "4711"}}), 400, "secret")


async def test_scopes_come_before_bodies(hub: Hub, user: Client, typed: str) -> None:
    """Nothing of a body is judged for a caller who may not change the store."""
    made = await user.make(typed, name="a", code="c")
    narrow = await hub.with_token(user.user, scopes=[f"PATCH /{typed}/*"])
    assert refused(await narrow.post(f"/{typed}", {"$x": 1}, {"upsert": "code"}), 403) == {}
    elsewhere = await hub.with_token(user.user, scopes=["GET /elsewhere/*"])
    assert refused(await elsewhere.patch(f"/{typed}/{made['_id']}", {"$x": 1}), 403) == {}
    writer = await hub.with_token(user.user, scopes=[f"PATCH /{typed}/*"])
    answer = good(await writer.patch(f"/{typed}/{made['_id']}", {"$max": {"name": "A"}}))
    assert answer == {"success": True, "_id": made["_id"], "_rev": 2}


async def test_an_entity_out_of_sight_is_not_found(user: Client, other: Client, store: str) -> None:
    made = await user.make(store, n=1)
    refused(await other.patch(f"/{store}/{made['_id']}", {"$inc": {"n": 1}}), 404)
    refused(await other.patch(f"/{store}/{made['_id']}", {"$inc": {"n": "x"}}), 400)
    assert (await user.see(store, made["_id"]))["n"] == 1


async def test_system_stores_take_operators_by_the_rules_of_their_fields(hub: Hub, admin: Client) -> None:
    """Their results are judged like values that were sent."""
    role = await hub.role("GET /notes/*")
    member = await hub.as_user()
    path = f"/users/{member.id}"
    assert good(await admin.patch(path, {"$addToSet": {"roles": role}}))["roles"] == [role]
    refused(await admin.patch(path, {"$push": {"roles": "f" * 24}}), 400, "roles")
    refused(await member.patch(path, {"$pull": {"roles": role}}), 403, "roles")
    refused(await admin.patch(path, {"$unset": ["login"]}), 400, "login")
    assert good(await admin.patch(path, {"$pull": {"roles": role}}))["roles"] == []
    store = await definition_of(admin, await hub.define(fields=[{"id": "a", "type": "Text"}]))
    changed = good(await admin.patch(store, {"$push": {"fields": {"id": "b", "type": "Number"}}}))
    assert [field["id"] for field in changed["fields"]] == ["a", "b"]


async def test_operators_take_what_a_plain_change_of_a_definition_takes(hub: Hub, admin: Client) -> None:
    """The condition of an index has operators and dotted paths as names, like a filter."""
    place = {"id": "place", "type": "Object", "fields": [{"id": "city", "type": "Text"}]}
    fields = [{"id": "number", "type": "Number"}, {"id": "state", "type": "Text"}, place]
    store = await definition_of(admin, await hub.define(fields=fields))
    first = {"fields": ["number"], "unique": True, "where": {"state": {"$in": ["open"]}}}
    second = {"fields": ["state"], "unique": True, "where": {"place.city": "Laval"}}
    assert good(await admin.patch(store, {"$push": {"indexes": first}}))["indexes"] == [first]
    assert good(await admin.patch(store, {"$set": {"indexes": [second]}}))["indexes"] == [second]
    assert good(await admin.patch(store, {"$addToSet": {"indexes": first}}))["indexes"] == [second, first]
    assert good(await admin.patch(store, {"$pull": {"indexes": second}}))["indexes"] == [first]
    for wrong, place_of in (({"$x": 1}, "$x"), ({"state": {"$ne": 1}}, "state")):
        errors = refused(await admin.patch(store, {"$push": {"indexes": {**first, "where": wrong}}}), 400)
        assert place_of in next(iter(errors))


@pytest.mark.gate("sqlite", "mongodb")
async def test_pull_removes_what_equals_its_value(hub: Hub, user: Client) -> None:
    """In the form in which it is stored; a member that it lacks is missing, and has no default."""
    members: list[Entity] = [{"id": "product", "type": "Email"}, {"id": "n", "type": "Number"}]
    lines = {"id": "lines", "type": "Object", "many": True, "fields": members}
    name = await hub.define(fields=[lines])
    both = [{"product": "p@example.com"}, {"product": "p@example.com", "n": 1}]
    made = await user.make(name, lines=both)
    members[1]["default"] = 1
    good(await hub.admin.patch(await definition_of(hub.admin, name), {"fields": [lines]}))
    path = f"/{name}/{made['_id']}"
    assert good(await user.patch(path, {"$pull": {"lines": {"product": "P@Example.com"}}}))["lines"] == both[1:]
    assert good(await user.patch(path, {"$addToSet": {"lines": {"product": "P@Example.com"}}}))["lines"] == both[1:]
    assert good(await user.patch(path, {"$push": {"lines": {"product": "P@Example.com"}}}))["lines"] == both[1:] * 2
    assert good(await user.patch(path, {"$pull": {"lines": {"product": "p@example.com", "n": 1.0}}}))["lines"] == []


async def test_concurrent_increments_are_exact(user: Client, other: Client, hub: Hub) -> None:
    """Many clients, through plain changes, none refused."""
    store = await hub.define(fields=[{"id": "stock", "type": "Number"}, {"id": "note", "type": "Text"}])
    made = await user.make(store, stock=0)
    path = f"/{store}/{made['_id']}"

    async def client(n: int) -> None:
        for _ in range(5):
            good(await user.patch(path, {"$inc": {"stock": 1}}))
        good(await user.patch(path, {"note": f"{n}"}))

    await asyncio.gather(*(client(n) for n in range(20)))
    assert (await user.see(store, made["_id"]))["stock"] == 100


async def test_lists_grow_up_to_the_bounds_of_an_entity(user: Client, store: str) -> None:
    """Values are counted in the result, not in the body."""
    made = await user.make(store, l=[0] * 60_000)
    path = f"/{store}/{made['_id']}"
    refused(await user.patch(path, {"$push": {"l": {"$each": [0] * 60_000}}}), 400, "entity")
    answer = await user.patch(path, {"$push": {"l": {"$each": [0] * 30_000}}})
    assert len(good(answer)["l"]) == 90_000


async def test_the_document_describes_operators(admin: Client, hub: Hub) -> None:
    name = unique("described")
    good(await admin.post("/stores", {"name": name, "fields": [{"id": "stock", "type": "Number"}]}))
    schemas: dict[str, Any] = good(await admin.get("/openapi.json"))["components"]["schemas"]
    for kind in ("changes", "bulk"):
        assert schemas[f"{name}.{kind}"]["properties"]["$inc"] == {"$ref": "#/components/schemas/Increments"}
    assert "$inc" not in schemas[f"{name}.new"]["properties"]
    assert "$inc" not in schemas[f"{name}.replacement"]["properties"]
