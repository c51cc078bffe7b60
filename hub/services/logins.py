"""Logins: their stored spellings, and the lookup of users by login."""

from __future__ import annotations

from auth.names import BadName, canonical_login, login_key
from stores.protocol import Engine
from stores.query import Equal, In, Or, Query
from stores.records import Entity


def stored_login(login: str) -> dict[str, str]:
    """Return the fields of a user for its login: as shown and as compared. Raises BadName."""
    return {"login": canonical_login(login), "login_key": login_key(login)}


def spellings(login: str) -> tuple[str, ...]:
    """Return the spellings under which a login may be stored. The last one is the key for comparing without case. Of a
    login that is too long, that is the text as it is: nothing is prepared."""
    try:
        return login, *stored_login(login).values()
    except BadName:
        return login, login


async def find_user(engine: Engine, names: tuple[str, ...]) -> Entity | None:
    """Return the user with one of these `spellings`, or None. Older versions allowed logins that differ only by case:
    of those, the exact spelling wins."""
    where = Or((In(("login",), names), Equal(("login_key",), names[-1])))
    found = await engine.entities("users", Query(where, limit=4))
    return next((user for name in names for user in found if user["login"] == name), found[0] if found else None)
