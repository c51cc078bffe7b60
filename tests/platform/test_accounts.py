"""Accounts: password changes and what they end, normalization of logins, and records of use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest
from argon2 import PasswordHasher
from pymongo import AsyncMongoClient

from hub.services.registry import StoreRegistry
from stores.protocol import Engine, Insert, Update
from stores.query import Equal, Query
from stores.records import new_id, now_ms
from stores.sqlite.tables import StoreTable
from tests.platform.answers import good, refused
from tests.support.engines import Database, opened
from tests.support.hub import ADMIN_LOGIN, Client, Hub, entity_of, eventually, launch, running_hub, unique

PASSWORD = "open sesame 1"
ANOTHER = "open sesame 2"


@pytest.fixture
async def somebody(hub: Hub) -> Client:
    """A user with a password, with a long-lived token."""
    return await hub.as_user(password=PASSWORD)


async def session_of(hub: Hub, user: Client, password: str = PASSWORD) -> Client:
    return await hub.as_session(user.user["login"], password)


# Password changes.


@pytest.mark.parametrize("change", [{"password": ANOTHER}, {"email": "new@example.com"}])
async def test_the_current_password_is_needed(hub: Hub, somebody: Client, change: dict[str, Any]) -> None:
    """A change of one's own password or e-mail address needs it; without it or with a wrong one the answer is 400."""
    session, path = await session_of(hub, somebody), f"/users/{somebody.id}"
    for proof in ({}, {"current_password": "wrong"}, {"current_password": 5}, {"current_password": None}):
        refused(await session.patch(path, change | proof), 400, "current_password")
    assert "current_password" not in entity_of(await session.patch(path, change | {"current_password": PASSWORD}))


@pytest.mark.parametrize("change", [{"password": ANOTHER}, {"email": "new@example.com"}])
async def test_a_long_lived_token_does_not_take_the_account_over(somebody: Client, change: dict[str, Any]) -> None:
    """It cannot change the password or the e-mail address, even with the current password."""
    path = f"/users/{somebody.id}"
    refused(await somebody.patch(path, change), 403, *change)
    refused(await somebody.patch(path, change | {"current_password": PASSWORD}), 403, *change)
    entity_of(await somebody.patch(path, {"name": "Renamed"}))


async def test_administrators_prove_themselves_too(hub: Hub) -> None:
    """They need the current password for their own account, in PATCH and PUT, but not for other accounts."""
    role = (await hub.admin.list("roles", {"name": "admin"}))[0]["_id"]
    chief = await hub.as_user(password=PASSWORD, roles=[role])
    session, other = await session_of(hub, chief), await hub.as_user(password=PASSWORD)
    refused(await session.patch(f"/users/{chief.id}", {"password": ANOTHER}), 400, "current_password")
    body = {"login": chief.user["login"], "roles": [role], "password": ANOTHER}
    refused(await session.put(f"/users/{chief.id}", body), 400, "current_password")
    entity_of(await session.put(f"/users/{chief.id}", body | {"current_password": PASSWORD}))
    entity_of(await session.patch(f"/users/{other.id}", {"password": ANOTHER}))
    entity_of(await hub.admin.delete(f"/users/{chief.id}"))


async def test_a_new_password_ends_other_sessions_and_tokens(hub: Hub, somebody: Client) -> None:
    """Only the session that set the password survives."""
    here, there = await session_of(hub, somebody), await session_of(hub, somebody)
    access = hub.client(await hub.token_of(somebody.user["login"], PASSWORD))
    entity_of(await here.patch(f"/users/{somebody.id}", {"password": ANOTHER, "current_password": PASSWORD}))
    good(await here.get("/auth"))
    for ended in (there, access, somebody):
        refused(await ended.get("/auth"), 401)


async def test_a_reset_ends_all_sessions_and_tokens(hub: Hub, somebody: Client) -> None:
    """The reset is a new password that an administrator sets for another user."""
    session = await session_of(hub, somebody)
    entity_of(await hub.admin.patch(f"/users/{somebody.id}", {"password": ANOTHER}))
    for ended in (session, somebody):
        refused(await ended.get("/auth"), 401)


