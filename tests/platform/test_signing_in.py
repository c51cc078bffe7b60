"""Signing in and out: cookies, access tokens, long-lived tokens, and their ends."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest

from hub.services.accounts import Issued
from stores.errors import Unavailable
from stores.records import now_ms
from tests.platform.answers import good, refused
from tests.support.cpu import counted_cpu
from tests.support.hub import ADMIN_LOGIN, ADMIN_PASSWORD, Client, Hub, entity_of, eventually, unique
from tests.support.racing import Racing

PASSWORD = "open sesame 1"
DAY = 86_400_000


@pytest.fixture(scope="module")
async def member(hub: Hub) -> Client:
    """A user with a password."""
    return await hub.as_user(password=PASSWORD)


def login_of(member: Client) -> dict[str, str]:
    return {"login": member.user["login"], "password": PASSWORD}


async def test_a_login_sets_the_documented_cookie(hub: Hub, member: Client, store: str) -> None:
    """It is ``sid`` with a path and an expiry, not available to scripts and other sites, and it authenticates
    requests."""
    client = hub.client()
    answer = await client.post("/auth", login_of(member))
    assert good(answer) == {"sucess": True, "success": True}
    cookie = answer.headers["set-cookie"]
    found = re.fullmatch(r"sid=([\w-]{43}); Path=/; Expires=([^;]+ GMT); HttpOnly; SameSite=Lax", cookie)
    assert found, cookie
    days = (parsedate_to_datetime(found[2]).timestamp() - time.time()) / 86_400
    assert 13.9 < days < 14.1
    made = await client.make(store, n=1)
    assert made["owner"] == member.id
    assert await client.list(store) == [made]
    assert good(await client.get("/auth"))["type"] == "session"


async def test_a_token_without_bearer_is_told_how_it_is_written(hub: Hub) -> None:
    answer = await hub.client().request("GET", "/auth", headers={"Authorization": "TOKEN"})
    assert "Authorization: Bearer TOKEN" in str(refused(answer, 401, "Authorization"))
    assert refused(await hub.client().get("/auth"), 401) == {}


@pytest.mark.parametrize(("failing", "times"), [("entities", 101), ("commit", 11)])
async def test_a_sign_in_that_the_database_fails_is_not_counted(racing: Racing, failing: str, times: int) -> None:
    """Neither for the login, which may fail ten times, nor for the address, which may fail a hundred times."""

    async def sign_in() -> Issued:
        return await racing.hub.accounts.sign_in(ADMIN_LOGIN, ADMIN_PASSWORD, None, "session", "192.0.2.1", "")

    with racing.monkeypatch.context() as patch:
        patch.setattr(racing.hub.engine, failing, AsyncMock(side_effect=Unavailable("away")))
        for _ in range(times):
            with pytest.raises(Unavailable):
                await sign_in()
    assert (await sign_in()).credential


async def test_a_missing_part_of_a_sign_in_is_named(hub: Hub) -> None:
    for body in (None, {}):
        assert refused(await hub.client().post("/auth", body), 400).keys() == {"login"}


async def test_a_cookie_over_https_is_secure(hub: Hub, member: Client) -> None:
    """The proxy's header names the scheme."""
    client = hub.client(x_forwarded_proto="https")
    answer = await client.post("/auth", login_of(member))
    assert answer.headers["set-cookie"].endswith("; Secure")


async def test_a_sign_out_ends_the_session(hub: Hub, member: Client) -> None:
    """The cookie is cleared and no longer valid."""
    client = await hub.as_session(**login_of(member))
    sid = client.http.cookies["sid"]
    answer = await client.delete("/auth")
    assert good(answer)["success"] is True
    assert "sid=;" in answer.headers["set-cookie"]
    assert "01 Jan 1970" in answer.headers["set-cookie"]
    stale = hub.client(cookie=f"sid={sid}")
    refused(await stale.get("/auth"), 401)
    refused(await stale.delete("/auth"), 401)


async def test_an_access_token_lasts_a_day(hub: Hub, member: Client, store: str) -> None:
    """The answer is as documented, with times in Unix ms. As a bearer token it is valid until it is ended."""
    before = now_ms()
    body = good(await hub.client().post("/auth/token", login_of(member)))
    assert body.keys() == {"sucess", "success", "type", "token", "issuedAt", "expiresAt"}
    assert (body["sucess"], body["success"], body["type"]) == (True, True, "access")
    assert before <= body["issuedAt"] <= now_ms()
    assert body["expiresAt"] - body["issuedAt"] == DAY
    client = hub.client(body["token"])
    assert (await client.make(store))["owner"] == member.id
    who = good(await client.get("/auth"))
    assert (who["login"], who["type"], who["expiresAt"]) == (member.user["login"], "access", body["expiresAt"])
    good(await client.delete("/auth"))
    refused(await client.get("/auth"), 401)


