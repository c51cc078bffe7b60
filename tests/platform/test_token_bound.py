"""A user's numbers of tokens and of sessions are limited, whichever way they are created."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.platform.answers import good, refused
from tests.support.engines import Database
from tests.support.hub import Hub, running_hub
from tests.support.standstill import no_standstill, read_metrics

MOST = 5
PASSWORD = "open sesame 1"


@pytest.fixture
async def narrow(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", max_tokens_per_user=MOST, max_sessions_per_user=MOST) as hub:
        yield hub


def is_refused(answer: httpx.Response) -> bool:
    if answer.status_code == 200:
        return False
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"] == {
        "user": [f"A user may have {MOST} tokens: this one has {MOST}. Revoke some first."]
    }
    return True


async def test_further_tokens_of_a_user_are_refused(narrow: Hub) -> None:
    """They are refused for the user, for an administrator, and in an array. Revoking one allows another; other users
    have their own limit."""
    user, other = await narrow.as_user(), await narrow.as_user()
    made = [await user.make("tokens", {"name": str(n)}) for n in range(MOST - 1)]
    assert is_refused(await user.post("/tokens", {"name": "one more"}))
    assert is_refused(await narrow.admin.post("/tokens", {"name": "one more", "user": user.id}))
    array = await other.post("/tokens", [{"name": str(n)} for n in range(MOST)])
    assert (array.status_code, list(array.json()["errors"])) == (400, ["user"]), array.text
    assert (await other.post("/tokens", [{"name": str(n)} for n in range(MOST - 1)])).status_code == 200
    assert (await user.delete(f"/tokens/{made[0]['_id']}")).status_code == 200
    assert (await user.post("/tokens", {"name": "again"})).status_code == 200
    limits = await read_metrics(narrow.url)
    assert limits.value("hub_limit_reached_total", limit="max_tokens_per_user") == 3


async def test_many_at_once_are_no_more_than_one_after_another(narrow: Hub) -> None:
    user = await narrow.as_user()
    answers = await asyncio.gather(*(user.post("/tokens", {"name": str(n)}) for n in range(3 * MOST)))
    assert [is_refused(answer) for answer in answers].count(False) == MOST - 1
    assert len(await user.list("tokens")) == MOST


async def test_too_many_tokens_in_one_array_are_refused_before_they_are_prepared(narrow: Hub) -> None:
    """The limit is tested before other rules. An administrator's array may be as long for many users."""
    user, other = await narrow.as_user(), await narrow.as_user()
    wrong = [{"name": "x", "scopes": ["no scope"]}] * MOST
    refusal = await user.post("/tokens", wrong)
    assert refusal.status_code == 400
    assert refusal.json()["errors"].keys() == {"0.scopes"}
    refusal = await user.post("/tokens", [*wrong, wrong[0]])
    assert refusal.json()["errors"] == {"user": [f"A user may have {MOST} tokens: this one has 1. Revoke some first."]}
    refusal = await user.post("/tokens", [{"name": "x", "user": other.id}] * (MOST + 1))
    assert refusal.status_code == 403
    array = [{"name": "x", "user": each.id} for each in (user, other) for _ in range(MOST - 1)]
    made = await narrow.admin.make_all("tokens", array)
    assert [token["user"] for token in made] == [body["user"] for body in array]
    assert len({token["token"] for token in made}) == len(array)


async def test_a_sign_in_beyond_the_limit_ends_the_oldest_session(narrow: Hub) -> None:
    """Cookies and access tokens count together, and each user alone. Ended sessions are refused at once, though they
    were in use."""
    user, other = await narrow.as_user(PASSWORD), await narrow.as_user(PASSWORD)
    logins = [other.user["login"], *[user.user["login"]] * (MOST - 2)]
    begun = [await narrow.as_session(login, PASSWORD) for login in logins]
    for _ in range(4):
        token = await narrow.token_of(user.user["login"], PASSWORD)
        begun.append(narrow.client(token))
        good(await begun[-1].get("/auth"))
    for ended in begun[1:3]:
        refused(await ended.get("/auth"), 401)
    for going in (begun[0], *begun[3:], user):
        good(await going.get("/auth"))
    assert len(await user.list("sessions")) == MOST
    assert (await read_metrics(narrow.url)).value("hub_limit_reached_total", limit="max_sessions_per_user") == 2


async def test_sessions_beyond_a_lower_limit_end_with_the_next_sign_in(database: Database, tmp_path: Path) -> None:
    async with running_hub(database, tmp_path / "hub") as hub:
        user = await hub.as_user(PASSWORD)
        for _ in range(2 * MOST):
            await hub.token_of(user.user["login"], PASSWORD)
    async with running_hub(database, tmp_path / "hub", max_sessions_per_user=1) as hub:
        last = hub.client(await hub.token_of(user.user["login"], PASSWORD))
        assert len(await last.list("sessions")) == 1


async def test_an_array_of_a_system_store_does_not_block_the_loop(hub: Hub) -> None:
    user = await hub.as_user()
    async with no_standstill(hub.url):
        assert (await user.post("/tokens", [{"name": "a"}] * 10_000)).status_code == 400
        assert (await user.post("/tokens", [{"name": "a"}] * 900)).status_code == 200
        groups = await hub.admin.post("/groups", [{"name": "a"}] * 10_000)
        assert groups.status_code == 200