async def test_tokens_outlive_a_new_password_if_that_is_set(database: Database, tmp_path: Path) -> None:
    """With HUB_RESET_ENDS_TOKENS=false only sessions end."""
    async with running_hub(database, tmp_path, reset_ends_tokens=False) as hub:
        user = await hub.as_user(password=PASSWORD)
        session = await session_of(hub, user)
        entity_of(await hub.admin.patch(f"/users/{user.id}", {"password": ANOTHER}))
        refused(await session.get("/auth"), 401)
        good(await user.get("/auth"))


async def test_guesses_of_the_current_password_are_limited(database: Database, tmp_path: Path) -> None:
    """A stolen session cannot be used to guess the password."""
    async with running_hub(database, tmp_path, login_attempts=3) as hub:
        user = await hub.as_user(password=PASSWORD)
        session, path = await session_of(hub, user), f"/users/{user.id}"
        for number in range(3):
            body = {"password": ANOTHER, "current_password": f"wrong {number}"}
            refused(await session.patch(path, body), 400, "current_password")
        right = {"password": ANOTHER, "current_password": PASSWORD}
        refused(await session.patch(path, right), 429)
        own = await session_of(hub, user)
        entity_of(await own.patch(path, right))  # not even the thief of a session keeps the user from a new password


@pytest.mark.gate("sqlite", "mongodb")
async def test_no_session_of_the_old_password_outlives_the_new_one(hub: Hub) -> None:
    """This holds for any order of concurrent logins and the change."""
    for _ in range(6):
        user = await hub.as_user(password=PASSWORD)
        credentials = {"login": user.user["login"], "password": PASSWORD}
        before = await hub.token_of(user.user["login"], PASSWORD)  # one is made in any case
        logins = [hub.client().post("/auth/token", credentials) for _ in range(5)]
        change = hub.admin.patch(f"/users/{user.id}", {"password": ANOTHER})
        *answers, changed = await asyncio.gather(*logins, change)
        entity_of(changed)
        refused(await hub.client(before).get("/auth"), 401)
        for answer in answers:
            if answer.status_code == 200:
                refused(await hub.client(answer.json()["token"]).get("/auth"), 401)
            else:
                refused(answer, 401)
        good(await hub.client().post("/auth", credentials | {"password": ANOTHER}))


# Tokens created by tokens.


async def test_a_token_does_not_outlive_the_one_that_made_it(hub: Hub, somebody: Client) -> None:
    """A token cannot extend its own expiry either."""
    end = now_ms() + 60_000
    parent = await hub.with_token(somebody.user, expires=end)
    child = await parent.make("tokens", name="child")
    assert child["expires"] == end
    assert (await parent.make("tokens", name="sooner", expires=end - 1_000))["expires"] == end - 1_000
    refused(await parent.post("/tokens", {"name": "later", "expires": end + 1}), 400, "expires")
    [own] = [t for t in await parent.list("tokens") if t["name"] == "test" and t["expires"] == end]
    for expires in (None, end + 1, "2100-01-01"):
        for id in (own["_id"], child["_id"]):
            refused(await parent.patch(f"/tokens/{id}", {"expires": expires}), 400, "expires")
    entity_of(await parent.patch(f"/tokens/{own['_id']}", {"name": "renamed", "expires": end}))
    entity_of(await somebody.patch(f"/tokens/{own['_id']}", {"expires": None}))


async def test_a_signed_in_user_makes_tokens_without_an_end(hub: Hub, somebody: Client) -> None:
    """They outlive the sign-in, with a session as with an access token, until its user gets another password."""
    session = await session_of(hub, somebody)
    access = hub.client(await hub.token_of(somebody.user["login"], PASSWORD))
    made = [await caller.make("tokens", name="kept") for caller in (session, access)]
    good(await session.delete("/auth/sessions"))
    good(await session.delete("/auth"))
    refused(await access.get("/auth"), 401)
    for token in made:
        assert token["expires"] is None
        holder = hub.client(token["token"])
        assert good(await holder.get("/auth"))["expiresAt"] is None
        assert token["_id"] in [each["_id"] for each in await somebody.list("tokens")]
    entity_of(await hub.admin.patch(f"/users/{somebody.id}", {"password": ANOTHER}))
    for token in made:
        refused(await hub.client(token["token"]).get("/auth"), 401)


