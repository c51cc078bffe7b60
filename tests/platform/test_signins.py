"""The audit trail of sign-ins, and the call that ends all other sessions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hub.services.registry import StoreRegistry
from stores.protocol import Insert
from stores.query import Query
from stores.records import new_id, now_ms
from tests.docs.pages import page
from tests.platform.answers import good, refused
from tests.support.engines import Database, opened
from tests.support.hub import Client, Hub, eventually, running_hub, unique

PASSWORD = "open sesame 1"
DAY = 86_400_000


async def signins_of(client: Client, **params: str) -> list[Any]:
    return await client.list("signins", {"sort": "time", **params})


async def test_each_sign_in_is_recorded_with_its_result(hub: Hub) -> None:
    """Administrators see all records, users their own."""
    user = await hub.as_user(password=PASSWORD)
    login, nobody = user.user["login"], unique("nobody")
    client = hub.client(user_agent="a program", x_forwarded_for="203.0.113.7")
    good(await client.post("/auth", {"login": login, "password": PASSWORD}))
    refused(await client.post("/auth", {"login": login, "password": "wrong password"}), 401)
    refused(await client.post("/auth/token", {"login": nobody, "password": PASSWORD}), 401)
    await hub.admin.patch(f"/users/{user.id}", {"disabled": True})
    refused(await client.post("/auth", {"login": login, "password": PASSWORD}), 401)
    await hub.admin.patch(f"/users/{user.id}", {"disabled": False})
    own = await signins_of(user)
    assert [entry["result"] for entry in own] == ["ok", "password", "disabled"]
    for entry in own:
        assert (entry["login"], entry["user"], entry["address"], entry["agent"]) == (
            login,
            user.id,
            "203.0.113.7",
            "a program",
        )
        assert abs(entry["time"] - now_ms()) < 60_000
    [unknown] = await signins_of(hub.admin, login=nobody)
    assert (unknown["result"], unknown["user"], unknown["owner"]) == ("password", None, None)
    assert unknown["_id"] not in {entry["_id"] for entry in own}


async def test_the_record_is_the_hubs_own(hub: Hub, user: Client) -> None:
    """No caller can create, change or delete records."""
    [entry] = await hub.admin.list("signins", {"limit": "1"})
    path = f"/signins/{entry['_id']}"
    for client in (hub.admin, user):
        refused(await client.post("/signins", {"login": "x", "result": "ok"}), 403)
    refused(await hub.admin.patch(path, {"result": "ok"}), 403)
    refused(await hub.admin.put(path, {"result": "ok"}), 403)
    refused(await hub.admin.delete(path), 403)
    refused(await hub.admin.put(f"{path}/access", {"access": [user.id]}), 403)
    assert await hub.admin.see("signins", entry["_id"]) == entry


async def test_a_limited_login_is_recorded_once_and_logged_for_fail2ban(database: Database, tmp_path: Path) -> None:
    """A flood fills neither the store nor the log, and the documented fail2ban filter finds the address."""
    async with running_hub(database, tmp_path, login_attempts=3, log_format="text") as hub:
        client = hub.client(x_forwarded_for="203.0.113.9")
        for _ in range(20):
            await client.post("/auth", {"login": "ada", "password": "wrong password"})
        entries = await signins_of(hub.admin, login="ada")
        assert [entry["result"] for entry in entries] == ["password"] * 3 + ["limited"]
        found = re.findall(failregex(), hub.process.log, re.MULTILINE)
        assert found == ["203.0.113.9"] * 4
        assert "wrong password" not in hub.process.log
        assert hub.process.log.count(": limited, not looked up") == 1


async def test_refusals_of_one_network_are_recorded_once(database: Database, tmp_path: Path) -> None:
    """Each client of IPv6 has 2^64 addresses: a record for each of them would fill the store."""
    async with running_hub(database, tmp_path, login_attempts=3) as hub:
        for n in range(1, 11):
            client = hub.client(x_forwarded_for=f"2001:db8::{n:x}")
            await client.post("/auth", {"login": "ada", "password": "wrong password"})
        entries = await signins_of(hub.admin, login="ada")
        assert [entry["result"] for entry in entries] == ["password"] * 3 + ["limited"]


@pytest.mark.parametrize(("proxies", "address"), [("127.0.0.1", "203.0.113.7"), ("*", "198.51.100.1")])
async def test_the_address_comes_from_the_documented_entry(
    database: Database, tmp_path: Path, proxies: str, address: str
) -> None:
    """The client has sent the first entry, and the proxy has appended the second. With ``*`` the first one counts, so
    such a proxy must overwrite the header."""
    async with running_hub(database, tmp_path, trusted_proxies=proxies) as hub:
        client = hub.client(x_forwarded_for="198.51.100.1, 203.0.113.7")
        await client.post("/auth", {"login": "ada", "password": "wrong password"})
        [entry] = await signins_of(hub.admin, login="ada")
        assert entry["address"] == address
    [row] = [line for line in page("settings.md").splitlines() if line.startswith("| `HUB_TRUSTED_PROXIES`")]
    assert "the proxy must overwrite the header" in row


async def test_users_see_where_their_login_was_limited(database: Database, tmp_path: Path) -> None:
    """This holds for any spelling of the login; the log does not name the user."""
    async with running_hub(database, tmp_path, login_attempts=3) as hub:
        user, other = await hub.as_user(password=PASSWORD), await hub.as_user()
        client, login = hub.client(x_forwarded_for="203.0.113.9"), user.user["login"].upper()
        for _ in range(5):
            await client.post("/auth", {"login": login, "password": "wrong password"})
        own = await signins_of(user)
        assert [(e["result"], e["login"], e["user"]) for e in own[-2:]] == [
            ("password", login, user.id),
            ("limited", login, user.id),
        ]
        assert await signins_of(other) == []


def failregex() -> str:
    """Return the documented filter's expression, with fail2ban's group in place of <HOST>."""
    [line] = re.findall(r"^failregex = (.*)$", page("security.md"), re.MULTILINE)
    return line.replace("<HOST>", r"(\S+)")


@pytest.mark.gate("sqlite", "mongodb")
async def test_records_are_kept_for_ninety_days(database: Database, tmp_path: Path) -> None:
    async with running_hub(database, tmp_path):
        pass
    now = now_ms()
    entry = {"result": "ok", "login": "ada", "owner": None, "access": [], "branch": [], "_at": now, "_rev": 1}
    ages = (91, 89)
    async with opened(database.engine()) as engine:
        await StoreRegistry(engine).open()
        writes = [Insert("signins", entry | {"_id": new_id(), "time": now - age * DAY}) for age in ages]
        await engine.commit(writes, None)
        assert len(await engine.entities("signins", Query(limit=10))) >= 2
    async with running_hub(database, tmp_path, sweep_interval=1) as hub:

        async def one_is_left() -> bool:
            left = await signins_of(hub.admin, login="ada")
            return [e["time"] for e in left] == [now - 89 * DAY]

        await eventually(one_is_left)


async def test_all_other_sessions_end_at_once(hub: Hub) -> None:
    """Tokens end only on request. Other users are not affected."""
    user, bystander = await hub.as_user(password=PASSWORD), await hub.as_user(password=PASSWORD)
    credentials = user.user["login"], PASSWORD
    here, there = await hub.as_session(*credentials), await hub.as_session(*credentials)
    access = hub.client(await hub.token_of(*credentials))
    elsewhere = await hub.as_session(bystander.user["login"], PASSWORD)
    assert good(await here.delete("/auth/sessions")) == {"success": True, "count": 2}
    for ended in (there, access):
        refused(await ended.get("/auth"), 401)
    for going in (here, user, elsewhere, bystander):
        good(await going.get("/auth"))
    answer = await here.request("DELETE", "/auth/sessions", json={"tokens": True})
    assert good(answer) == {"success": True, "count": 1}
    refused(await user.get("/auth"), 401)
    for going in (here, elsewhere, bystander):
        good(await going.get("/auth"))


async def test_a_narrow_token_ends_no_sessions(hub: Hub, user: Client) -> None:
    """The call needs the scopes for it, and a valid body."""
    narrow = await hub.with_token(user.user, scopes=["GET /*"])
    refused(await narrow.delete("/auth/sessions"), 403)
    sessions_only = await hub.with_token(user.user, scopes=["DELETE /sessions/*"])
    good(await sessions_only.delete("/auth/sessions"))
    refused(await sessions_only.request("DELETE", "/auth/sessions", json={"tokens": True}), 403)
    for body, name in (({"tokens": 1}, "tokens"), ({"token": True}, "token"), ([], "body")):
        refused(await user.request("DELETE", "/auth/sessions", json=body), 400, name)
