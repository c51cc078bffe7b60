"""First start: the admin role and the first administrator."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace

from auth.names import BadName, login_key, password_fault
from auth.principal import Principal
from auth.resolver import FOREVER
from auth.secrets import Passwords
from auth.system_stores import ADMIN_ROLE
from hub.services.logins import stored_login
from hub.services.stamping import stamp_new
from stores.errors import CannotOpen, DuplicateValue, NotFound, StaleRevision
from stores.protocol import Engine, Insert, Update
from stores.query import And, Equal, In, Not, Query
from stores.records import Entity

log = logging.getLogger(__name__)


FILLED_AT_ONCE = 200
"""Users whose logins are brought into today's form at a time."""

MOST_SKIPPED = 5_000
"""Logins that cannot be, after which the others are left as they are."""


async def ensure_admin(engine: Engine, passwords: Passwords, login: str, password: str, least: int) -> str | None:
    """Make the role and, if nobody has it, its first holder; returns a password that was made up for it. Raises
    CannotOpen for a login or password that no user may have.

    Hubs that start together on one database may both try: unique names let one of them win.
    """
    roles = await engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
    if roles and await engine.entities("users", Query(Equal(("roles",), roles[0]["_id"]), limit=1)):
        return None
    given = password or secrets.token_urlsafe(max(12, least))
    names = checked_names(login, given, least)
    nobody = Principal("", login, None, (), (), True, None, None, "control", "", FOREVER)
    user = stamp_new({**names, "name": "Administrator", "email": None, "disabled": False}, nobody, ())
    me = nobody_to_owner(user["_id"])
    role = (
        roles[0] if roles else stamp_new({"name": ADMIN_ROLE, "scopes": ["* /*"]}, nobody, ()) | {"owner": user["_id"]}
    )
    user |= me | {"roles": [role["_id"]], "password": await passwords.hash(given)}
    writes = [Insert("users", user)] if roles else [Insert("roles", role), Insert("users", user)]
    try:
        await engine.commit(writes, user["_id"])
    except DuplicateValue:
        log.info("another hub has made the first administrator")
        return None
    return None if password else given


def checked_names(login: str, password: str, least: int) -> dict[str, str]:
    """The first administrator's login as it is stored. Raises CannotOpen."""
    try:
        names = stored_login(login)
    except BadName as error:
        raise CannotOpen(f"HUB_ADMIN_LOGIN: {error}") from None
    fault = password_fault(password, least, names["login"])
    if fault:
        raise CannotOpen(f"HUB_ADMIN_PASSWORD: {fault}")
    return names


async def fill_login_keys(engine: Engine) -> None:
    """Let users of older versions, and those that another program made, sign in without regard to case. A login that
    another user has but for its case is left alone: it is good as it is spelled, and `hub doctor` names it."""
    query = Query(And((Equal(("login_key",), None), Not(Equal(("login",), None)))), limit=FILLED_AT_ONCE)
    skipped: set[str] = set()
    while True:
        where = And((query.where, Not(In(("_id",), tuple(skipped))))) if skipped else query.where
        users = await engine.entities("users", replace(query, where=where))
        filled = await asyncio.gather(*(_fill(engine, user) for user in users))  # together, they share commits
        skipped.update(user["_id"] for user, done in zip(users, filled, strict=True) if not done)
        if len(users) < FILLED_AT_ONCE or len(skipped) > MOST_SKIPPED:
            return


async def _fill(engine: Engine, user: Entity) -> bool:
    try:
        key = login_key(str(user["login"]))
        change = Update("users", user["_id"], {"login_key": key}, revs=frozenset({user["_rev"]}))
        await engine.commit([change], None)
    except (BadName, DuplicateValue):
        log.warning("the login of user %s is good only as it is spelled: see `hub doctor`", user["_id"])
        return False
    except (NotFound, StaleRevision):
        pass  # somebody else is at it
    return True


def nobody_to_owner(id: str) -> dict[str, object]:
    """The first administrator belongs to itself."""
    return {"owner": id, "access": [id]}
