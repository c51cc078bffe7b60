"""Permissions of a principal: its visibility, and the scopes of its roles and its token."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import new_id
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of

NEEDS = {
    **{call: {"GET"} for call in ("list", "get", "head", "history", "meta", "since")},
    "create": {"POST"},
    "upsert": {"POST", "PATCH"},
    "share": {"PUT"},
    "change": {"PATCH"},
    "change all": {"PATCH"},
    "replace": {"PUT"},
    "delete": {"DELETE"},
    "delete all": {"DELETE"},
}
"""The methods that a scope must allow for each kind of call."""


async def statuses(caller: Client, owner: Client, store: str) -> dict[str, int]:
    """Return the status of each kind of call on the store, which has an entity that the caller sees."""
    made = await owner.make(store, {"tag": "x"})
    path = f"/{store}/{made['_id']}"
    await owner.put(path + "/access", {"access": [caller.id]})
    position = (await caller.get(f"/{store}?limit=0")).headers.get("x-position", "none")
    requests: dict[str, tuple[str, str, Any]] = {
        "list": ("GET", f"/{store}", None),
        "get": ("GET", path, None),
        "head": ("HEAD", path, None),
        "history": ("GET", path + "/history", None),
        "meta": ("GET", f"/{store}?meta=true", None),
        "since": ("GET", f"/{store}?since={position}", None),
        "create": ("POST", f"/{store}", {"n": 1}),
        "upsert": ("POST", f"/{store}?upsert=code", {"code": "a"}),
        "share": ("PUT", path + "/access", {"access": []}),
        "change": ("PATCH", path, {"n": 2}),
        "change all": ("PATCH", f"/{store}?tag=x", {"m": 1}),
        "replace": ("PUT", path, {"n": 3}),
        "delete": ("DELETE", path, None),
        "delete all": ("DELETE", f"/{store}?tag=x", None),
    }
    return {
        call: (await caller.request(method, target, json=body)).status_code
        for call, (method, target, body) in requests.items()
    }


SCOPES: list[tuple[str, list[str], set[str]]] = [
    ("one method", ["GET /{store}/*"], {"GET"}),
    ("without a slash", ["GET {store}"], {"GET"}),
    ("without a star", ["POST /{store}"], {"POST"}),
    ("two", ["PATCH /{store}/*", "DELETE /{store}/*"], {"PATCH", "DELETE"}),
    ("every method", ["* /{store}/*"], {"GET", "POST", "PATCH", "PUT", "DELETE"}),
    ("every store", ["GET /*"], {"GET"}),
    ("everything", ["* /*"], {"GET", "POST", "PATCH", "PUT", "DELETE"}),
    ("another store", ["* /elsewhere/*"], set()),
    ("nothing", [], set()),
]


@pytest.mark.parametrize("by", ["role", "token"])
@pytest.mark.parametrize(("scopes", "methods"), [s[1:] for s in SCOPES], ids=[s[0] for s in SCOPES])
async def test_scopes_allow_methods_on_stores(
    hub: Hub, admin: Client, store: str, by: str, scopes: list[str], methods: set[str]
) -> None:
    """Calls within the scopes succeed, others are answered 403, whether the scopes are a role's or a token's."""
    texts = [text.replace("{store}", store) for text in scopes]
    if by == "role":
        caller = await hub.as_user(roles=[await hub.role(*texts)])
    else:
        free = await hub.as_user()
        caller = await hub.with_token(free.user, scopes=texts)
    for call, status in (await statuses(caller, admin, store)).items():
        # The caller is not the owner, so it may not share the entity even if it may PUT.
        allowed = 403 if call == "share" else 200
        assert status == (allowed if NEEDS[call] <= methods else 403), call


@pytest.mark.gate("sqlite", "mongodb")
async def test_outside_scopes_comes_before_invisible(hub: Hub, admin: Client, store: str) -> None:
    """Outside the scopes the answer is 403, whether the entity exists or not; within them 404 if it is not visible."""
    made = await admin.make(store)
    reader = await hub.as_user(roles=[await hub.role(f"GET /{store}/*")])
    for id in (made["_id"], new_id(), "x"):
        refused(await reader.patch(f"/{store}/{id}", {}), 403)
        refused(await reader.delete(f"/{store}/{id}"), 403)
        refused(await reader.get(f"/{store}/{id}"), 404)
    refused(await reader.get("/no-such-store"), 404)


async def test_roles_add_up(hub: Hub, store: str) -> None:
    """Several roles allow what any of them allows."""
    caller = await hub.as_user(roles=[await hub.role(f"GET /{store}/*"), await hub.role(f"POST /{store}/*")])
    made = await caller.make(store)
    assert await caller.list(store) == [made]
    refused(await caller.delete(f"/{store}/{made['_id']}"), 403)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_user_without_a_role_uses_every_open_store(user: Client, admin: Client, store: str) -> None:
    """Of the system stores the user sees only its own user, tokens and sessions."""
    for call, status in (await statuses(user, admin, store)).items():
        assert status == (403 if call == "share" else 200), call
    for system in ("groups", "roles", "stores"):
        refused(await user.get(f"/{system}"), 403)
        refused(await user.get(f"/{system}/{new_id()}"), 403)
        refused(await user.post(f"/{system}", {"name": "x"}), 403)
    assert [e["_id"] for e in await user.list("users")] == [user.id]


async def test_a_token_never_widens_its_user(hub: Hub, admin: Client, store: str) -> None:
    """Its rights are the intersection of its scopes and the roles' scopes, and it sees only what its user sees."""
    made = await admin.make(store)
    role = await hub.role(f"GET /{store}/*")
    caller = await hub.as_user(roles=[role])
    wide = await hub.with_token(caller.user, scopes=["* /*"])
    refused(await wide.post(f"/{store}", {}), 403)
    assert await wide.list(store) == []
    refused(await wide.get(f"/{store}/{made['_id']}"), 404)
    refused(await wide.get("/users?filter={}&login=admin&meta=true&limit=1"), 403)
    narrow = await hub.with_token(caller.user, scopes=[f"POST /{store}/*"])
    refused(await narrow.post(f"/{store}", {}), 403)
    refused(await narrow.get(f"/{store}"), 403)


