"""`hub user admin` creates an administrator for a hub that has none."""

from __future__ import annotations

import asyncio

import httpx

from stores.protocol import UpdateMany
from stores.query import EVERYTHING
from tests.cli.conftest import CommandLine
from tests.support.engines import Database, opened


async def lose_administrators(hub: CommandLine) -> None:
    """Disable all users in the database, which no hub would allow."""
    url = hub.variables.get("HUB_DATABASE_URL")
    database = Database("mongodb", url) if url else Database("sqlite", str(hub.folder / "data" / "hub.db"))
    async with opened(database.engine()) as engine:
        await engine.commit([UpdateMany("users", EVERYTHING, {"disabled": True}, 100)], None)


def admins(hub: CommandLine) -> list[str]:
    """Return the logins of active administrators. The command line needs an administrator itself."""
    return [user["login"] for user in hub.json("user", "list", "--json") if user["roles"] and not user["disabled"]]


def test_a_hub_without_an_administrator_gets_one_back(hub_of_each_engine: CommandLine) -> None:
    """An existing user keeps its password; a new one needs a password."""
    hub = hub_of_each_engine
    hub("user", "add", "ada", "--generate")
    asyncio.run(lose_administrators(hub))
    assert hub("user", "list", code=1).err
    assert "is an administrator" in hub("user", "admin", "ada").out
    assert admins(hub) == ["ada"]
    asyncio.run(lose_administrators(hub))
    hub("user", "admin", "ada", "--password-stdin", input="another long phrase\n")
    assert admins(hub) == ["ada"]
    added = hub("user", "admin", "eve", "--generate")
    assert "user eve added as an administrator" in added.out
    assert "password: " in added.out
    assert admins(hub) == ["ada", "eve"]
    with hub.serving() as url:
        answer = httpx.post(
            f"{url}/api/v1/auth", json={"login": "ada", "password": "another long phrase"}, trust_env=False
        )
        assert answer.status_code == 200


def test_what_cannot_be_done_is_said(hub: CommandLine) -> None:
    """The command reports a missing database, an unknown login, a short password and a running hub."""
    assert "there is no database" in hub("user", "admin", "ada", "--data-dir", "elsewhere", code=1).err
    assert not (hub.folder / "elsewhere").exists()
    hub("user", "list")
    assert "no user with the login 'bob'" in hub("user", "admin", "bob", code=1).err
    assert "the password: " in hub("user", "admin", "bob", "--password", "short", code=1).err
    with hub.serving():
        assert "another" in hub("user", "admin", "admin", code=1).err
