"""Password guessing: how attempts are counted, what a refused guess costs, and that others can still sign in."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import httpx
import pytest

from auth.attempts import LOGIN_COUNTS, LoginAttempts, LoginQueue
from auth.errors import TooManyAttempts
from hub.services import accounts
from hub.services import expectations as expect
from hub.services.registry import StoreRegistry
from stores.errors import NotAsExpected
from stores.protocol import DeleteMany, Engine, Insert, Update
from stores.query import Equal, Query
from stores.records import Entity, new_id, now_ms
from tests.platform.answers import good, refused
from tests.support.engines import Database
from tests.support.hub import DEFAULT_HASHES, Hub, eventually, running_hub, unique
from tests.support.standstill import no_standstill, read_metrics
from tests.support.tasks import end

PASSWORD = "open sesame 1"
RACES = 1_000
AT_ONCE = 20


class Clock:
    """A clock in seconds that the test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def is_taken(attempts: LoginAttempts, login: str, address: str) -> bool:
    try:
        attempts.take(login, address)
    except TooManyAttempts:
        return False
    return True


def test_the_window_moves() -> None:
    """Each attempt counts until its window ends, which is exactly the second that `retry_after` names."""
    clock = Clock()
    attempts = LoginAttempts(3, 60, clock)
    for _ in range(3):
        attempts.take("ada", "192.0.2.1")
        clock.now += 10
    with pytest.raises(TooManyAttempts) as refusal:
        attempts.take("ada", "192.0.2.1")
    clock.now += refusal.value.retry_after - 1
    assert not is_taken(attempts, "ada", "192.0.2.1")
    clock.now += 1
    assert is_taken(attempts, "ada", "192.0.2.1")
    assert not is_taken(attempts, "ada", "192.0.2.1")


def test_an_ipv6_network_counts_as_one_address() -> None:
    """An attacker with one address of a /64 network has all of them. An IPv4 address written as IPv6 counts as the
    same address."""
    attempts = LoginAttempts(10, 300, Clock())
    assert sum(is_taken(attempts, "ada", f"2001:db8::{n:x}") for n in range(1, 40)) == 10
    assert is_taken(attempts, "ada", "2001:db8:0:1::1")
    assert sum(is_taken(attempts, "ada", "::ffff:192.0.2.1" if n % 2 else "192.0.2.1") for n in range(40)) == 10


def test_a_refused_address_uses_up_nobodys_attempts() -> None:
    """The address is checked before the login is counted."""
    attempts = LoginAttempts(2, 300, Clock())
    assert sum(is_taken(attempts, f"name {n}", "192.0.2.1") for n in range(100)) == 20
    counted = len(attempts.names)
    assert not is_taken(attempts, "ada", "192.0.2.1")
    assert len(attempts.names) == counted