async def test_who_am_i(hub: Hub, admin: Client, member: Client) -> None:
    """``GET /auth`` names the user, and whether it is an administrator."""
    body = good(await admin.get("/auth"))
    assert (body["login"], body["admin"]) == (ADMIN_LOGIN, True)
    body = good(await member.get("/auth"))
    assert (body["_id"], body["login"], body["admin"], body["type"]) == (
        member.id,
        member.user["login"],
        False,
        "token",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer " + "x" * 5_000},
        {"Authorization": "Bearer \xff\xfe".encode("latin-1")},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Cookie": "sid="},
        {"Cookie": "sid=nonsense"},
        {"Cookie": 'sid="\\"; Path'},
        {"Cookie": "other=1"},
    ],
)
async def test_no_good_credentials_no_answer(hub: Hub, bare: str, headers: dict[str, Any]) -> None:
    """The answer is 401 in the documented format, for every call that is not public."""
    async with httpx.AsyncClient(base_url=hub.url + "/api/v1", headers=headers, trust_env=False, verify=False) as http:
        for method, path in (
            ("GET", f"/{bare}"),
            ("POST", f"/{bare}"),
            ("GET", f"/{bare}/5f00000000000000000000a1"),
            ("DELETE", f"/{bare}/5f00000000000000000000a1"),
            ("GET", "/users"),
            ("GET", "/no-such-store"),
            ("GET", "/auth"),
            ("DELETE", "/auth"),
        ):
            answer = await http.request(method, path)
            assert refused(answer, 401) == {}
            assert answer.json() == {
                "success": False,
                "code": "401",
                "message": "Unauthorized",
                "tags": ["error_unauthorized"],
            }


@pytest.mark.parametrize("path", ["/auth", "/auth/token"])
async def test_a_wrong_login_is_told_nothing(hub: Hub, member: Client, path: str) -> None:
    """An unknown login, a wrong password, a user without a password and a disabled user get the same answer."""
    nobody = await hub.as_user()
    disabled = await hub.as_user(password=PASSWORD, disabled=True)
    client = hub.client()
    answers = [
        await client.post(path, {"login": login, "password": password})
        for login, password in (
            (member.user["login"], "wrong password"),
            (unique("nobody"), PASSWORD),
            (nobody.user["login"], "null"),
            (disabled.user["login"], PASSWORD),
            ("a\0b", PASSWORD),
            (member.user["login"] + "x", PASSWORD),
        )
    ]
    for answer in answers:
        assert refused(answer, 401) == {}
        assert answer.content == answers[0].content
        assert "set-cookie" not in answer.headers