async def test_a_tokens_star_does_not_reach_administration(hub: Hub, user: Client) -> None:
    """A token with scopes of an ordinary user reaches a system store only if a scope names the store."""
    starred = await hub.with_token(user.user, scopes=["* /*"])
    refused(await starred.post("/tokens", {"name": "x"}), 403)
    refused(await starred.get("/users"), 403)
    named = await hub.with_token(user.user, scopes=["GET /tokens/*"])
    assert (await named.get("/tokens")).status_code == 200
    refused(await named.post("/tokens", {"name": "x"}), 403)


async def test_a_token_cannot_make_a_wider_one(hub: Hub, user: Client, store: str) -> None:
    """Tokens that a restricted token creates or changes, including itself, allow no more than it does."""
    scopes = ["POST /tokens/*", "PATCH /tokens/*", f"GET /{store}/*"]
    made = await hub.admin.make("tokens", {"name": "narrow", "user": user.id, "scopes": scopes})
    narrow = hub.client(made["token"])
    wide = good(await narrow.post("/tokens", {"name": "wide"}))
    refused(await hub.client(wide["token"]).post(f"/{store}", {}), 403)
    good(await narrow.patch(f"/tokens/{made['_id']}", {"scopes": None}))
    refused(await narrow.post(f"/{store}", {}), 403)
    refused(await narrow.post("/tokens", {"name": "wide", "scopes": ["* /*"]}), 403, "scopes")


async def test_an_administrators_token_is_narrowed_too(hub: Hub, admin: Client, store: str) -> None:
    """It sees all entities, and may do only what its scopes allow."""
    made = await (await hub.as_user()).make(store)
    reader = await hub.with_token(admin.user, scopes=["GET /*"])
    assert await reader.list(store) == [made]
    assert (await reader.get("/users")).status_code == 200
    refused(await reader.post("/groups", {"name": "x"}), 403)
    refused(await reader.delete(f"/{store}/{made['_id']}"), 403)


async def test_changed_scopes_are_in_force_at_once(hub: Hub, admin: Client, store: str) -> None:
    """Changes of a role's scopes, a user's roles and a token's scopes apply to the next request."""
    role = await hub.role(f"GET /{store}/*")
    caller = await hub.as_user(roles=[role])
    refused(await caller.post(f"/{store}", {}), 403)
    entity_of(await admin.patch(f"/roles/{role}", {"scopes": [f"POST /{store}/*"]}))
    await caller.make(store)
    refused(await caller.get(f"/{store}"), 403)
    entity_of(await admin.patch(f"/users/{caller.id}", {"roles": []}))
    assert len(await caller.list(store)) == 1
    token = await admin.make("tokens", {"name": "x", "user": caller.id})
    client = hub.client(token["token"])
    assert len(await client.list(store)) == 1
    entity_of(await admin.patch(f"/tokens/{token['_id']}", {"scopes": []}))
    refused(await client.get(f"/{store}"), 403)


BAD_SCOPES = ["GET", "/units/*", "get /units/*", "FETCH /units/*", "GET /units/5", "GET /un its", "GET /../*", "", 5,
              None, "GET  //units"]  # fmt: skip


@pytest.mark.parametrize("scope", BAD_SCOPES)
async def test_a_bad_scope_is_refused(admin: Client, scope: Any) -> None:
    """In a role and in a token it is answered 400 with the field."""
    refused(await admin.post("/roles", {"name": "bad", "scopes": [scope]}), 400, "scopes")
    refused(await admin.post("/tokens", {"name": "bad", "scopes": [scope]}), 400, "scopes")
    refused(await admin.post("/roles", {"name": "bad", "scopes": "GET /units/*"}), 400, "scopes")


async def test_who_am_i_tells_the_scopes(hub: Hub, store: str) -> None:
    """`GET /auth` needs no scope and names the user, its group, roles and the token's scopes."""
    group, role = await hub.group(), await hub.role("GET /*")
    caller = await hub.as_user(group=group, roles=[role])
    narrow = await hub.with_token(caller.user, scopes=[f"GET /{store}/*"])
    body = good(await narrow.get("/auth"))
    assert (body["_id"], body["login"], body["admin"]) == (caller.id, caller.user["login"], False)
    assert (body["group"], body["roles"], body["scopes"]) == (group, [role], [f"GET /{store}"])
    assert good(await caller.get("/auth"))["scopes"] is None
