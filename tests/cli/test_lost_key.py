"""A lost secret key: the messages of the hub, `hub doctor` and `hub secret accept`, and the recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw
import httpx
import pyotp
import pytest
from pymongo import MongoClient

from tests.cli.conftest import PATIENCE, CommandLine
from tests.support.ports import free_port

PASSWORD = "a horse of another color"
LOST = ("one-time codes", "recovery codes", "reset a password", "Idempotency-Key", "positions of the feed")
"""Features that depend on the key; the messages must name them."""


@dataclass
class Keyed:
    """A stopped hub whose only administrator signs in with one-time codes."""

    hub: CommandLine
    codes: list[str]

    def lose(self) -> None:
        (self.hub.folder / "data" / "secret.key").unlink()

    def has_key(self) -> bool:
        return (self.hub.folder / "data" / "secret.key").exists()

    def forget_check(self) -> None:
        """Delete the key's check value, as a restore of the stores alone would."""
        url = self.hub.variables.get("HUB_DATABASE_URL")
        if url:
            with MongoClient[dict[str, object]](url) as client:
                client.get_default_database()["_meta"].delete_one({"_id": "secret_key_check"})
        else:
            connection = apsw.Connection(str(self.hub.folder / "data" / "hub.db"))
            connection.execute("DELETE FROM meta WHERE name='secret_key_check'")
            connection.close()

    def refused_start(self) -> str:
        """Start the hub, which must fail; return its log."""
        server = self.hub.start("serve", "--port", "0")
        try:
            _, log = server.communicate(timeout=PATIENCE)
        finally:
            server.kill()
        assert server.returncode == 1, log
        return log.decode()

    def doctor(self) -> str:
        """Return the report of `hub doctor`, which must find a problem."""
        return self.hub("doctor", code=1).out


def post(url: str, path: str, body: Any, token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.post(f"{url}/api/v1{path}", json=body, headers=headers, trust_env=False)


def sign_in(url: str, **more: str) -> int:
    return post(url, "/auth", {"login": "admin", "password": PASSWORD, **more}).status_code


@pytest.fixture
def keyed(hub_of_each_engine: CommandLine) -> Keyed:
    hub = hub_of_each_engine
    with hub.serving() as url:
        hub("user", "password", "admin", "--password", PASSWORD)
        token = post(url, "/auth/token", {"login": "admin", "password": PASSWORD}).json()["token"]
        secret = post(url, "/auth/totp", {"current_password": PASSWORD}, token).json()["secret"]
        code = pyotp.TOTP(secret).now()
        return Keyed(hub, post(url, "/auth/totp/confirm", {"code": code}, token).json()["codes"])


def test_a_start_without_the_key_says_that_it_is_missing_and_what_is_lost(keyed: Keyed) -> None:
    """Commands that start the application report the same, and neither creates a key."""
    keyed.lose()
    for text in (keyed.refused_start(), keyed.hub("user", "list", code=1).err):
        assert "is missing" in text
        assert "secret.key" in text
        assert "hub secret accept" in text
        assert all(each in text for each in LOST)
        assert not keyed.has_key()


def test_the_doctor_looks_at_the_key(keyed: Keyed) -> None:
    """It reports a valid, a missing and a wrong key. The second round has only encrypted codes to check a key
    against."""
    file = keyed.hub.folder / "data" / "secret.key"
    key = file.read_text()
    keyed.hub.variables["HUB_PORT"] = str(free_port())  # it checks the port too
    assert "the database's" in keyed.hub("doctor").out
    for _ in range(2):
        keyed.lose()
        assert all(each in keyed.doctor() for each in ("missing", *LOST))
        assert not keyed.has_key()
        for other, said in (("ab" * 32, "another one"), ("spoilt", "32 bytes")):
            file.write_text(other)
            assert said in keyed.doctor()
        file.write_text(key)
        keyed.forget_check()


def test_a_database_without_its_check_value_takes_no_other_key(keyed: Keyed) -> None:
    """A wrong key is detected by the second factors. A start with the right key stores the check value again."""
    file = keyed.hub.folder / "data" / "secret.key"
    key = file.read_text()
    keyed.forget_check()
    keyed.lose()
    assert "is missing" in keyed.refused_start()
    assert not keyed.has_key()
    file.write_text("ab" * 32)
    assert "another secret key" in keyed.refused_start()
    for _ in range(2):
        file.write_text(key)
        with keyed.hub.serving() as url:
            assert sign_in(url) == 401
            assert sign_in(url, code=keyed.codes.pop()) == 200
        file.write_text("ab" * 32)
        assert "another secret key" in keyed.refused_start()


def test_another_key_ends_codes_by_name_and_an_operator_switches_them_off(keyed: Keyed) -> None:
    """The only administrator can sign in again, and the history records who switched the codes off."""
    keyed.lose()
    done = keyed.hub("secret", "accept", "--yes").out
    assert "a new secret key was made" in done
    assert str(keyed.hub.folder / "data" / "secret.key") in done
    assert "no longer work: those of admin" in done
    assert "hub user totp-off" in done
    with keyed.hub.serving() as url:
        assert sign_in(url, code=keyed.codes.pop()) == 401
        [factor] = keyed.hub.rows("second_factors")
        assert keyed.hub("user", "totp-off", "ADMIN").last == "one-time codes of ADMIN switched off"
        assert sign_in(url) == 200
        [admin] = keyed.hub.rows("users")
        entry = history(keyed.hub, url, f"/second_factors/{factor['_id']}")[-1]
        assert (entry["op"], entry["by"]) == ("delete", admin["_id"])
        assert "has no one-time codes" in keyed.hub("user", "totp-off", "admin", code=1).err
        assert "no user with the login" in keyed.hub("user", "totp-off", "nobody", code=1).err
    again = keyed.hub("secret", "accept", "--yes").out
    assert "the database already" in again
    assert "no longer work" not in again


def history(hub: CommandLine, url: str, path: str) -> list[dict[str, Any]]:
    token = hub("token", "create", "test", "--quiet").last
    answer = httpx.get(f"{url}/api/v1{path}/history", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return list(answer.raise_for_status().json()["history"])
