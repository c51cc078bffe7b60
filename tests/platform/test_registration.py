"""Registration by mailed codes: what a code gives, once, and what nobody learns or guesses."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from auth.errors import TooManyAttempts, Unauthenticated
from hub.app import assemble
from hub.running import Hub
from hub.services.registration import CODES, HOUR, MOST_CODE_REQUESTS, MOST_CODES, MOST_TRIES, InvalidCode
from hub.settings import Settings
from stores.errors import InvalidEntity
from stores.protocol import Update
from stores.query import Equal, Query
from stores.records import Entity, now_ms
from tests.support.engines import Database
from tests.support.hub import ADMIN_PASSWORD, QUICK_HASHES, SECRET_KEY, eventually, unique
from tests.support.racing import Racing

ADDRESS = "192.0.2.1"
CODE = re.compile(r"^Your verification code is: ([0-9]{6})$", re.MULTILINE)


@dataclass
class Registering(Racing):
    """A running hub in this process, which writes its mails into a folder."""

    @property
    def mails(self) -> list[tuple[str, str]]:
        """The mails, oldest first, each as recipient and text."""
        paths = sorted((self.hub.settings.data_dir / "outbox").glob("*.eml"))
        found = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]
        return [(mail["to"], mail.get_content()) for mail in found if mail["to"]]

    async def user(self, **fields: Any) -> Entity:
        login = unique("user")
        return await self.see(
            "users", await self.make("users", {"login": login, "email": f"{login}@example.com"} | fields)
        )

    async def ask(self, login: str, times: int = 1) -> None:
        """Request codes, and wait until all requests have been served."""
        for _ in range(times):
            await self.hub.registration.request_code(login, ADDRESS)
        await self.served()

    async def served(self) -> None:
        """Wait until the requests before this one have been served, and their mails are written. A user asks last, and
        gets a mail."""
        last = await self.user()
        await self.hub.registration.request_code(last["login"], ADDRESS)

        async def arrived() -> bool:
            return any(to == last["email"] for to, _ in self.mails)

        await eventually(arrived)

    def codes(self, user: Entity) -> list[str]:
        """Return the codes that the user has got, oldest first."""
        found = [CODE.search(text) for to, text in self.mails if to == user["email"]]
        return [match[1] for match in found if match]

    async def code(self, user: Entity) -> str:
        await self.ask(user["login"])
        return self.codes(user)[-1]

    async def verify(self, user: Entity, code: str, name: str = "site") -> tuple[str, Entity]:
        return await self.hub.registration.verify(user["login"], code, name)

    async def keys(self, user: Entity) -> list[Entity]:
        return await self.hub.engine.entities("keys", Query(Equal(("user",), user["_id"])))

    async def record(self, user: Entity) -> Entity:
        [record] = await self.hub.engine.entities(CODES.name, Query(Equal(("account",), user["_id"])))
        return record

    async def set(self, user: Entity, **fields: Any) -> None:
        await self.hub.engine.commit([Update(CODES.name, (await self.record(user))["_id"], fields)], None)


@asynccontextmanager
async def in_process(database: Database, folder: Path, monkeypatch: Any, **settings: Any) -> AsyncIterator[Registering]:
    url = database.location if database.kind == "mongodb" else f"sqlite:///{database.location}"
    given = {"admin_password": ADMIN_PASSWORD, "database_url": url, "secret_key": SECRET_KEY, "data_dir": folder}
    hub: Hub = assemble(Settings(password_memory_kib=QUICK_HASHES, **given | settings))  # type: ignore[arg-type]
    async with hub.run():
        yield Registering(hub, await hub.resolver.resolve(hub.control_token), monkeypatch)


@pytest.fixture
async def desk(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registering]:
    async with in_process(database, tmp_path, monkeypatch) as registering:
        yield registering


def wrong(code: str, step: int = 1) -> str:
    return f"{(int(code) + step) % 1_000_000:06}"


async def outcomes(*calls: Awaitable[tuple[str, Entity]]) -> list[str]:
    """Make concurrent calls; return the secrets that they got. All others must be refused as invalid codes."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    secrets = [each[0] for each in found if isinstance(each, tuple)]
    assert all(isinstance(each, InvalidCode) for each in found if not isinstance(each, tuple)), found
    return secrets


