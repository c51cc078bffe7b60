"""Logins compared without case: lookup for commands, and clashes for `hub doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auth.names import BadName, login_key
from hub.cli.client import Client
from hub.cli.databases import connected_mongodb, connected_sqlite, database_file, has_table
from hub.cli.output import Failure
from stores.records import Entity

if TYPE_CHECKING:
    from hub.settings import Settings


async def require_user(client: Client, login: str) -> Entity:
    """Return the user with this login: as spelled, or else without regard to case. Raises Failure if there is none."""
    found = await client.find("users", "login", login)
    key = _key(login)
    if found is None and key is not None:
        same = [user for user in await client.all("users", only="login") if _key(user.get("login")) == key]
        found = await client.find("users", "login", same[0]["login"]) if same else None
    if found is None:
        raise Failure(f"no user with the login {login!r}")
    return found


async def stored_logins(settings: Settings) -> list[str]:
    """Return the logins of all users that have one, read-only; empty before the first start."""
    if settings.engine_url.startswith("mongodb"):
        return await _of_mongodb(settings.engine_url)
    return _of_sqlite(database_file(settings))


def clashes(logins: Iterable[str]) -> list[list[str]]:
    """Return groups of logins that differ only by case or form."""
    by_key: dict[str, list[str]] = {}
    for login in logins:
        key = _key(login)
        if key is not None:
            by_key.setdefault(key, []).append(login)
    return [sorted(same) for _, same in sorted(by_key.items()) if len(same) > 1]


async def _of_mongodb(url: str) -> list[str]:
    async with connected_mongodb(url) as connection:
        users: Any = connection.collection("users").find({"login": {"$type": "string"}}, {"login": 1})
        return [user["login"] async for user in users]


def _of_sqlite(path: Path) -> list[str]:
    from stores.sqlite.tables import table_name

    if not path.exists():
        return []
    with connected_sqlite(path) as connection:
        if not has_table(connection, "e_users"):
            return []
        logins = f"SELECT doc->>'$.login' FROM {table_name('users')} WHERE json_type(doc,'$.login')='text'"
        return [login for (login,) in connection.execute(logins)]


def _key(login: object) -> str | None:
    """Return the form of a login that is compared; None for a value that is not a login, from another program."""
    try:
        return login_key(login) if isinstance(login, str) else None
    except BadName:
        return None
