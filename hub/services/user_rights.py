"""Checks that a user has no right that the caller's token does not have."""

from __future__ import annotations

from auth.delegation import check_user_rights
from auth.groups import find_one
from auth.principal import Principal
from hub.services import expectations as expect
from stores.protocol import Engine, Write


async def check_rights_of(engine: Engine, principal: Principal, field: str, user_id: str) -> list[Write]:
    """Raise TooNarrow, which names `field`, if the user has a right that the caller's token does not have. Return the
    condition under which the commit checks this again."""
    user = await find_one(engine, "users", user_id)
    await check_user_rights(engine, principal, field, user.get("roles") if user else None)
    return [expect.user_is_unchanged(user)] if user else []