def test_refused_logins_cost_no_memory() -> None:
    """A hundred thousand refused guesses from one address, with logins of any length, keep no memory."""
    attempts = LoginAttempts(10, 300, Clock())
    for n in range(200):
        is_taken(attempts, f"{n}", "192.0.2.1")
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(100_000):
            assert not is_taken(attempts, f"{n}" * 100, "192.0.2.1")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_the_table_has_an_end_and_empties_itself() -> None:
    """With guesses from many addresses the oldest counts are dropped; after the window all counts are gone."""
    clock = Clock()
    attempts = LoginAttempts(10, 300, clock)
    for n in range(3 * LOGIN_COUNTS):
        attempts.take("ada", f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1")
        attempts.succeeded("ada", f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1") if n % 3 == 0 else None
    assert len(attempts.addresses) <= LOGIN_COUNTS
    assert len(attempts.names) <= LOGIN_COUNTS
    clock.now += 301
    attempts.take("ada", "192.0.2.1")
    assert (len(attempts.names), len(attempts.addresses)) == (1, 1)


def test_made_up_names_push_out_no_count_of_an_account() -> None:
    """Guesses of one user's codes stay counted, whatever the number of logins tried and of networks they come from."""
    attempts = LoginAttempts(2, 300, Clock())
    attempts.take_of("code:ada")
    attempts.take_of("code:ada")
    for n in range(LOGIN_COUNTS + 1):
        attempts.take(f"name {n}", f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1")
    with pytest.raises(TooManyAttempts):
        attempts.take_of("code:ada")


def test_guesses_with_a_credential_count_for_it_alone() -> None:
    """Neither those of another session nor those of sign-ins are counted with them, and a user with many sessions
    pushes out no count of an account."""
    attempts = LoginAttempts(2, 300, Clock())
    for credential in (None, "stolen"):
        attempts.take_of("code:ada", credential)
        attempts.take_of("code:ada", credential)
    attempts.take_of("code:ada", "own")
    attempts.succeeded_of("code:ada", "own")
    for n in range(LOGIN_COUNTS):
        attempts.take_of("code:eve", str(n))
    with pytest.raises(TooManyAttempts):
        attempts.take_of("code:ada")
    assert len(attempts.credentials) == LOGIN_COUNTS


@pytest.mark.parametrize("forgive", [lambda a: a.forgive("ada", "user:ada", "new"), lambda a: a.forgive_all("user:")])
def test_a_new_password_forgives_guesses_with_any_credential(forgive: Callable[[LoginAttempts], None]) -> None:
    attempts = LoginAttempts(1, 300, Clock())
    for account in ("user:ada", "code:ada"):
        attempts.take_of(account, "own")
    forgive(attempts)
    attempts.take_of("user:ada", "own")
    with pytest.raises(TooManyAttempts):
        attempts.take_of("code:ada", "own")


def test_after_a_gap_only_guesses_of_passwords_are_forgiven() -> None:
    """Those of one-time codes stay counted, and those of an address."""
    attempts = LoginAttempts(2, 300, Clock())
    for account in ("user:ada", "code:ada"):
        attempts.take_of(account)
        attempts.take_of(account)
    assert sum(is_taken(attempts, f"name {n % 10}", "192.0.2.1") for n in range(30)) == 20
    attempts.take("ada", "192.0.2.2")
    attempts.take("ada", "192.0.2.2")
    attempts.forgive_all("user:")
    attempts.take_of("user:ada")
    attempts.take("ada", "192.0.2.2")
    assert not is_taken(attempts, "name 0", "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        attempts.take_of("code:ada")


def test_one_address_takes_half_of_the_queue() -> None:
    """The other half is for other addresses; a slot becomes free when its login is done."""
    queue = LoginQueue(4)
    with queue.slot("192.0.2.1"), queue.slot("192.0.2.1"):
        with pytest.raises(TooManyAttempts), queue.slot("192.0.2.1"):
            pass
        with queue.slot("192.0.2.2"), queue.slot("2001:db8::1"):
            with pytest.raises(TooManyAttempts) as refusal, queue.slot("192.0.2.3"):
                pass
            assert refusal.value.limit_name == "login_queue"
    with queue.slot("192.0.2.1"):
        pass


async def test_guesses_from_one_network_end_at_the_same_limit_as_from_one_address(
    database: Database, tmp_path: Path
) -> None:
    """Both limits hold for the network, per login and for all logins, and every refusal is counted."""
    async with running_hub(database, tmp_path, login_attempts=3) as hub:
        user = await hub.as_user(password=PASSWORD)
        statuses = [await guess(hub, user.user["login"], f"2001:db8::{n}") for n in range(1, 6)]
        assert statuses == [401] * 3 + [429] * 2
        statuses = [await guess(hub, unique("nobody"), f"2001:db8::{n}") for n in range(1, 32)]
        assert statuses == [401] * 27 + [429] * 4
        assert await guess(hub, user.user["login"], "2001:db8:0:1::1") == 401
        assert (await read_metrics(hub.url)).value("hub_limit_reached_total", limit="login_attempts") == 6


async def guess(hub: Hub, login: str, address: str) -> int:
    client = hub.client(x_forwarded_for=address)
    return (await client.post("/auth", {"login": login, "password": "wrong password"})).status_code


async def test_fifty_logins_at_once_keep_nobody_out(database: Database, tmp_path: Path) -> None:
    """Beyond a short queue they are refused with Retry-After; others sign in immediately; the loop is not blocked."""
    async with running_hub(database, tmp_path, login_queue=8, password_memory_kib=DEFAULT_HASHES) as hub:
        user = await hub.as_user(password=PASSWORD)
        right = {"login": user.user["login"], "password": PASSWORD}
        async with no_standstill(hub.url):
            flood = [hub.client(x_forwarded_for="203.0.113.9").post("/auth", right) for _ in range(50)]
            pending = asyncio.gather(*flood)
            for number in range(3):
                good(await hub.client(x_forwarded_for=f"192.0.2.{number}").post("/auth", right))
            answers = await pending
        turned_away = [answer for answer in answers if answer.status_code == 429]
        assert len(turned_away) >= 30
        for answer in turned_away:
            refused(answer, 429)
            assert int(answer.headers["retry-after"]) == 1
        assert {answer.status_code for answer in answers} == {200, 429}
        limit = (await read_metrics(hub.url)).value("hub_limit_reached_total", limit="login_queue")
        assert limit == len(turned_away)


KATAKANA = "\u30fb" * 999 + "\u30a2"
PERSIAN = "\u06f0" * 1_000
"""Each character is judged by all the others."""


async def test_logins_and_passwords_that_are_costly_to_prepare_do_not_block_the_loop(hub: Hub) -> None:
    member = await hub.as_user(password=PASSWORD)
    user = await hub.as_session(member.user["login"], PASSWORD)
    async with no_standstill(hub.url):
        for text in (KATAKANA, PERSIAN, KATAKANA[-255:], PERSIAN[-255:]):
            for path in ("/auth", "/auth/token"):
                refused(await hub.client().post(path, {"login": text, "password": text}), 401)
            refused(await user.patch(f"/users/{member.id}", {"email": "a@example.org", "current_password": text}), 400)
        # Without a limit of its own this would keep a thread for hours.
        long = KATAKANA[:-1] * 300 + "\u30a2"
        refused(await user.patch(f"/users/{member.id}", {"email": "a@example.org", "current_password": long}), 400)


@pytest.mark.parametrize(("tried", "slots"), [(10, 8), (0, 0)])
async def test_refused_addresses_cost_no_preparation_of_the_login(
    tried: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot in the queue and the attempts of the address are tested before."""
    prepared = Mock(return_value=("ada", "ada"))
    monkeypatch.setattr(accounts, "spellings", prepared)
    limits = LoginAttempts(1, 300), LoginQueue(slots, slots)
    for n in range(tried):
        limits[0].take(f"name {n}", "192.0.2.1")
    signing_in = accounts.Accounts(Mock(), Mock(), Mock(), *limits, Mock(), AsyncMock(), 1, 1, 1, Mock())
    with pytest.raises(TooManyAttempts):
        await signing_in.sign_in("ada", PASSWORD, None, "session", "192.0.2.1", "")
    assert not prepared.called


async def test_changes_of_an_account_take_no_place_of_a_login(database: Database, tmp_path: Path) -> None:
    """One attacker, with sign-ins and account changes at once, does not keep others from signing in."""
    async with running_hub(database, tmp_path, login_queue=4, password_memory_kib=DEFAULT_HASHES) as hub:
        user, other = await hub.as_user(password=PASSWORD), await hub.as_user(password=PASSWORD)
        session = await hub.as_session(user.user["login"], PASSWORD)
        statuses: list[int] = []

        async def flood(call: Callable[[], Awaitable[httpx.Response]]) -> None:
            while True:
                statuses.append((await call()).status_code)

        flooder = hub.client(x_forwarded_for="203.0.113.9")
        right = {"login": user.user["login"], "password": PASSWORD}
        change = {"email": "a@example.com", "current_password": "wrong"}
        floods = [lambda: flooder.post("/auth", right), lambda: session.patch(f"/users/{user.id}", change)]
        tasks = [asyncio.create_task(flood(call)) for call in floods * 6]
        try:
            await eventually(lambda: asyncio.sleep(0, 429 in statuses))
            for number in range(5):
                sign_in = {"login": other.user["login"], "password": PASSWORD}
                good(await hub.client(x_forwarded_for=f"192.0.2.{number}").post("/auth", sign_in))
        finally:
            await end(*tasks)


@pytest.mark.gate("mongodb")
async def test_of_a_thousand_sessions_that_meet_a_new_password_none_remains(engine: Engine) -> None:
    """A session is created in the commit that checks the password, and a new password deletes existing sessions."""
    await StoreRegistry(engine).open()
    for _ in range(RACES // AT_ONCE):
        users = [user_entity() for _ in range(AT_ONCE)]
        await engine.commit([Insert("users", user) for user in users], None)
        await asyncio.gather(*(race(engine, user) for user in users))
    assert await engine.entities("sessions", Query(limit=1)) == []


async def race(engine: Engine, user: Entity) -> None:
    """Create a session with the current password while another password is set."""
    mine = Equal(("user",), user["_id"])
    session = {"_id": new_id(), "user": user["_id"], "digest": new_id(), "time": now_ms(), "_rev": 1, "owner": None}

    async def begin() -> None:
        try:
            await engine.commit([expect.password_is(user), Insert("sessions", session)], None)
        except NotAsExpected:
            pass

    change = Update("users", user["_id"], {"password": "new"})
    ended = DeleteMany("sessions", mine, 100)
    await asyncio.gather(begin(), engine.commit([change, expect.user_exists(user["_id"]), ended], None))


def user_entity() -> Entity:
    id = new_id()
    return {"_id": id, "login": id, "password": "old", "time": now_ms(), "_rev": 1, "owner": id}
