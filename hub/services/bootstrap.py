"""The first start: the admin role and the first administrator."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from functools import partial

from auth.names import BadName, login_key, password_fault
from auth.principal import Principal
from auth.resolver import FOREVER
from auth.secrets import Passwords
from auth.system_stores import ADMIN_ROLE, FREE_TIER, USERS
from hub.services.logins import stored_login
from hub.services.stamping import serials_of, stamp_new
from stores.errors import CannotOpen, DuplicateValue, NotFound, StaleRevision
from stores.protocol import Engine, Insert, Update
from stores.query import And, Equal, In, Not, Query
from stores.records import Entity
from stores.starting import when_available

log = logging.getLogger(__name__)


FILLED_AT_ONCE = 200
"""Number of users whose login keys are filled in per batch."""

MOST_SKIPPED = 5_000
"""Number of logins that cannot get a key before the others are left without one, too."""


async def ensure_admin(engine: Engine, passwords: Passwords, login: str, password: str, least: int) -> str | None:
    """Create the admin role and, if no user has it, its first holder. Return the password if it was generated. Raises
    CannotOpen for an invalid login or password.

    Hubs that start together on one database may all try; unique names let one of them win.
    """
    roles = await when_available(partial(engine.entities, "roles", Query(Equal(("name",), ADMIN_ROLE), limit=1)))
    if roles:
        holders = Query(Equal(("roles",), roles[0]["_id"]), limit=1)
        if await when_available(partial(engine.entities, "users", holders)):
            return None
    given = password or secrets.token_urlsafe(max(12, least))
    names = checked_names(login, given, least)
    nobody = Principal("", login, None, (), (), True, None, None, "control", "", FOREVER)
    fields = {"name": "Administrator", "email": None, "disabled": False, "subscription_tier": FREE_TIER}
    user = stamp_new({**names, **fields}, nobody, ())
    me = nobody_to_owner(user["_id"])
    role = (
        roles[0] if roles else stamp_new({"name": ADMIN_ROLE, "scopes": ["* /*"]}, nobody, ()) | {"owner": user["_id"]}
    )
    user |= me | {"roles": [role["_id"]], "password": await passwords.hash(given)}
    made = Insert("users", user, serials_of(USERS))
    writes = [made] if roles else [Insert("roles", role), made]
    try:
        await when_available(partial(engine.commit, writes, user["_id"]))
    except DuplicateValue:
        # An attempt that ended in Unavailable may have been committed.
        if await when_available(partial(engine.get, "users", user["_id"])) is None:
            log.info("another hub has made the first administrator")
            return None
    return None if password else given


def checked_names(login: str, password: str, least: int) -> dict[str, str]:
    """Return the fields of the first administrator's login. Raises CannotOpen."""
    try:
        names = stored_login(login)
    except BadName as error:
        raise CannotOpen(f"HUB_ADMIN_LOGIN: {error}") from None
    fault = password_fault(password, least, names["login"])
    if fault:
        raise CannotOpen(f"HUB_ADMIN_PASSWORD: {fault}")
    return names


async def fill_login_keys(engine: Engine) -> None:
    """Fill in the login keys of users from older versions or other programs, so that their logins ignore case.

    A login that differs from another user's only by case gets no key: it works as it is spelled, and `hub doctor`
    reports it.
    """
    query = Query(And((Equal(("login_key",), None), Not(Equal(("login",), None)))), limit=FILLED_AT_ONCE)
    skipped: set[str] = set()
    while True:
        where = And((query.where, Not(In(("_id",), tuple(skipped))))) if skipped else query.where
        users = await engine.entities("users", replace(query, where=where))
        filled = await asyncio.gather(*(_fill(engine, user) for user in users))  # concurrent writes share commits
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
        pass  # another writer has changed or deleted the user
    return True


def nobody_to_owner(id: str) -> dict[str, object]:
    """Return the owner fields of the first administrator, who owns itself."""
    return {"owner": id, "access": [id]}