# What a code gives.


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_mailed_code_gives_a_key_that_reads_once(desk: Registering) -> None:
    user = await desk.user()
    code = await desk.code(user)
    [(_, text)] = [mail for mail in desk.mails if mail[0] == user["email"]]
    assert f"for '{user['login']}' from the address {ADDRESS}." in text
    assert "within 10 minutes" in text
    secret, found = await desk.verify(user, f" {code}\n", "My website")
    assert found == {"login": user["login"], "number": user["number"]}
    holder = await desk.hub.resolver.resolve_key(secret, "listings")
    assert (holder.principal.user_id, holder.key.name, holder.key.scope) == (user["_id"], "My website", "R")
    [key] = await desk.keys(user)
    assert (key["owner"], key["allowed_origins"], key["expires"], key["active"]) == (user["_id"], [], None, True)
    with pytest.raises(InvalidCode):
        await desk.verify(user, code)
    assert len(await desk.keys(user)) == 1


async def test_a_login_counts_without_case(desk: Registering) -> None:
    user = await desk.user(login="Ada", email="ada@example.com")
    code = await desk.code(user | {"login": "ADA"})
    assert await desk.hub.registration.verify("aDa", code, "site")


async def test_a_new_code_replaces_the_old_one(desk: Registering) -> None:
    user = await desk.user()
    old, new = await desk.code(user), await desk.code(user)
    if old != new:
        with pytest.raises(InvalidCode):
            await desk.verify(user, old)
    assert await desk.verify(user, new)


async def test_a_code_is_for_the_address_that_it_was_mailed_to(desk: Registering) -> None:
    user = await desk.user()
    code = await desk.code(user)
    for address in (f"new-{user['email']}", user["email"]):
        await desk.hub.entities.change(desk.principal, "users", user["_id"], {"email": address}, None)
        if address != user["email"]:
            with pytest.raises(InvalidCode):
                await desk.verify(user, code)
    assert await desk.verify(user, code)


async def test_a_code_expires(desk: Registering) -> None:
    user = await desk.user()
    code = await desk.code(user)
    await desk.set(user, expires=now_ms() - 1)
    with pytest.raises(InvalidCode):
        await desk.verify(user, code)


