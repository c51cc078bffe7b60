"""Rights that a caller loses while its request body arrives or is processed no longer count."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pyotp
import pytest

from tests.platform.answers import good
from tests.platform.raw import request, token_of, wire
from tests.support.cpu import cpu_seconds
from tests.support.hub import Client, Hub, eventually, unique

PASSWORD = "open sesame 1"


async def slowly(hub: Hub, caller: Client, path: str, body: Any, meanwhile: Callable[[], Awaitable[Any]]) -> int:
    """Send a POST whose body begins before `meanwhile` and ends after it; return the status."""
    text = json.dumps(body).encode()
    async with wire(hub.process.port) as slow:
        head = request(
            "POST", path, token_of(caller.http.headers), f"Content-Length: {len(text)}", "Expect: 100-continue"
        )
        await slow.send(head)
        assert (await slow.head())[0] == 100  # the hub has accepted the head, and waits for the body
        await slow.send(text[:1])
        await meanwhile()
        await slow.send(text[1:])
        return (await slow.answer()).status


async def signed_in(hub: Hub, **fields: Any) -> Client:
    user = await hub.as_user(PASSWORD, **fields)
    return hub.client(await hub.token_of(user.user["login"], PASSWORD), user.user)


async def admin_role(hub: Hub) -> str:
    return str((await hub.admin.list("roles", {"name": "admin"}))[0]["_id"])


async def test_a_token_that_is_revoked_before_the_body_has_arrived_writes_nothing(hub: Hub) -> None:
    store, user = await hub.define(), await hub.as_user()
    token = await hub.admin.make("tokens", {"name": "lost", "user": user.id})
    lost = hub.client(token["token"])

    async def revoke() -> None:
        good(await hub.admin.delete(f"/tokens/{token['_id']}"))

    assert await slowly(hub, lost, f"/{store}", {"a": 1}, revoke) == 401
    assert await hub.admin.list(store) == []


@pytest.mark.parametrize("change", [{"password": "another sesame 2"}, {"disabled": True}])
async def test_codes_are_not_confirmed_by_a_session_that_has_ended(hub: Hub, change: dict[str, Any]) -> None:
    """Otherwise a thief of the session could lock out its owner, who has just set a new password."""
    thief = await signed_in(hub)
    secret = good(await thief.post("/auth/totp", None))["secret"]

    async def end() -> None:
        good(await hub.admin.patch(f"/users/{thief.id}", change))

    assert await slowly(hub, thief, "/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()}, end) == 401
    assert [f["confirmed"] for f in await hub.admin.list("second_factors", {"user": thief.id})] == [False]


async def test_one_who_is_no_administrator_any_more_makes_none(hub: Hub) -> None:
    role = await admin_role(hub)
    former, login = await signed_in(hub, roles=[role]), unique("heir")

    async def demote() -> None:
        good(await hub.admin.patch(f"/users/{former.id}", {"roles": []}))

    assert await slowly(hub, former, "/users", {"login": login, "roles": [role]}, demote) == 403
    assert await hub.admin.list("users", {"login": login}) == []


async def test_one_who_gets_a_right_meanwhile_has_it(hub: Hub) -> None:
    """The caller's rights count at the time when the body is complete, and the body is not lost."""
    store = await hub.define()
    reads, writes = await hub.role(f"POST /{store}"), await hub.role(f"* /{store}")
    user = await hub.as_user(roles=[reads])

    async def promote() -> None:
        good(await hub.admin.patch(f"/users/{user.id}", {"roles": [writes]}))

    assert await slowly(hub, user, f"/{store}", [{"a": 1}, {"a": 2}], promote) == 200
    assert [entity["a"] for entity in await user.list(store)] == [1, 2]


async def test_one_who_is_no_administrator_when_many_passwords_are_digested_makes_nobody(hub: Hub) -> None:
    """Digesting takes a while after the array was accepted; the rights lost in that time count."""
    role = await admin_role(hub)
    former, name = await signed_in(hub, roles=[role]), secrets.token_hex(4)
    users = [{"login": f"{name}-{n}", "password": f"sesame {name} {n}", "roles": [role]} for n in range(12)]
    before = cpu_seconds(hub.process.pid)
    making = asyncio.create_task(former.post("/users", users))

    async def is_digesting() -> bool:
        return cpu_seconds(hub.process.pid) > before + 0.1

    await eventually(is_digesting)
    good(await hub.admin.patch(f"/users/{former.id}", {"roles": []}))
    assert (await making).status_code == 403
    assert await hub.admin.list("users", {"login[startswith]": name}) == []