async def test_a_wrong_login_takes_as_long(hub: Hub, member: Client) -> None:
    """An unknown login takes a password check too, so that response times do not reveal which logins exist. Measured in
    CPU time of the hub."""
    client = hub.client()

    async def seconds(login: str) -> float:
        with counted_cpu(hub.process.pid) as cpu:
            refused(await client.post("/auth", {"login": login, "password": "wrong password"}), 401)
        return cpu.seconds

    known, unknown = [], []
    for _ in range(4):  # in turn, so that whatever else the machine does meets both
        known.append(await seconds(member.user["login"]))
        unknown.append(await seconds(unique("nobody")))
    assert min(unknown) > min(known) / 2
    assert min(known) > min(unknown) / 2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "login"),
        ({"login": "a"}, "password"),
        ({"login": "", "password": "b"}, "login"),
        ({"login": 5, "password": "b"}, "login"),
        ({"login": {"$ne": ""}, "password": "b"}, "login"),
        ({"login": "a", "password": None}, "password"),
        ({"login": "a", "password": {"$gt": ""}}, "password"),
        ({"login": "a", "password": "x" * 1_001}, "password"),
        ([], "body"),
    ],
)
async def test_credentials_are_two_texts(hub: Hub, body: Any, name: str) -> None:
    """Other values are answered 400 with the field."""
    for path in ("/auth", "/auth/token"):
        errors = refused(await hub.client().post(path, body), 400, name)
        assert name == "body" or errors[name] == ["Must be a string of 1 to 1000 characters."]


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_disabled_user_is_out_at_once(hub: Hub, admin: Client, store: str) -> None:
    """Its sessions, access tokens and long-lived tokens are refused. Enabled again, the user must sign in again."""
    user = await hub.as_user(password=PASSWORD)
    session = await hub.as_session(**login_of(user))
    access = hub.client(await hub.token_of(user.user["login"], PASSWORD))
    for client in (user, session, access):
        assert await client.list(store) == []
    entity_of(await admin.patch(f"/users/{user.id}", {"disabled": True}))
    for client in (user, session, access):
        refused(await client.get(f"/{store}"), 401)
    refused(await hub.client().post("/auth", login_of(user)), 401)
    entity_of(await admin.patch(f"/users/{user.id}", {"disabled": False}))
    for client in (session, access):
        refused(await client.get(f"/{store}"), 401)
    assert await user.list(store) == []
    good(await hub.client().post("/auth", login_of(user)))


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_deleted_user_is_out_at_once(hub: Hub, admin: Client, store: str) -> None:
    """All its sessions and tokens end; its entities stay."""
    user = await hub.as_user(password=PASSWORD)
    session = await hub.as_session(**login_of(user))
    made = await session.make(store)
    entity_of(await admin.delete(f"/users/{user.id}"))
    for client in (user, session):
        refused(await client.get(f"/{store}"), 401)
    assert await admin.list("tokens", {"user": user.id}) == []
    assert await admin.list("sessions", {"user": user.id}) == []
    assert await admin.list(store) == [made]


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_new_password_ends_the_other_sessions(hub: Hub, member: Client, store: str) -> None:
    """The session that set the password survives. Only the new password is valid."""
    user = await hub.as_user(password=PASSWORD)
    here, there = await hub.as_session(**login_of(user)), await hub.as_session(**login_of(user))
    access = hub.client(await hub.token_of(user.user["login"], PASSWORD))
    bystander = await hub.as_session(**login_of(member))
    entity_of(await here.patch(f"/users/{user.id}", {"password": "another one 2", "current_password": PASSWORD}))
    assert await here.list(store) == []
    assert await bystander.list(store) == []
    for client in (there, access):
        refused(await client.get(f"/{store}"), 401)
    refused(await hub.client().post("/auth", login_of(user)), 401)
    good(await hub.client().post("/auth", {"login": user.user["login"], "password": "another one 2"}))


async def test_a_session_can_be_ended_from_elsewhere(hub: Hub, member: Client, user: Client) -> None:
    """A user sees and ends its own sessions, without their secrets, and no others."""
    here, there = await hub.as_session(**login_of(member)), await hub.as_session(**login_of(member))
    sessions = await here.list("sessions")
    sid = there.http.cookies["sid"]
    [one] = [s for s in sessions if sid.startswith(s["prefix"])]
    assert one["user"] == member.id
    assert one["kind"] == "session"
    assert one["expires"] > now_ms()
    assert all(s["owner"] == member.id for s in sessions)
    text = (await here.get("/sessions")).text
    assert sid not in text
    assert "digest" not in text
    refused(await user.get(f"/sessions/{one['_id']}"), 404)
    refused(await user.delete(f"/sessions/{one['_id']}"), 404)
    entity_of(await here.delete(f"/sessions/{one['_id']}"))
    refused(await there.get("/auth"), 401)
    good(await here.get("/auth"))


async def test_sessions_are_not_made_or_changed_by_hand(hub: Hub, admin: Client, member: Client) -> None:
    """Creating and changing them is answered 403 for all users, because sessions begin with a sign-in."""
    session = await hub.as_session(**login_of(member))
    one = (await session.list("sessions"))[-1]
    for client in (admin, session):
        refused(await client.post("/sessions", {"user": member.id, "expires": now_ms() + DAY}), 403)
        refused(await client.patch(f"/sessions/{one['_id']}", {"expires": now_ms() + 99 * DAY}), 403)
        refused(await client.put(f"/sessions/{one['_id']}", {"user": member.id}), 403)
    assert await admin.see("sessions", one["_id"]) == one


async def test_a_token_is_shown_once(hub: Hub, user: Client, store: str) -> None:
    """The answer to its creation shows it; later answers show only its prefix, name, scopes, expiry and last use."""
    answer = await user.post("/tokens", {"name": "laptop", "scopes": [f"GET /{store}/*"]})
    made = entity_of(answer)
    secret = made.pop("token")
    assert len(secret) >= 43
    assert secret.startswith(made["prefix"])
    assert (made["name"], made["user"], made["owner"]) == ("laptop", user.id, user.id)
    assert (made["expires"], made["last_used"]) == (None, None)
    path = f"/tokens/{made['_id']}"
    changed = await user.patch(path, {"name": "desktop"})
    assert entity_of(changed)["name"] == "desktop"
    for shown in (await user.get(path), await user.get("/tokens"), await user.get(path + "/history"), changed):
        assert shown.status_code == 200
        assert secret not in shown.text
        assert "digest" not in shown.text
    assert await hub.client(secret).list(store) == []
    used = await eventually(lambda: _last_used(user, made["_id"]))
    assert abs(used - now_ms()) < 60_000
    entity_of(await user.delete(path))
    refused(await hub.client(secret).get(f"/{store}"), 401)


