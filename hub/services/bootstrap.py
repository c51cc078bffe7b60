"""First start: the admin role and the first administrator."""

from __future__ import annotations

import logging
import secrets

from auth.principal import Principal
from auth.resolver import FOREVER
from auth.secrets import Passwords
from auth.standard import ADMIN_ROLE
from hub.services.stamping import stamp_new
from stores.errors import DuplicateValue
from stores.protocol import Engine, Insert
from stores.query import Equal, Query

log = logging.getLogger(__name__)


async def ensure_admin(engine: Engine, passwords: Passwords, login: str, password: str) -> str | None:
    """Make the role and, if nobody has it, its first holder; returns a password that was made up for it.

    Hubs that start together on one database may both try: unique names let one of them win.
    """
    roles = await engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
    if roles and await engine.entities("users", Query(Equal(("roles",), roles[0]["_id"]), limit=1)):
        return None
    given = password or secrets.token_urlsafe(12)
    nobody = Principal("", login, None, (), (), True, None, None, "control", "", FOREVER)
    user = stamp_new({"login": login, "name": "Administrator", "email": None, "disabled": False}, nobody, ())
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


def nobody_to_owner(id: str) -> dict[str, object]:
    """The first administrator belongs to itself."""
    return {"owner": id, "access": [id]}
