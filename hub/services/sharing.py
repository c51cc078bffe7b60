"""Sharing of an entity: a new access list, whose users must exist unless the old list names them."""

from __future__ import annotations

from auth.errors import Explained
from auth.policy import reader_of
from auth.principal import Principal
from auth.view import View
from hub.services import expectations as expect
from hub.services.id_lists import missing_ids, unknown
from hub.services.retrying import retry_on_current, retry_unexpected
from hub.services.stamping import stamp_change, stamps_of
from hub.services.written import text_of
from stores.errors import NotFound
from stores.protocol import Engine, Revisions, Update
from stores.query import Equal
from stores.records import Entity


async def share_entity(
    engine: Engine, principal: Principal, view: View, id: str, access: list[str], revs: Revisions | None
) -> tuple[bytes, int]:
    """Set the entity's access list to the users `access`: see `EntityService.share`."""
    store = view.store
    mine = view.where if principal.admin else view.narrowed(Equal(("owner",), principal.user_id))

    async def attempt() -> tuple[bytes, int]:
        if await missing_ids(engine, "users", access):
            return await retry_on_current(engine, store, id, mine, revs, keep_missing)
        return await commit(revs, access)

    async def keep_missing(before: Entity) -> tuple[bytes, int]:
        missing = dict.fromkeys(await missing_ids(engine, "users", access))
        if added := missing.keys() - set(before.get("access") or ()):
            raise unknown("users", "access", min(added))
        return await commit(frozenset({before["_rev"]}), [user for user in access if user not in missing])

    async def commit(revs: Revisions | None, existing: list[str]) -> tuple[bytes, int]:
        stamps = stamps_of(view.definition)
        update = Update(store, id, stamp_change({"access": access}), mine, revs, stamps=stamps)
        written = await engine.commit([update, *expect.users_exist(existing)], principal.user_id)
        return text_of(reader_of(principal, view), written[0]), written[0].rev

    try:
        return await retry_unexpected(attempt)
    except NotFound:
        if await engine.get(store, id, view.where) is None:
            raise
        raise Explained("access", "Only its owner and administrators can share an entity.") from None