async def test_the_lifetime_of_a_code_is_a_setting(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process(database, tmp_path, monkeypatch, register_code_seconds=7_200) as desk:
        user = await desk.user()
        await desk.code(user)
        record = await desk.record(user)
        assert 7_100_000 < record["expires"] - now_ms() <= 7_200_000
        assert record["until"] == record["expires"]
        assert "within 120 minutes" in desk.mails[0][1]


async def test_a_code_is_stored_as_a_keyed_digest_and_never_logged(
    desk: Registering, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # as the hub has it for libraries
    caplog.set_level(logging.DEBUG, "hub")
    user = await desk.user()
    code = await desk.code(user)
    digest = (await desk.record(user))["digest"]
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert digest == desk.hub.key.key.digest("registration codes", f"{user['_id']}:{user['email']}:{code}".encode())
    secret, _ = await desk.verify(user, code)
    assert not any(each in caplog.text for each in (code, secret, digest))


@pytest.mark.parametrize("name", ["", "x" * 256])
async def test_a_name_that_no_key_can_have_is_refused_before_the_code_counts(desk: Registering, name: str) -> None:
    user = await desk.user()
    code = await desk.code(user)
    with pytest.raises(InvalidEntity):
        await desk.verify(user, code, name)
    assert await desk.verify(user, code)


async def test_a_user_with_too_many_keys_keeps_the_code(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who has the code learns of it."""
    async with in_process(database, tmp_path, monkeypatch, max_keys_per_user=1) as desk:
        user = await desk.user()
        key = await desk.make("keys", {"name": "first", "kind": "listings", "user": user["_id"]})
        code = await desk.code(user)
        with pytest.raises(InvalidCode):
            await desk.verify(user, wrong(code))
        with pytest.raises(InvalidEntity) as refused:
            await desk.verify(user, code)
        assert refused.value.limit_name == "max_keys_per_user"
        await desk.hub.entities.delete(desk.principal, "keys", key, None)
        assert await desk.verify(user, code)


# What nobody learns.


async def test_who_cannot_register_gets_no_mail_and_the_same_answer(desk: Registering) -> None:
    disabled, without = await desk.user(disabled=True), await desk.user(email=None)
    for login in (disabled["login"], without["login"], unique("nobody"), "\0", "é\ud800", "x" * 1_000, ""):
        await desk.ask(login)
        for code in ("000000", "", "x" * 1_000, "\ud800", "١٢٣٤٥٦"):
            with pytest.raises(InvalidCode):
                await desk.hub.registration.verify(login, code, "site")
    assert not [to for to, _ in desk.mails if to == disabled["email"]]


async def test_a_login_without_an_account_costs_the_same_work(desk: Registering) -> None:
    """The reads and the commits are the same, so the time is."""
    asked, silent = await desk.user(), await desk.user()
    disabled = await desk.user(disabled=True)
    code = await desk.code(asked)
    unknown = unique("nobody")
    await desk.ask(unknown)
    engine: Any = desk.hub.engine
    work: list[tuple[str, ...]] = []
    entities, commit = engine.entities, engine.commit

    async def read(store: str, *args: Any) -> Any:
        work.append(("read", store))
        return await entities(store, *args)

    async def write(writes: Any, *args: Any, **more: Any) -> Any:
        work.append(("commit", *(f"{type(each).__name__} {each.store}" for each in writes)))
        return await commit(writes, *args, **more)

    desk.monkeypatch.setattr(engine, "entities", read)
    desk.monkeypatch.setattr(engine, "commit", write)
    seen = []
    for login in (asked["login"], silent["login"], disabled["login"], unknown, unique("nobody")):
        for _ in range(MOST_TRIES + 2):
            work.clear()
            with pytest.raises(InvalidCode):
                await desk.hub.registration.verify(login, wrong(code), "site")
            seen.append(tuple(work))
    assert len(set(seen)) == 1
    assert [step[0] for step in seen[0]] == ["read", "read", "commit"]
    asking = []
    for login in (asked["login"], silent["login"], disabled["login"], unknown, unique("nobody")):
        work.clear()
        await desk.hub.registration._issue(login, ADDRESS)
        asking.append(tuple(work))
    assert len(set(asking)) == 1


async def test_decoys_are_few_and_no_users(desk: Registering) -> None:
    registration = desk.hub.registration
    ids = {registration._decoy(f"nobody {n}") for n in range(20_000)}
    assert 1_000 < len(ids) <= 4_096
    assert registration._decoy("ann") == registration._decoy("ann")
    assert all(re.fullmatch(r"[0-9a-f]{24}", id) for id in ids)


async def test_requests_that_wait_are_bounded(desk: Registering) -> None:
    """The loop does not serve any of them meanwhile."""
    registration = desk.hub.registration
    for _ in range(MOST_CODE_REQUESTS):
        await registration.request_code("nobody", ADDRESS)
    with pytest.raises(TooManyAttempts) as refused:
        await registration.request_code("nobody", ADDRESS)
    assert refused.value.limit_name == "MOST_CODE_REQUESTS"


# What nobody guesses.


@pytest.mark.gate("sqlite", "mongodb")
async def test_five_wrong_tries_lock_a_code(desk: Registering) -> None:
    """Four do not, and a new code may be tried again."""
    user = await desk.user()
    for tries in (MOST_TRIES - 1, MOST_TRIES):
        code = await desk.code(user)
        for step in range(tries):
            with pytest.raises(InvalidCode):
                await desk.verify(user, wrong(code, step + 1))
        if tries < MOST_TRIES:
            assert await desk.verify(user, code)
            continue
        with pytest.raises(InvalidCode):
            await desk.verify(user, code)
        assert await desk.verify(user, await desk.code(user))


async def test_an_account_gets_ten_codes_an_hour(desk: Registering) -> None:
    """Others are not concerned. At the limit, the last code stays valid."""
    user = await desk.user()
    await desk.ask(user["login"], MOST_CODES + 3)
    assert len(desk.codes(user)) == MOST_CODES
    secret, _ = await desk.verify(user, desk.codes(user)[-1])
    assert secret
    sent = (await desk.record(user))["sent"]
    await desk.set(user, sent=[sent[0] - HOUR, *sent[1:]])
    await desk.ask(user["login"], 2)
    assert len(desk.codes(user)) == MOST_CODES + 1


async def test_a_count_of_codes_survives_their_use_and_the_sweep(desk: Registering) -> None:
    user = await desk.user()
    await desk.ask(user["login"], MOST_CODES)
    await desk.hub.registration.sweep(now_ms() + HOUR - 60_000)
    await desk.ask(user["login"])
    assert len(desk.codes(user)) == MOST_CODES
    await desk.hub.registration.sweep(now_ms() + HOUR + 1_000)
    assert await desk.hub.engine.entities(CODES.name, Query()) == []


async def test_a_code_is_not_that_of_another_user(desk: Registering) -> None:
    one, two = await desk.user(), await desk.user()
    codes = [await desk.code(each) for each in (one, two)]
    if codes[0] != codes[1]:
        with pytest.raises(InvalidCode):
            await desk.verify(one, codes[1])
    assert await desk.verify(two, codes[1])


# Races.


@pytest.mark.races
@pytest.mark.gate("sqlite", "mongodb")
async def test_one_code_gives_one_key(desk: Registering, races: int) -> None:
    for _ in range(races):
        user = await desk.user()
        code = await desk.code(user)
        secrets = await outcomes(*(desk.verify(user, code) for _ in range(4)))
        assert len(secrets) == len(await desk.keys(user)) == 1


@pytest.mark.races
@pytest.mark.gate("sqlite", "mongodb")
async def test_guesses_at_once_are_five(desk: Registering, races: int) -> None:
    """The right code is among them as the last one."""
    for _ in range(races):
        user = await desk.user()
        code = await desk.code(user)
        assert not await outcomes(*(desk.verify(user, wrong(code, step + 1)) for step in range(MOST_TRIES)))
        assert not await outcomes(*(desk.verify(user, code) for _ in range(3)))
        assert (await desk.record(user))["tries"] == MOST_TRIES + 3


@pytest.mark.races
@pytest.mark.gate("sqlite", "mongodb")
async def test_a_user_who_goes_meanwhile_has_no_key_that_opens(desk: Registering, races: int) -> None:
    """Deleted, or disabled."""
    entities, admin = desk.hub.entities, desk.principal
    for number in range(races):
        user = await desk.user()
        code = await desk.code(user)
        if number % 2:
            going: Awaitable[object] = entities.delete(admin, "users", user["_id"], None)
        else:
            going = entities.change(admin, "users", user["_id"], {"disabled": True}, None)
        results = await asyncio.gather(outcomes(desk.verify(user, code)), going)
        for secret in results[0]:
            with pytest.raises(Unauthenticated):
                await desk.hub.resolver.resolve_key(secret, "listings")
        if number % 2:
            assert await desk.keys(user) == []


@pytest.mark.races
@pytest.mark.engine("mongodb")
async def test_two_processes_count_and_use_codes_together(
    desk: Registering, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, races: int
) -> None:
    async with in_process(database, tmp_path / "second", monkeypatch) as second:
        for number in range(races):
            user = await desk.user()
            code = await desk.code(user)
            if number % 2:
                secrets = await outcomes(*(each.verify(user, code) for each in (desk, second) * 2))
                assert len(secrets) == len(await desk.keys(user)) == 1
            else:
                guesses = [each.verify(user, wrong(code, 1)) for each in (desk, second, desk, second, desk)]
                assert not await outcomes(*guesses)
                assert not await outcomes(second.verify(user, code))
        user = await desk.user()
        for each in (desk, second) * (MOST_CODES // 2 + 1):
            await each.hub.registration.request_code(user["login"], ADDRESS)
        await asyncio.gather(desk.served(), second.served())
        assert len(desk.codes(user)) + len(second.codes(user)) == MOST_CODES
