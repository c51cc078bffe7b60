"""Hooks of the store `second_factors`."""

from __future__ import annotations

from auth.errors import Explained
from auth.principal import Principal
from hub.services.second_factors import check_foreign
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from hub.services.user_rights import check_rights_of
from stores.protocol import Write
from stores.records import Entity


class SecondFactorHooks(StoreHooks):
    """One-time codes begin with `POST /api/v1/auth/totp`; deleting them switches them off."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "One-time codes begin with POST /auth/totp.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "One-time codes cannot be changed, only switched off.")

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        check_foreign(principal, before.get("user"))
        return await check_rights_of(self.engine, principal, "_id", before["user"])
