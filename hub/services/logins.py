"""Logins: the spellings by which one is stored, and the user that it belongs to."""

from __future__ import annotations

from auth.names import BadName, canonical_login, login_key
from stores.protocol import Engine
from stores.query import Equal, In, Or, Query
from stores.records import Entity


def stored_login(login: str) -> dict[str, str]:
    """The fields of a user that hold its login: as it is shown, and as it is compared. Raises BadName."""
    return {"login": canonical_login(login), "login_key": login_key(login)}


def spellings(login: str) -> tuple[str, ...]:
    """The spellings by which a login may be stored; the last one is what logins are compared by, without case."""
    try:
        return login, *stored_login(login).values()
    except BadName:
        return login, login


async def find_user(engine: Engine, names: tuple[str, ...]) -> Entity | None:
    """The user with one of these `spellings`; of two that differ by case only, which older versions allowed, the one
    as spelled."""
    where = Or((In(("login",), names), Equal(("login_key",), names[-1])))
    found = await engine.entities("users", Query(where, limit=4))
    return next((user for name in names for user in found if user["login"] == name), found[0] if found else None)