async def _last_used(user: Client, id: str) -> int:
    return int((await user.see("tokens", id))["last_used"] or 0)


async def test_a_token_expires(hub: Hub, user: Client, store: str) -> None:
    """After its expiry, given in Unix ms or ISO 8601, requests are answered 401."""
    made = await user.make("tokens", name="short", expires=now_ms() + 3_600_000)
    client = hub.client(made["token"])
    assert await client.list(store) == []
    made |= entity_of(await user.patch(f"/tokens/{made['_id']}", {"expires": now_ms() + 3_000}))

    async def expired() -> bool:
        return (await client.get(f"/{store}")).status_code == 401

    await eventually(expired)
    assert now_ms() >= made["expires"]
    refused(await client.get(f"/{store}"), 401)
    made = await user.make("tokens", name="long", expires="2100-01-01T00:00")
    assert made["expires"] == 4_102_444_800_000
    entity_of(await user.patch(f"/tokens/{made['_id']}", {"expires": None}))
    assert (await user.see("tokens", made["_id"]))["expires"] is None


@pytest.mark.parametrize("expires", ["yesterday", 0, 1_600_000_000_000, "2020-01-01", True, [], -5, 2**60, ""])
async def test_a_bad_expiry_is_refused(user: Client, expires: Any) -> None:
    """A time in the past, or an invalid one, is answered 400 with the field."""
    refused(await user.post("/tokens", {"name": "x", "expires": expires}), 400, "expires")


async def test_a_revoked_token_is_out_at_once(hub: Hub, admin: Client, user: Client, store: str) -> None:
    """It may be deleted by its user or an administrator."""
    for by in (user, admin):
        made = await user.make("tokens", name="x")
        client = hub.client(made["token"])
        assert await client.list(store) == []
        entity_of(await by.delete(f"/tokens/{made['_id']}"))
        refused(await client.get(f"/{store}"), 401)


async def test_tokens_are_their_users_own(hub: Hub, admin: Client, user: Client, other: Client) -> None:
    """Other users cannot see, change or issue them; administrators can."""
    made = await user.make("tokens", name="mine")
    path = f"/tokens/{made['_id']}"
    assert made["_id"] not in {t["_id"] for t in await other.list("tokens")}
    refused(await other.get(path), 404)
    refused(await other.patch(path, {"name": "x"}), 404)
    refused(await other.delete(path), 404)
    refused(await other.post("/tokens", {"name": "x", "user": user.id}), 403)
    assert (await admin.see("tokens", made["_id"]))["user"] == user.id
    issued = await admin.make("tokens", name="for you", user=user.id)
    assert issued["owner"] == user.id
    assert good(await hub.client(issued["token"]).get("/auth"))["_id"] == user.id
    refused(await admin.post("/tokens", {"name": "x", "user": "5f00000000000000000000a1"}), 400, "user")


async def test_a_tokens_holder_and_secret_are_fixed(admin: Client, user: Client, other: Client) -> None:
    """Even administrators can change only the name, scopes and expiry."""
    made = await user.make("tokens", name="mine")
    made.pop("token")
    for client in (user, admin):
        for field, value in (("user", other.id), ("prefix", "x"), ("digest", "0" * 64), ("last_used", 5)):
            refused(await client.patch(f"/tokens/{made['_id']}", {field: value}), 400, field)
    assert await user.see("tokens", made["_id"]) == made
    refused(await user.post("/tokens", {"name": "x", "digest": "0" * 64, "prefix": "x", "colour": 1}), 400, "colour")


async def test_a_sign_out_does_not_end_a_long_lived_token(user: Client) -> None:
    """A long-lived token is revoked by deleting it in the store `tokens`."""
    refused(await user.delete("/auth"), 400)
    good(await user.get("/auth"))


async def test_several_logins_at_once(hub: Hub, member: Client) -> None:
    """Each gets its own session, and other requests are answered in the meantime."""
    logins = [hub.client().post("/auth/token", login_of(member)) for _ in range(6)]
    pending = asyncio.gather(*logins)
    answered = 0
    while not pending.done():
        good(await member.get("/auth"))
        answered += 1
    assert len({good(answer)["token"] for answer in await pending}) == 6
    assert answered
