"""An administrator's long-lived token with few scopes cannot gain more rights by way of users, roles or tokens."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pyotp
import pytest

from stores.records import now_ms
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of, unique

PASSWORD = "open sesame 1"
DAY = 86_400_000


@dataclass
class World:
    """`narrow` is the token that may write all account stores and nothing else. `harmless` is a user whose role allows
    no more than the token, `wide` one whose role reads a store, and `chief` an administrator."""

    narrow: Client
    harmless: Client
    wide: Client
    chief: Client
    harmless_role: str
    wide_role: str
    admin_role: str


SCOPES = [f"{method} /{store}/*" for method in ("GET", "POST", "PATCH", "PUT", "DELETE")
          for store in ("users", "roles", "tokens", "second_factors")]  # fmt: skip


@pytest.fixture
async def world(hub: Hub, admin: Client, store: str) -> AsyncIterator[World]:
    admin_role = str((await admin.list("roles", {"name": "admin"}))[0]["_id"])
    harmless, wide = await hub.role("GET /users/*"), await hub.role(f"GET /{store}/*")
    made = World(
        await hub.with_token(admin.user, scopes=SCOPES),
        *[await hub.as_user(PASSWORD, roles=[role]) for role in (harmless, wide, admin_role)],
        harmless,
        wide,
        admin_role,
    )
    yield made
    entity_of(await admin.delete(f"/users/{made.chief.id}"))  # other tests count the administrators


def new_user(**fields: Any) -> dict[str, Any]:
    return {"login": unique("new"), **fields}


async def test_it_makes_no_user_who_may_do_more(world: World) -> None:
    """Such users are administrators, users with a wider role, and users without a role, who may use every store."""
    narrow = world.narrow
    for roles in ([world.admin_role], [world.harmless_role, world.wide_role], [], None):
        errors = refused(await narrow.post("/users", new_user(roles=roles, password=PASSWORD)), 403, "roles")
        assert "long-lived token" in errors["roles"][0]
    refused(await narrow.post("/users", new_user()), 403, "roles")
    users = [new_user(roles=[world.harmless_role]), new_user(roles=[world.admin_role])]
    refused(await narrow.post("/users", users), 403, "roles")
    entity_of(await narrow.post("/users", users[0]))


@pytest.mark.parametrize(
    "change",
    [{"password": "another sesame 2"}, {"email": "mallory@example.com"}, {"login": "{unique}"}, {"roles": "{harmless}"},
     {"group": "{group}"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
async def test_it_takes_over_nobody_who_may_do_more(hub: Hub, world: World, change: dict[str, Any]) -> None:
    """It cannot change them by PATCH or PUT. It may change users whose rights it covers, and any user's name."""
    [(field, value)] = change.items()
    known = {"{unique}": unique("taken"), "{harmless}": [world.harmless_role], "{group}": await hub.group()}
    body = {field: known.get(str(value), value)}
    for target in (world.wide, world.chief):
        path, user = f"/users/{target.id}", target.user
        refused(await world.narrow.patch(path, body), 403, field)
        whole = {"login": user["login"], "roles": user["roles"], "name": "Renamed"}
        refused(await world.narrow.put(path, whole | body), 403, field)
        entity_of(await world.narrow.patch(path, {"name": "Renamed"}))
        entity_of(await world.narrow.put(path, whole))
    entity_of(await world.narrow.patch(f"/users/{world.harmless.id}", body))


async def test_it_gives_nobody_more(world: World) -> None:
    """It can give more rights neither by a role nor by removing all roles."""
    path = f"/users/{world.harmless.id}"
    for roles in ([world.admin_role], [world.wide_role], [], None):
        refused(await world.narrow.patch(path, {"roles": roles}), 403, "roles")
    assert (await world.narrow.see("users", world.harmless.id))["roles"] == [world.harmless_role]


async def test_it_disables_anybody_and_enables_whom_it_covers(world: World) -> None:
    for user in (world.harmless, world.wide):
        entity_of(await world.narrow.patch(f"/users/{user.id}", {"disabled": True}))
    entity_of(await world.narrow.patch(f"/users/{world.harmless.id}", {"disabled": False}))
    refused(await world.narrow.patch(f"/users/{world.wide.id}", {"disabled": False}), 403, "disabled")


