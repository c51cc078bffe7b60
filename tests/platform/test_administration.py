"""Users, groups and roles: permissions to change them, and passwords, which are never shown."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.support.hub import ADMIN_LOGIN, Client, Hub, entity_of, unique

PASSWORD = "open sesame 1"


async def admin_role(admin: Client) -> Entity:
    [role] = await admin.list("roles", {"name": "admin"})
    return role


async def test_the_system_stores_are_always_there(admin: Client) -> None:
    """Users, groups, roles, tokens, sessions and stores can be read like any store, and have the same system fields."""
    for store in ("users", "groups", "roles", "tokens", "sessions", "stores"):
        listed = await admin.list(store)
        assert good(await admin.get(f"/{store}?meta=true"))["count"] == len(listed)
        for entity in listed[:2]:
            assert entity.keys() >= {"_id", "owner", "group", "access", "branch", "time", "_at", "_rev"}
            assert await admin.see(store, entity["_id"]) == entity
    assert [u["login"] for u in await admin.list("users", {"limit": "1"})] == [ADMIN_LOGIN]
    assert (await admin_role(admin))["scopes"] == ["* /*"]


async def test_a_name_in_place_of_an_id_is_told_apart(admin: Client) -> None:
    for field, value in (("roles", ["admin"]), ("group", "staff")):
        errors = refused(await admin.post("/users", {"login": unique("user"), field: value}), 400, field)
        assert "with the id" in errors[field][0]


async def test_what_only_the_hub_writes_is_told_with_the_reason(admin: Client, user: Client) -> None:
    """An answer without `errors` would be that to a missing right."""
    for store in ("sessions", "second_factors", "signins"):
        refused(await admin.post(f"/{store}", {}), 403, "body")
    [signin] = (await admin.list("signins", {"limit": "1"}))[:1]
    refused(await admin.delete(f"/signins/{signin['_id']}"), 403, "_id")
    refused(await admin.put(f"/signins/{signin['_id']}/access", {"access": []}), 403, "access")
    refused(await user.post("/tokens", {"name": "x", "user": admin.id}), 403, "user")


async def test_a_password_never_comes_out(hub: Hub, admin: Client) -> None:
    """No answer, list, delta or history contains it, hashed or not, or names its field."""
    start = (await admin.get("/users?limit=0")).headers["x-position"]
    body = {"login": unique("user"), "name": "A", "password": PASSWORD}
    made = await admin.post("/users", body)
    id = entity_of(made)["_id"]
    client = hub.client(await hub.token_of(body["login"], PASSWORD))
    answers = [
        made,
        await admin.patch(f"/users/{id}", {"password": "second sesame 2"}),
        await admin.put(f"/users/{id}", {"login": body["login"], "password": "third sesame 3"}),
        await admin.get(f"/users/{id}"),
        await admin.get("/users"),
        await admin.get(f"/users?login={body['login']}&meta=true"),
        await admin.get(f"/users?since={start}"),
        await admin.get(f"/users/{id}/history"),
        await admin.post("/users", [{"login": unique("user"), "password": PASSWORD}]),
    ]
    refused(await client.get("/auth"), 401)
    owner = hub.client(await hub.token_of(body["login"], "third sesame 3"))
    answers += [
        await owner.get(f"/users/{id}"),
        await owner.get("/users"),
        await owner.get("/auth"),
        await owner.get(f"/users/{id}/history"),
        await owner.patch(f"/users/{id}", {"password": "fourth sesame 4", "current_password": "third sesame 3"}),
        await admin.delete(f"/users/{id}"),
        await admin.get(f"/users/{id}/history"),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        for secret in ("sesame", "argon2", "password"):
            assert secret not in answer.text


@pytest.mark.parametrize(
    "params",
    [
        {"password": "x"},
        {"password[exists]": "true"},
        {"password[startswith]": "$argon2"},
        {"filter": '{"password":{"$gt":""}}'},
        {"filter": '{"$or":[{"login":"admin"},{"password":null}]}'},
        {"filter": '{"$nor":[{"password":{"$contains":"a"}}]}'},
        {"filter": '{"$and":[{"password":{"$elemMatch":{"$gt":""}}}]}'},
        {"sort": "password"},
        {"sort": "login,-password"},
        {"only": "password"},
        {"only": "login,password"},
    ],
)
async def test_a_password_cannot_be_asked_about(admin: Client, params: dict[str, str]) -> None:
    """A filter, a sort or `only` with it is answered 400 with the field, for lists, meta and deltas."""
    start = (await admin.get("/users?limit=0")).headers["x-position"]
    for more in ({}, {"meta": "true"}, {"since": start}):
        errors = refused(await admin.get("/users", params | more), 400)
        assert "password" in str(errors) or "sort" in errors
    refused(await admin.get("/tokens?digest[exists]=true"), 400)
    refused(await admin.get("/sessions?sort=digest"), 400)


async def test_a_password_has_a_shortest(hub: Hub, admin: Client) -> None:
    """Shorter passwords and values that are not text are refused."""
    user = await hub.as_user(password=PASSWORD)
    session = await hub.as_session(user.user["login"], PASSWORD)
    for password in ("", "short", "1234567", 12345678, ["x" * 10]):
        refused(await admin.post("/users", {"login": unique("user"), "password": password}), 400, "password")
        changes = {"password": password, "current_password": PASSWORD}
        refused(await session.patch(f"/users/{user.id}", changes), 400, "password")


async def test_a_user_changes_itself(hub: Hub) -> None:
    """A user may change its name, e-mail address and password; unchanged fields in the body are accepted."""
    user = await hub.as_user(group=await hub.group(), password=PASSWORD)
    session = await hub.as_session(user.user["login"], PASSWORD)
    path = f"/users/{user.id}"
    changes = {"name": "New", "email": "new@example.com", "current_password": PASSWORD}
    changed = entity_of(await session.patch(path, changes))
    assert (changed["name"], changed["email"], changed["_rev"]) == ("New", "new@example.com", 2)
    whole = (await user.get(path)).json() | {"name": "Newer"}
    assert entity_of(await user.patch(path, whole))["name"] == "Newer"


async def test_a_user_changes_nothing_else_of_itself(hub: Hub, admin: Client) -> None:
    """A change of its roles, login, group or `disabled` is answered 403, and nothing is written."""
    user = await hub.as_user()
    path = f"/users/{user.id}"
    before = await user.see("users", user.id)
    role = (await admin_role(admin))["_id"]
    group = await hub.group()
    for field, body in (
        ("roles", {"roles": [role]}),
        ("roles", {"name": "x", "roles": [role]}),
        ("login", {"login": unique("user")}),
        ("disabled", {"disabled": True}),
        ("group", {"group": group}),
        ("group", {"login": before["login"], "group": group}),
    ):
        refused(await user.patch(path, body), 403, field)
    refused(await user.put(path, {"login": "x", "roles": [role]}), 403)
    refused(await user.delete(path), 403)
    refused(await user.put(path + "/access", {"access": []}), 403)
    assert await user.see("users", user.id) == before
    assert good(await user.get("/auth"))["admin"] is False


async def test_a_user_sees_and_touches_no_other(hub: Hub, admin: Client) -> None:
    """This includes users of its own group."""
    group = await hub.group()
    user, mate = await hub.as_user(group=group), await hub.as_user(group=group)
    assert [u["_id"] for u in await user.list("users")] == [user.id]
    assert good(await user.get("/users?meta=true"))["count"] == 1
    assert await user.list("users", {"search": "Somebody", "filter": '{"_id":{"$ne":"' + user.id + '"}}'}) == []
    for id in (mate.id, admin.id):
        refused(await user.get(f"/users/{id}"), 404)
        refused(await user.get(f"/users/{id}/history"), 404)
        refused(await user.patch(f"/users/{id}", {"name": "x"}), 404)
    refused(await user.post("/users", {"login": unique("user")}), 403)
    refused(await user.patch("/users", {"name": "x"}, {"name": "Somebody"}), 400)
    refused(await user.delete("/users", {"name": "Somebody"}), 403)


async def test_a_login_is_taken_once(admin: Client, user: Client) -> None:
    """A duplicate login is answered 409 with the field; a login is required."""
    refused(await admin.post("/users", {"login": user.user["login"]}), 409, "login")
    refused(await admin.patch(f"/users/{user.id}", {"login": ADMIN_LOGIN}), 409, "login")
    refused(await admin.post("/users", {"name": "x"}), 400, "login")
    refused(await admin.post("/users", {"login": unique("user"), "colour": 1}), 400, "colour")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("group", "x"),
        ("group", 5),
        ("group", "5f00000000000000000000a1"),
        ("roles", "admin"),
        ("roles", ["admin"]),
        ("roles", ["5f00000000000000000000a1"]),
        ("roles", [None]),
    ],
)
async def test_a_user_is_in_groups_and_roles_that_exist(admin: Client, user: Client, field: str, value: Any) -> None:
    """Unknown groups and roles are refused with the field, on creation and change."""
    refused(await admin.post("/users", {"login": unique("user"), field: value}), 400, field)
    refused(await admin.patch(f"/users/{user.id}", {field: value}), 400, field)


async def test_the_role_that_is_not_there_is_named_among_many(admin: Client) -> None:
    bodies = [{"name": unique("role"), "scopes": ["GET /*"]} for _ in range(99)]
    roles = [role["_id"] for role in good(await admin.post("/roles", bodies))["entities"]]
    made = entity_of(await admin.post("/users", {"login": unique("user"), "roles": roles}))
    assert made["roles"] == roles
    missing = "5f00000000000000000000a1"
    answer = await admin.patch(f"/users/{made['_id']}", {"roles": [*roles, missing]})
    refused(answer, 400, "roles")
    assert missing in answer.json()["errors"]["roles"][0]
    refused(await admin.patch(f"/users/{made['_id']}", {"roles": [*roles, roles[0], roles[1]]}), 400, "roles")
    assert entity_of(await admin.patch(f"/users/{made['_id']}", {"roles": [roles[5], roles[5]]}))["roles"] == [roles[5]]


async def test_an_administrator_is_made_by_its_role(hub: Hub, admin: Client, store: str) -> None:
    """With the role the user sees everything from the next request on; without it no longer."""
    role = (await admin_role(admin))["_id"]
    made = await admin.make(store)
    user = await hub.as_user()
    refused(await user.get("/roles"), 403)
    entity_of(await admin.patch(f"/users/{user.id}", {"roles": [role]}))
    assert await user.list(store) == [made]
    assert (await user.get("/roles")).status_code == 200
    entity_of(await user.patch(f"/users/{user.id}", {"roles": []}))
    assert await user.list(store) == []
    refused(await user.get("/roles"), 403)


async def test_the_last_administrator_cannot_go(hub: Hub, admin: Client) -> None:
    """Deleting or disabling it, or taking its role, is answered 409, unless there is another administrator."""
    path = f"/users/{admin.id}"
    before = await admin.see("users", admin.id)
    refused(await admin.delete(path), 409)
    refused(await admin.patch(path, {"disabled": True}), 409)
    for roles in ([], None, [await hub.role("* /*")]):
        refused(await admin.patch(path, {"roles": roles}), 409)
    refused(await admin.put(path, {"login": ADMIN_LOGIN}), 409)
    assert await admin.see("users", admin.id) == before
    role = (await admin_role(admin))["_id"]
    second = await hub.as_user(roles=[role], disabled=True)
    refused(await admin.delete(path), 409)
    entity_of(await admin.patch(f"/users/{second.id}", {"disabled": False}))
    entity_of(await second.delete(f"/users/{second.id}"))


async def test_the_admin_role_stays_as_it_is(hub: Hub, admin: Client) -> None:
    """It can be neither changed nor deleted. A role that a user has cannot be deleted either."""
    path = f"/roles/{(await admin_role(admin))['_id']}"
    refused(await admin.patch(path, {"scopes": []}), 409)
    refused(await admin.patch(path, {"name": "boss"}), 409)
    refused(await admin.delete(path), 409)
    role = await hub.role("GET /*")
    user = await hub.as_user(roles=[role])
    refused(await admin.delete(f"/roles/{role}"), 409)
    entity_of(await admin.patch(f"/users/{user.id}", {"roles": []}))
    entity_of(await admin.delete(f"/roles/{role}"))
    refused(await admin.post("/roles", {"name": "admin", "scopes": []}), 409, "name")
    refused(await admin.post("/roles", {"name": unique("role")}), 400, "scopes")
    refused(await admin.patch(f"/roles/{await hub.role('GET /*')}", {"name": "admin"}), 409, "name")


async def test_system_stores_have_conditions_and_history_too(hub: Hub, admin: Client) -> None:
    """ETag, If-Match, 304 and the history work as in other stores."""
    group = await hub.group()
    path = f"/groups/{group}"
    answer = await admin.get(path)
    assert answer.headers["etag"] == '"1"'
    assert (await admin.get(path, if_none_match='"1"')).status_code == 304
    refused(await admin.patch(path, {"name": "x"}, if_match='"2"'), 412)
    assert entity_of(await admin.patch(path, {"name": "x"}, if_match='"1"'))["_rev"] == 2
    replaced = entity_of(await admin.put(path, {"name": "y"}))
    assert (replaced["name"], replaced["parent"]) == ("y", None)
    entries = good(await admin.get(path + "/history"))["history"]
    assert [e["changes"]["name"]["new"] for e in entries] == [answer.json()["name"], "x", "y"]
    assert entity_of(await admin.delete(path, if_match='"3"'))["_id"] == group
    refused(await admin.get(path), 404)


async def test_system_entities_are_changed_one_by_one(admin: Client) -> None:
    """Bulk changes and upserts are answered 400."""
    for store in ("users", "groups", "roles", "tokens", "sessions", "stores"):
        refused(await admin.patch(f"/{store}", {"name": "x"}, {"_rev[gt]": "999"}), 400)
        refused(await admin.delete(f"/{store}", {"_rev[gt]": "999"}), 400)
        refused(await admin.post(f"/{store}", {"name": "x"}, {"upsert": "name"}), 400)


async def test_an_idempotency_key_works_on_users_but_not_on_tokens(admin: Client) -> None:
    """A token's secret is not stored, so the answer that shows it cannot be repeated."""
    key, body = unique("key"), {"login": unique("user"), "name": "A"}
    first = await admin.post("/users", body, idempotency_key=key)
    second = await admin.post("/users", body, idempotency_key=key)
    assert entity_of(first) == entity_of(second)
    refused(await admin.post("/tokens", {"name": "x"}, idempotency_key=key), 400, "Idempotency-Key")


async def test_an_unknown_system_id_is_404(admin: Client) -> None:
    """This holds in every system store and for every method."""
    for store in ("users", "groups", "roles", "tokens", "sessions", "stores"):
        for id in (new_id(), "x"):
            refused(await admin.get(f"/{store}/{id}"), 404)
            refused(await admin.delete(f"/{store}/{id}"), 404)
