"""Forgotten passwords: the mail, the one-time token, and the information that must not leak."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import secrets
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from auth.errors import Unauthenticated
from auth.groups import find_one
from auth.reset_tokens import new_token
from hub.app import assemble
from hub.settings import Settings
from stores.records import now_ms
from tests.platform.answers import refused
from tests.support.engines import Database, fitting_database
from tests.support.hub import (
    ADMIN_LOGIN,
    ADMIN_PASSWORD,
    SECRET_KEY,
    Client,
    Hub,
    eventually,
    fetch,
    running_hub,
    unique,
)

LINK = "https://hub.example.com/api/v1/auth/reset/confirm#token="


@pytest.fixture
async def mailing(engine_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Hub]:
    """A separate hub that writes its mails to files."""
    database: Database
    async with (
        fitting_database(engine_kind, request, tmp_path) as database,
        running_hub(database, tmp_path / "hub", public_url="https://hub.example.com", log_level="debug") as hub,
    ):
        yield hub


def mails(hub: Hub) -> list[EmailMessage]:
    """Return the mails of the outbox, oldest first."""
    paths = sorted((hub.process.folder / "outbox").glob("*.eml"))
    found = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]
    return [mail for mail in found if isinstance(mail, EmailMessage) and mail["to"]]


async def make_user(hub: Hub, **fields: str) -> tuple[Client, str]:
    password = f"pass {secrets.token_hex(8)}"
    login = unique("user")
    return await hub.as_user(password, login=login, email=f"{login}@example.com", **fields), password


async def mailed_token(hub: Hub, login: str, number: int = 1) -> str:
    """Request a reset; return the token in the mail."""
    answer = await hub.client().post("/auth/reset", {"login": login})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"success": True}

    async def arrived() -> bool:
        return len(mails(hub)) >= number

    await eventually(arrived)
    text = mails(hub)[-1].get_content()
    found = re.search(
        r"^https://hub\.example\.com/api/v1/auth/reset/confirm#token=([A-Za-z0-9_-]+)$", text, re.MULTILINE
    )
    assert found, text
    return found[1]


async def confirm(hub: Hub, token: str, password: str) -> tuple[int, set[str]]:
    answer = await hub.client().post("/auth/reset/confirm", {"token": token, "password": password})
    return answer.status_code, set(answer.json().get("errors", ()))


async def test_who_has_guessed_too_often_signs_in_after_a_reset(
    engine_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A new password, by mail or by an administrator, clears the attempts counted for the login, from every address.
    The attempts counted for an address stay."""
    settings = {"public_url": "https://hub.example.com", "login_attempts": 3}
    async with (
        fitting_database(engine_kind, request, tmp_path) as database,
        running_hub(database, tmp_path / "hub", **settings) as hub,
    ):
        user, _ = await make_user(hub)
        login, new = user.user["login"], f"pass {secrets.token_hex(8)}"
        callers = [hub.client(x_forwarded_for=f"203.0.113.{n}") for n in (1, 2)]
        await give_up(callers, login)
        assert await confirm(hub, await mailed_token(hub, login), new) == (200, set())
        await signs_in(callers, login, new)
        await give_up(callers, login)
        newer = f"pass {secrets.token_hex(8)}"
        assert (await hub.admin.patch(f"/users/{user.id}", {"password": newer})).status_code == 200
        await signs_in(callers, login, newer)
        for _ in range(8):  # with the six above: thirty attempts of the address
            await give_up(callers[:1], unique("nobody"))
        assert (await hub.admin.patch(f"/users/{user.id}", {"password": new})).status_code == 200
        assert (await callers[0].post("/auth", {"login": login, "password": new})).status_code == 429
        await signs_in(callers[1:], login, new)


async def give_up(callers: list[Client], login: str) -> None:
    """Guess until the hub answers 429."""
    for caller in callers:
        guesses = [await caller.post("/auth", {"login": login, "password": "wrong guess"}) for _ in range(4)]
        assert guesses[-1].status_code == 429


async def signs_in(callers: list[Client], login: str, password: str) -> None:
    for caller in callers:
        answer = await caller.post("/auth", {"login": login.upper(), "password": password})
        assert answer.status_code == 200, answer.text


async def test_a_mailed_token_sets_a_password_once_and_ends_what_the_old_one_began(mailing: Hub) -> None:
    user, old = await make_user(mailing)
    login = user.user["login"]
    session = await mailing.as_session(login, old)
    token, new = await mailed_token(mailing, login), f"pass {secrets.token_hex(8)}"
    [mail] = mails(mailing)
    assert mail["to"] == f"{login}@example.com"
    assert await confirm(mailing, token, new) == (200, set())
    await mailing.as_session(login, new)
    assert (await mailing.client().post("/auth", {"login": login, "password": old})).status_code == 401
    assert (await session.get("/auth")).status_code == 401
    assert (await user.get("/auth")).status_code == 401
    assert await confirm(mailing, token, old) == (400, {"token"})
    assert token not in mailing.process.log


async def test_an_unknown_login_is_answered_alike_and_gets_no_mail(mailing: Hub) -> None:
    disabled, _ = await make_user(mailing)
    await mailing.admin.patch(f"/users/{disabled.id}", {"disabled": True})
    without = await mailing.as_user()
    for login in ("nobody", disabled.user["login"], without.user["login"], "\0", "x" * 1_000):
        answer = await mailing.client().post("/auth/reset", {"login": login})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    user, _ = await make_user(mailing)
    await mailed_token(mailing, user.user["login"])
    assert [mail["to"] for mail in mails(mailing)] == [f"{user.user['login']}@example.com"]