async def test_it_makes_no_role_wider(world: World, store: str) -> None:
    """It may remove scopes from a role, and add scopes that it has itself."""
    narrow, path = world.narrow, f"/roles/{world.harmless_role}"
    for scopes in ([f"POST /{store}/*"], ["* /*"], ["GET /stores/*"]):
        refused(await narrow.patch(path, {"scopes": ["GET /users/*", *scopes]}), 403, "scopes")
        refused(await narrow.put(path, {"name": unique("role"), "scopes": scopes}), 403, "scopes")
        refused(await narrow.post("/roles", {"name": unique("role"), "scopes": scopes}), 403, "scopes")
    entity_of(await narrow.patch(path, {"scopes": ["GET /users/*", "PATCH /users/*"]}))
    entity_of(await narrow.patch(f"/roles/{world.wide_role}", {"scopes": [f"GET /{store}/*", "GET /users/*"]}))
    entity_of(await narrow.patch(f"/roles/{world.wide_role}", {"scopes": []}))
    entity_of(await narrow.post("/roles", {"name": unique("role"), "scopes": ["GET /users/*"]}))


async def test_it_issues_no_wider_token_for_anybody(hub: Hub, world: World, store: str) -> None:
    """It cannot extend the expiry of one either."""
    narrow = world.narrow
    for user in (world.wide, world.chief):
        for scopes in (["* /*"], [f"GET /{store}/*"], ["GET /stores/*"]):
            refused(await narrow.post("/tokens", {"name": "x", "user": user.id, "scopes": scopes}), 403, "scopes")
        made = entity_of(await narrow.post("/tokens", {"name": "x", "user": user.id}))
        refused(await hub.client(made["token"]).get(f"/{store}"), 403)
        refused(await narrow.patch(f"/tokens/{made['_id']}", {"scopes": ["* /*"]}), 403, "scopes")
    soon, late = now_ms() + DAY, now_ms() + 2 * DAY
    for scopes in (None, [f"GET /{store}/*"]):
        body = {"name": "ending", "user": world.wide.id, "scopes": scopes, "expires": soon}
        ending = await hub.admin.make("tokens", body)
        for expires in (late, None):
            refused(await narrow.patch(f"/tokens/{ending['_id']}", {"expires": expires}), 403, "expires")
        entity_of(await narrow.patch(f"/tokens/{ending['_id']}", {"expires": soon - 1000}))
    own = entity_of(await narrow.post("/tokens", {"name": "x", "scopes": ["GET /users/*"], "expires": soon}))
    entity_of(await narrow.patch(f"/tokens/{own['_id']}", {"expires": late}))


async def test_it_switches_nobodys_codes_off_who_may_do_more(hub: Hub, world: World) -> None:
    for user, status in ((world.wide, 403), (world.harmless, 200)):
        session = await hub.as_session(user.user["login"], PASSWORD)
        secret = good(await session.post("/auth/totp", None))["secret"]
        good(await session.post("/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()}))
        [factor] = await hub.admin.list("second_factors", {"user": user.id})
        if status == 403:
            refused(await world.narrow.delete(f"/users/{user.id}/totp"), 403, "_id")
            refused(await world.narrow.delete(f"/second_factors/{factor['_id']}"), 403, "_id")
        else:
            good(await world.narrow.delete(f"/users/{user.id}/totp"))


async def test_several_at_once_are_no_way_around(world: World) -> None:
    """System stores support neither bulk changes nor upserts."""
    body = {"login": world.chief.user["login"], "password": "another sesame 2"}
    for answer in (
        await world.narrow.patch("/users?all=true", {"password": "another sesame 2"}),
        await world.narrow.patch("/roles?all=true", {"scopes": ["* /*"]}),
        await world.narrow.post("/users?upsert=login", body),
    ):
        refused(answer, 400)


async def test_what_has_every_right_gives_every_right(hub: Hub, admin: Client, world: World) -> None:
    """Unrestricted callers are administrators' sessions, and their tokens without scopes or with `* /*`."""
    for scopes in (None, ["* /*"], [f"{m} /*" for m in ("GET", "POST", "PATCH", "PUT", "DELETE")]):
        token = await hub.with_token(admin.user, scopes=scopes)
        made = entity_of(await token.post("/users", new_user(roles=[world.admin_role])))
        entity_of(await token.patch(f"/users/{made['_id']}", {"password": f"pass {secrets.token_hex(8)}"}))
        entity_of(await token.delete(f"/users/{made['_id']}"))
        entity_of(await token.post("/users", new_user()))
    entity_of(await admin.patch(f"/users/{world.chief.id}", {"password": "another sesame 2"}))
