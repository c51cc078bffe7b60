"""The users for whom tokens and keys are created, and how many of them a user may have."""

from __future__ import annotations

from typing import Any

from auth.errors import Explained
from auth.groups import find_one
from auth.principal import Principal
from hub.services.credentials import refuse
from stores.errors import InvalidEntity
from stores.protocol import Engine
from stores.query import Equal
from stores.records import Entity, is_id


async def find_holder(engine: Engine, principal: Principal, user: Any, credential: str) -> Entity:
    """Return the user with the id `user` (None: the caller), for whom a `credential` (``token``) is created. Raises
    Explained for another user unless the caller is an administrator, and InvalidEntity if there is none."""
    if user is not None and user != principal.user_id and not principal.admin:
        raise Explained("user", f"Only an administrator can create a {credential} for another user.")
    wanted = user or principal.user_id
    holder = await find_one(engine, "users", wanted) if is_id(wanted) else None
    if holder is None:
        raise refuse("user", f"There is no user with the id {user!r}.")
    return holder


async def check_room(engine: Engine, store: str, user: str, more: int, most: int) -> None:
    """Raise InvalidEntity if a user cannot have so many more entities of `store`, tokens or keys."""
    have = (await engine.summarize(store, Equal(("user",), user))).count
    if have + more > most:
        raise no_room(store, have, most)


def no_room(store: str, have: int, most: int) -> InvalidEntity:
    text = f"A user may have {most} {store}: this one has {have}. Revoke some first."
    return refuse("user", text).at(f"max_{store}_per_user")