# Normalization of logins and passwords.


async def test_a_login_is_compared_without_case_and_in_one_form(hub: Hub) -> None:
    """The login keeps its spelling; the password is compared in a normalized form too."""
    tail = unique("")
    composed, decomposed = f"J\u00fcrgen{tail}", f"Ju\u0308rgen{tail}"
    made = await hub.admin.make("users", login=decomposed, password="pa\u00dfwort \u00fc 1")
    assert made["login"] == composed
    for login in (composed, decomposed, composed.upper(), composed.lower()):
        refused(await hub.admin.post("/users", {"login": login}), 409, "login")
        answer = await hub.client().post("/auth", {"login": login, "password": "pa\u00dfwort u\u0308 1"})
        assert answer.status_code == 200, login
    other = await hub.admin.make("users", login=unique("user"))
    refused(await hub.admin.patch(f"/users/{other['_id']}", {"login": composed.upper()}), 409, "login")
    entity_of(await hub.admin.patch(f"/users/{made['_id']}", {"login": composed.upper()}))


@pytest.mark.parametrize("login", [" ada", "ada ", "a  b", "", "a\tb", "a\0b", "x" * 1_001, "\u200bada", "\ufb01sh", 5])
async def test_a_login_that_looks_like_another_is_refused(hub: Hub, login: Any) -> None:
    """Outer blanks, control characters, and invisible or look-alike characters are answered 400 with the field."""
    refused(await hub.admin.post("/users", {"login": login}), 400, "login")


async def test_a_login_may_have_blanks_within_and_be_an_address(hub: Hub) -> None:
    for login in (f"Ada Lovelace {unique('')}", f"ada+{unique('')}@example.com"):
        assert (await hub.admin.make("users", login=login))["login"] == login


@pytest.mark.parametrize("password", ["password", "12345678", "PassWord1", "qwertyuiop", "tab\tin it 1", "same"])
async def test_a_password_that_everybody_tries_is_refused(hub: Hub, password: str) -> None:
    """Common passwords and the login itself are refused. The command line uses the API, so the same holds there."""
    login = unique("user")
    body = {"login": login, "password": login.upper() if password == "same" else password}
    refused(await hub.admin.post("/users", body), 400, "password")


async def test_the_first_administrators_password_is_no_exception(database: Database, tmp_path: Path) -> None:
    """With a weak HUB_ADMIN_PASSWORD the hub does not start and says why; HUB_PASSWORD_LENGTH applies to it too."""
    for password, length in (("short", 8), ("password", 8), ("long enough 1", 20)):
        process = launch(database, tmp_path, {"admin_password": password, "password_length": length})
        await asyncio.to_thread(process.communicate)
        log = (tmp_path / "hub.log").read_text()
        assert process.returncode == 1
        assert "HUB_ADMIN_PASSWORD" in log
        assert "Traceback" not in log


async def test_users_of_older_versions_sign_in_without_case(database: Database, tmp_path: Path) -> None:
    """Users whose logins differ only by case sign in with the exact spelling, and nothing else breaks."""
    async with running_hub(database, tmp_path) as hub:
        user = await hub.admin.make("users", login="Ada", password=PASSWORD)
        twin = await hub.admin.make("users", login="placeholder", password=ANOTHER)
    async with opened(database.engine()) as engine:
        await as_older_version(engine, user["_id"], "Ada")
        await as_older_version(engine, twin["_id"], "aDa")
        await as_older_version(engine, user["_id"], "Ada")
    async with running_hub(database, tmp_path) as hub:
        await hub.token_of("Ada", PASSWORD)
        await hub.token_of("aDa", ANOTHER)
        assert "see `hub doctor`" in hub.process.log


