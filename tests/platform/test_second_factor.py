"""One-time codes as a second factor: enrolment, sign-in, recovery, and permission to switch them off."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest

from auth.totp import RECOVERY_CODES, STEP
from hub.services.registry import StoreRegistry
from stores.protocol import Update
from stores.query import Query
from tests.platform.answers import good, refused
from tests.support.engines import Database, opened
from tests.support.hub import Client, Hub, running_hub

PASSWORD = "open sesame 1"


@dataclass
class Enrolled:
    """A user who signs in with codes. `used` is the step of the last code that was accepted."""

    client: Client
    login: str
    password: str
    secret: str
    codes: list[str]
    used: int

    def next_code(self) -> str:
        """Return the code of the next step, which the hub accepts too. Call it once, as it accepts no later one."""
        return pyotp.TOTP(self.secret).generate_otp(max(self.used + 1, int(time.time()) // STEP))


async def begin(hub: Hub) -> tuple[Client, str, str]:
    password = f"pass {secrets.token_hex(8)}"
    user = await hub.as_user(password)
    return await hub.as_session(user.user["login"], password), user.user["login"], password


@pytest.fixture
async def enrolled(hub: Hub) -> Enrolled:
    return await enrol(hub)


async def enrol(hub: Hub) -> Enrolled:
    client, login, password = await begin(hub)
    answer = (await client.post("/auth/totp", None)).json()
    step = int(time.time()) // STEP  # the present one: the code of an earlier one could be too old when it arrives
    code = pyotp.TOTP(answer["secret"]).generate_otp(step)
    confirmed = await client.post("/auth/totp/confirm", {"code": code})
    assert confirmed.status_code == 200, confirmed.text
    return Enrolled(client, login, password, answer["secret"], confirmed.json()["codes"], step)


async def sign_in(hub: Hub, login: str, password: str, **more: Any) -> Any:
    return await hub.client().post("/auth", {"login": login, "password": password, **more})


async def test_the_url_holds_the_secret_and_codes_are_in_force_once_confirmed(hub: Hub) -> None:
    client, login, password = await begin(hub)
    answer = (await client.post("/auth/totp", None)).json()
    assert answer["success"] is True
    assert f"secret={answer['secret']}" in answer["url"]
    assert answer["url"].startswith("otpauth://totp/hub:")
    assert (await sign_in(hub, login, password)).status_code == 200


async def test_a_stolen_session_cannot_lock_its_owner_out(database: Database, tmp_path: Path) -> None:
    """Enrolment needs a sign-in within the last ten minutes or the current password; guesses of it are limited."""
    async with running_hub(database, tmp_path / "hub", login_attempts=3) as hub:
        user = await hub.as_user(PASSWORD)
        access = await hub.token_of(user.user["login"], PASSWORD)
        refused(await user.post("/auth/totp", {"current_password": PASSWORD}), 403, "Authorization")
    await grow_old(database)
    async with running_hub(database, tmp_path / "hub", login_attempts=3) as hub:
        stolen = hub.client(access)
        refused(await stolen.post("/auth/totp", None), 400, "current_password")
        refused(await stolen.post("/auth/totp", {"current_password": None}), 400, "current_password")
        refused(await stolen.post("/auth/totp", {"code": "123456"}), 400, "code")
        refused(await stolen.post("/auth/totp/confirm", {"code": "123456"}), 404)
        refused(await stolen.post("/auth/totp", {"current_password": "wrong"}), 400, "current_password")
        good(await stolen.post("/auth/totp", {"current_password": PASSWORD}))
        for _ in range(3):
            refused(await stolen.post("/auth/totp", {"current_password": "wrong"}), 400, "current_password")
        refused(await stolen.post("/auth/totp", {"current_password": PASSWORD}), 429)


async def test_a_wrong_password_begins_no_codes_however_recent_the_sign_in(hub: Hub) -> None:
    client, _, password = await begin(hub)
    refused(await client.post("/auth/totp", {"current_password": "wrong"}), 400, "current_password")
    good(await client.post("/auth/totp", {"current_password": password}))


async def grow_old(database: Database) -> None:
    """Make the sessions of a stopped hub eleven minutes older."""
    async with opened(database.engine()) as engine:
        await StoreRegistry(engine).open()
        sessions = await engine.entities("sessions", Query(limit=10))
        aged = [Update("sessions", s["_id"], {"time": s["time"] - 660_000}) for s in sessions]
        await engine.commit(aged, None)


async def test_a_sign_in_needs_a_code(hub: Hub, enrolled: Enrolled) -> None:
    refused = await sign_in(hub, enrolled.login, enrolled.password)
    assert refused.status_code == 401
    assert refused.json()["tags"] == ["error_code_required", "error_unauthorized"]
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=enrolled.next_code())).status_code == 200


async def test_sign_ins_in_two_steps_are_no_failures_of_the_address(database: Database, tmp_path: Path) -> None:
    """With twenty failures the address would be refused, and fail2ban would ban it. They are still recorded."""
    async with running_hub(database, tmp_path / "hub", login_attempts=2, log_format="text") as hub:
        for _ in range(2):
            enrolled = await enrol(hub)
            for code in enrolled.codes:
                assert (await sign_in(hub, enrolled.login, enrolled.password)).status_code == 401
                assert (await sign_in(hub, enrolled.login, enrolled.password, code=code)).status_code == 200
        assert "sign-in failed" not in hub.process.log
        assert len(await hub.admin.list("signins", {"login": enrolled.login, "result": "code"})) == RECOVERY_CODES
        assert (await sign_in(hub, enrolled.login, enrolled.password, code="wrong")).status_code == 401
        assert hub.process.log.count("sign-in failed") == 1
        assert (await sign_in(hub, enrolled.login, enrolled.password)).status_code == 401
        assert (await sign_in(hub, enrolled.login, enrolled.password)).status_code == 429


async def test_an_access_token_needs_a_code(hub: Hub, enrolled: Enrolled) -> None:
    body = {"login": enrolled.login, "password": enrolled.password}
    assert (await hub.client().post("/auth/token", body)).status_code == 401
    answer = await hub.client().post("/auth/token", body | {"code": enrolled.next_code()})
    assert answer.status_code == 200


async def test_a_wrong_password_says_nothing_of_codes(hub: Hub, enrolled: Enrolled) -> None:
    refused = await sign_in(hub, enrolled.login, "wrong password", code=enrolled.next_code())
    assert refused.json()["tags"] == ["error_unauthorized"]


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_code_counts_once_however_many_use_it_at_once(hub: Hub, enrolled: Enrolled) -> None:
    code = enrolled.next_code()
    answers = await asyncio.gather(
        *(sign_in(hub, enrolled.login, enrolled.password, code=code) for _ in range(4)),
    )
    assert sorted(a.status_code for a in answers) == [200, 401, 401, 401]
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=code)).status_code == 401


async def test_each_recovery_code_signs_in_once(hub: Hub, enrolled: Enrolled) -> None:
    assert len(enrolled.codes) == RECOVERY_CODES
    typed = enrolled.codes[0].upper().replace("-", " - ")
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=typed)).status_code == 200
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=enrolled.codes[0])).status_code == 401
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=enrolled.codes[1])).status_code == 200
    bare = enrolled.codes[2].replace("-", "")
    assert (await sign_in(hub, enrolled.login, enrolled.password, code=bare)).status_code == 200


async def test_a_code_switches_them_off(hub: Hub, enrolled: Enrolled) -> None:
    client = enrolled.client
    wrong = await client.request("DELETE", "/auth/totp", json={"code": "000000"})
    assert wrong.status_code == 400
    assert wrong.json()["errors"].keys() == {"code"}
    missing = await client.request("DELETE", "/auth/totp")
    assert refused(missing, 400).keys() == {"code"}
    right = await client.request("DELETE", "/auth/totp", json={"code": enrolled.next_code()})
    assert right.status_code == 200, right.text
    assert (await sign_in(hub, enrolled.login, enrolled.password)).status_code == 200
    again = await client.request("DELETE", "/auth/totp", json={"code": "000000"})
    assert again.status_code == 404


async def test_codes_in_force_are_not_replaced(enrolled: Enrolled) -> None:
    assert (await enrolled.client.post("/auth/totp", None)).status_code == 409
    assert (await enrolled.client.post("/auth/totp/confirm", {"code": "123456"})).status_code == 404


async def test_a_wrong_code_confirms_nothing(hub: Hub) -> None:
    client, login, password = await begin(hub)
    await client.post("/auth/totp", None)
    refused = await client.post("/auth/totp/confirm", {"code": "abc"})
    assert refused.status_code == 400
    assert refused.json()["errors"].keys() == {"code"}
    assert (await sign_in(hub, login, password)).status_code == 200


async def test_wrong_codes_of_a_user_have_an_end(database: Database, tmp_path: Path) -> None:
    """Wrong codes are limited over all uses; after the limit even a right code is refused."""
    async with running_hub(database, tmp_path / "hub", login_attempts=3) as hub:
        client, _, _ = await begin(hub)
        answer = (await client.post("/auth/totp", None)).json()
        guesses = [await client.post("/auth/totp/confirm", {"code": "000000"}) for _ in range(3)]
        assert [guess.status_code for guess in guesses] == [400] * 3
        right = await client.post("/auth/totp/confirm", {"code": pyotp.TOTP(answer["secret"]).now()})
        assert right.status_code == 429
        assert int(right.headers["retry-after"]) > 200


async def test_wrong_codes_of_a_stolen_session_do_not_keep_its_user_out(database: Database, tmp_path: Path) -> None:
    """They are limited for that session, which the user can end after signing in with a code."""
    async with running_hub(database, tmp_path / "hub", login_attempts=3) as hub:
        enrolled = await enrol(hub)
        statuses = [await switch_off(enrolled.client, "wrong") for _ in range(3)]
        statuses.append(await switch_off(enrolled.client, enrolled.codes[0]))
        assert statuses == [400, 400, 400, 429]
        body = {"login": enrolled.login, "password": enrolled.password, "code": enrolled.codes[1]}
        own = hub.client(good(await hub.client().post("/auth/token", body))["token"])
        assert await switch_off(own, "wrong") == 400
        assert await switch_off(own, enrolled.codes[2]) == 200


async def switch_off(client: Client, code: str) -> int:
    return (await client.request("DELETE", "/auth/totp", json={"code": code})).status_code


async def test_an_administrator_switches_the_codes_of_others_off(hub: Hub, enrolled: Enrolled, user: Client) -> None:
    path = f"/users/{enrolled.client.id}/totp"
    assert (await user.delete(path)).status_code in (403, 404)
    assert (await hub.admin.delete(path)).status_code == 200
    assert (await sign_in(hub, enrolled.login, enrolled.password)).status_code == 200
    assert (await hub.admin.delete(path)).status_code == 404


async def test_a_long_lived_token_does_not_touch_codes(user: Client) -> None:
    assert (await user.post("/auth/totp", None)).status_code == 403
    assert (await user.request("DELETE", "/auth/totp", json={"code": "123456"})).status_code == 403


async def test_the_secret_is_shown_to_nobody(hub: Hub, enrolled: Enrolled) -> None:
    assert (await enrolled.client.get("/second_factors")).status_code == 403
    [seen] = await hub.admin.list("second_factors", {"user": enrolled.client.id})
    assert seen["confirmed"] is True
    assert not seen.keys() & {"secret", "codes", "step"}
    history = (await hub.admin.get(f"/second_factors/{seen['_id']}/history")).text
    assert enrolled.secret not in history
    assert "secret" not in history
    made = await hub.admin.post("/second_factors", {"user": enrolled.client.id})
    assert made.status_code == 403


async def test_deleting_the_user_deletes_the_codes(hub: Hub, enrolled: Enrolled) -> None:
    assert (await hub.admin.delete(f"/users/{enrolled.client.id}")).status_code == 200
    assert await hub.admin.list("second_factors", {"user": enrolled.client.id}) == []


@pytest.mark.parametrize("body", [None, [], {"code": 123456}, {"code": ""}, {"code": "1" * 1_001}, {"cod": "123456"}])
async def test_a_body_without_a_code_is_named(enrolled: Enrolled, body: Any) -> None:
    answer = await enrolled.client.request("DELETE", "/auth/totp", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() <= {"code", "body", "cod"}


async def test_an_administrator_needs_a_code_to_switch_its_own_codes_off(hub: Hub) -> None:
    """A stolen session or token of an administrator is not enough."""
    [role] = await hub.admin.list("roles", {"name": "admin"})
    password = f"pass {secrets.token_hex(8)}"
    by_token = await hub.as_user(password, roles=[role["_id"]])
    chief = await hub.as_session(by_token.user["login"], password)
    secret = (await chief.post("/auth/totp", None)).json()["secret"]
    codes = (await chief.post("/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})).json()["codes"]
    [factor] = await chief.list("second_factors", {"user": chief.id})
    for thief in (chief, by_token):
        assert (await thief.delete(f"/users/{chief.id}/totp")).status_code == 403
        assert (await thief.delete(f"/second_factors/{factor['_id']}")).status_code == 403
    assert (await chief.request("DELETE", "/auth/totp", json={"code": codes[0]})).status_code == 200


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_sign_in_goes_well_while_its_codes_are_switched_off(hub: Hub) -> None:
    for _ in range(5):
        client, login, password = await begin(hub)
        secret = (await client.post("/auth/totp", None)).json()["secret"]
        codes = (await client.post("/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})).json()["codes"]
        off = client.request("DELETE", "/auth/totp", json={"code": codes[0]})
        signed, switched = await asyncio.gather(sign_in(hub, login, password, code=codes[0]), off)
        # If the codes are off, the password suffices; if they are on, the code counts once.
        assert signed.status_code == 200, signed.text
        assert switched.status_code in (200, 400), switched.text


@pytest.mark.gate("sqlite", "mongodb")
async def test_nothing_but_a_code_switches_off_what_is_being_confirmed(hub: Hub) -> None:
    """A wrong code deletes a secret that waits for confirmation, but not one that was just confirmed."""
    for _ in range(5):
        client, _, _ = await begin(hub)
        secret = (await client.post("/auth/totp", None)).json()["secret"]
        wrong = (client.request("DELETE", "/auth/totp", json={"code": "not one"}) for _ in range(4))
        confirming = client.post("/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})
        confirmed = (await asyncio.gather(confirming, *wrong))[0]
        factors = await hub.admin.list("second_factors", {"user": client.id})
        assert [f["confirmed"] for f in factors] == ([True] if confirmed.status_code == 200 else [])
