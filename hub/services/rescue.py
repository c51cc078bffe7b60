"""Writes an administrator into the database of a hub that has none left."""

from __future__ import annotations

from auth.names import BadName, password_fault
from auth.principal import Principal
from auth.resolver import FOREVER
from auth.secrets import Passwords
from auth.system_stores import ADMIN_ROLE, FREE_TIER, USERS
from hub.services.bootstrap import nobody_to_owner
from hub.services.credentials import LONG_LIVED, ended_credentials
from hub.services.logins import find_user, spellings, stored_login
from hub.services.stamping import serials_of, stamp_change, stamp_new
from hub.services.user_numbers import number_users
from stores.protocol import Engine, Insert, Update, Write
from stores.query import Equal, Query
from stores.records import Entity


class CannotRescue(Exception):
    """The rescue is impossible; the text gives the reason."""


async def make_administrator(
    engine: Engine, passwords: Passwords, login: str, password: str | None, least: int
) -> bool:
    """Give the user the admin role and enable it; return whether the user was created.

    A password, of at least `least` characters, is set if given; it ends the user's sessions, tokens and keys. Raises
    CannotRescue.
    """
    hashed = await _hashed(passwords, login, password, least)
    await number_users(engine)
    user = await find_user(engine, spellings(login))
    if user is None and hashed is None:
        raise CannotRescue(f"no user with the login {login!r}: add one with --generate or --password-stdin")
    holder = user or _new_user(login)
    roles = await engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
    role = roles[0] if roles else _stamped({"name": ADMIN_ROLE, "scopes": ["* /*"]}) | {"owner": holder["_id"]}
    given = {"roles": [*dict.fromkeys([*(holder.get("roles") or ()), role["_id"]])], "disabled": False}
    given |= {} if hashed is None else {"password": hashed}
    write: Write = Insert("users", holder | given, serials_of(USERS))
    if user is not None:
        write = Update("users", user["_id"], stamp_change(given), revs=frozenset({user["_rev"]}))
    writes = [write] if roles else [Insert("roles", role), write]
    if hashed is not None and user is not None:
        writes += ended_credentials(user["_id"], *LONG_LIVED)
    await engine.commit(writes, None)
    return user is None


async def _hashed(passwords: Passwords, login: str, password: str | None, least: int) -> str | None:
    if password is None:
        return None
    fault = password_fault(password, least, login)
    if fault:
        raise CannotRescue(f"the password: {fault}")
    return await passwords.hash(password)


def _new_user(login: str) -> Entity:
    try:
        names = stored_login(login)
    except BadName as error:
        raise CannotRescue(f"the login: {error}") from None
    user = _stamped({**names, "name": "Administrator", "email": None, "subscription_tier": FREE_TIER})
    return user | nobody_to_owner(user["_id"])


def _stamped(fields: Entity) -> Entity:
    nobody = Principal("", "", None, (), (), True, None, None, "control", "", FOREVER)
    return stamp_new(fields, nobody, ())