async def as_older_version(engine: Engine, id: str, login: str) -> None:
    """Store a user as a version did that compared logins with case."""
    await StoreRegistry(engine).open()
    await engine.commit([Update("users", id, {"login": login, "login_key": None})], None)


async def test_an_aged_hash_is_renewed_at_the_next_login(database: Database, tmp_path: Path) -> None:
    """It gets the current parameters. Sign-in works before and after, and no session ends."""
    aged = PasswordHasher(time_cost=1, memory_cost=1_024).hash(PASSWORD)
    async with running_hub(database, tmp_path) as hub:
        user = await hub.as_user(password=PASSWORD)
    async with opened(database.engine()) as engine:
        await as_older_version(engine, user.id, user.user["login"])
        await engine.commit([Update("users", user.id, {"password": aged})], None)
    async with running_hub(database, tmp_path, password_memory_kib=20_000) as hub:
        session = await hub.as_session(user.user["login"], PASSWORD)
        await hub.token_of(user.user["login"], PASSWORD)
        good(await session.get("/auth"))
    async with opened(database.engine()) as engine:
        await as_older_version(engine, user.id, user.user["login"])
        [kept] = await engine.entities("users", Query(Equal(("_id",), user.id)))
        assert kept["password"] != aged
        assert "m=20000" in kept["password"]


# Records of use.


async def test_sessions_and_tokens_show_where_they_were_last_used(hub: Hub, somebody: Client) -> None:
    """They show the time, the address and the user agent."""
    session = await session_of(hub, somebody)
    shown = (await session.list("sessions"))[-1]
    assert abs(shown["last_used"] - now_ms()) < 60_000
    assert shown["address"] == "127.0.0.1"
    assert "httpx" in shown["agent"]

    async def used() -> dict[str, Any]:
        [token] = await session.list("tokens")
        return token if token["last_used"] else {}

    await somebody.get("/auth")
    token = await eventually(used)
    assert (token["address"], "httpx" in token["agent"]) == ("127.0.0.1", True)
    refused(await session.patch(f"/tokens/{token['_id']}", {"address": "203.0.113.1"}), 400, "address")


async def test_a_read_does_not_depend_on_the_note_of_its_use(database: Database, tmp_path: Path) -> None:
    """It is answered even if the token's last use cannot be written."""
    async with running_hub(database, tmp_path) as hub:
        user = await hub.as_user()
        await lock_tokens(database)
        for _ in range(3):
            good(await user.get("/auth"))
        assert (await hub.admin.list("tokens"))[0]["last_used"] is None
        assert "Traceback" not in hub.process.log


async def lock_tokens(database: Database) -> None:
    """Make every change of a token fail in the database."""
    if database.kind == "mongodb":
        async with AsyncMongoClient[dict[str, Any]](database.location) as client:
            await client.get_default_database().command({"collMod": "tokens", "validator": {"never": 1}})
        return
    connection = apsw.Connection(database.location)
    table = StoreTable("tokens").table
    connection.execute(f"CREATE TRIGGER locked BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'locked'); END")
    connection.close()


async def test_thousands_of_expired_sessions_all_go(database: Database, tmp_path: Path) -> None:
    """There are more than one round of housekeeping deletes."""
    async with running_hub(database, tmp_path):
        pass
    session = {"user": new_id(), "kind": "session", "expires": 1, "access": [], "branch": [], "time": 1, "_at": 1}
    async with opened(database.engine()) as engine:
        await StoreRegistry(engine).open()
        for start in range(0, 12_000, 3_000):
            writes = [
                Insert("sessions", session | {"_id": new_id(), "_rev": 1, "digest": f"{n:064}", "owner": None})
                for n in range(start, start + 3_000)
            ]
            await engine.commit(writes, None)
    async with running_hub(database, tmp_path, sweep_interval=1) as hub:

        async def gone() -> bool:
            return bool((await hub.admin.get("/sessions?meta=true")).json()["count"] < 5)

        await eventually(gone)
        assert (await hub.admin.get("/auth")).json()["login"] == ADMIN_LOGIN