async def test_a_weak_password_is_refused_and_the_token_stays(mailing: Hub) -> None:
    user, _ = await make_user(mailing)
    token = await mailed_token(mailing, user.user["login"])
    assert await confirm(mailing, token, "short") == (400, {"password"})
    assert await confirm(mailing, token, f"pass {secrets.token_hex(8)}") == (200, set())


async def test_confirmations_at_once_are_limited(mailing: Hub) -> None:
    """Each takes the time and memory of a hash, so only two of a user are prepared at a time. Invalid tokens take no
    place."""
    user, _ = await make_user(mailing)
    token, new = await mailed_token(mailing, user.user["login"]), f"pass {secrets.token_hex(8)}"
    invalid = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    many = [confirm(mailing, each, new) for each in (invalid, token) for _ in range(20)]
    answers = await asyncio.gather(*many)
    assert answers[:20] == [(400, {"token"})] * 20
    statuses = [status for status, _ in answers[20:]]
    assert statuses.count(200) == 1
    assert 429 in statuses
    await mailing.as_session(user.user["login"], new)


async def test_a_change_of_the_password_or_the_address_makes_tokens_worthless(mailing: Hub) -> None:
    user, _ = await make_user(mailing)
    login = user.user["login"]
    by_password = await mailed_token(mailing, login)
    await mailing.admin.patch(f"/users/{user.id}", {"password": f"pass {secrets.token_hex(8)}"})
    assert await confirm(mailing, by_password, f"pass {secrets.token_hex(8)}") == (400, {"token"})
    by_email = await mailed_token(mailing, login, 2)
    await mailing.admin.patch(f"/users/{user.id}", {"email": "other@example.com"})
    assert await confirm(mailing, by_email, f"pass {secrets.token_hex(8)}") == (400, {"token"})


async def test_an_address_that_breaks_the_mail_parser_is_refused_and_keeps_nobody_from_a_reset(mailing: Hub) -> None:
    for address in ("a@", '"', "a@[", ",.<\\>'b"):
        user, _ = await make_user(mailing)
        refused(await mailing.admin.patch(f"/users/{user.id}", {"email": address}), 400, "email")
        answer = await mailing.client().post("/auth/reset", {"login": user.user["login"]})
        assert answer.status_code == 200
    other, _ = await make_user(mailing)
    await mailed_token(mailing, other.user["login"])


async def test_a_user_without_a_password_sets_the_first_one(mailing: Hub) -> None:
    login = unique("user")
    made = await mailing.admin.post("/users", {"login": login, "email": f"{login}@example.com"})
    assert made.status_code == 200, made.text
    token, password = await mailed_token(mailing, login), f"pass {secrets.token_hex(8)}"
    assert await confirm(mailing, token, password) == (200, set())
    await mailing.as_session(login, password)


async def test_a_mailbox_is_not_flooded(mailing: Hub) -> None:
    user, _ = await make_user(mailing)
    other, _ = await make_user(mailing)
    for _ in range(9):
        answer = await mailing.client().post("/auth/reset", {"login": user.user["login"]})
        assert answer.status_code == 200
    await mailed_token(mailing, other.user["login"], 6)
    assert len([mail for mail in mails(mailing) if mail["to"].startswith(user.user["login"])]) == 5


async def test_one_address_asks_so_often(mailing: Hub) -> None:
    answers = [await mailing.client().post("/auth/reset", {"login": unique("nobody")}) for _ in range(51)]
    assert [answer.status_code for answer in answers] == [200] * 50 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_another_sites_page_cannot_ask(mailing: Hub) -> None:
    client = mailing.client(origin="https://evil.example.com")
    assert (await client.post("/auth/reset", {"login": "admin"})).status_code == 403


async def test_the_mail_leads_to_a_page_without_foreign_parts(mailing: Hub) -> None:
    page = await fetch(f"{mailing.url}/api/v1/auth/reset/confirm")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "src=" not in page.text
    assert "http" not in page.text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, {"token"}),
        ({"token": "x"}, {"password"}),
        ({"token": "x", "password": "y" * 12}, {"token"}),
        ({"token": "é" * 50, "password": "y" * 12}, {"token"}),
        ({"token": 1, "password": "y" * 12}, {"token"}),
        ({"token": "x", "password": "y" * 12, "user": "me"}, {"user"}),
        ([], {"body"}),
    ],
)
async def test_a_wrong_body_is_named(hub: Hub, body: object, named: set[str]) -> None:
    answer = await hub.client().post("/auth/reset/confirm", body)
    assert (answer.status_code, set(answer.json()["errors"])) == (400, named)


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_the_old_password_began_has_ended_with_the_answer(database: Database, tmp_path: Path) -> None:
    """In the process that answers, even if the feed tells it nothing yet."""
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    secret = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY}
    hub = assemble(Settings(data_dir=tmp_path, **secret))  # type: ignore[arg-type]
    hub.resolver.forget = lambda changes: None  # type: ignore[method-assign]
    async with hub.run():
        issued = await hub.accounts.sign_in(ADMIN_LOGIN, ADMIN_PASSWORD, None, "session", "192.0.2.1", "")
        principal = await hub.resolver.resolve(issued.credential)
        user = await find_one(hub.engine, "users", principal.user_id)
        assert user is not None
        await hub.resets.confirm(new_token(hub.key.key, user, now_ms()), "another horse battery")
        with pytest.raises(Unauthenticated):
            await hub.resolver.resolve(issued.credential)
