"""Hooks of the store `signins`."""

from __future__ import annotations

from auth.errors import Explained
from auth.principal import Principal
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from stores.protocol import Write
from stores.records import Entity


class SignInHooks(StoreHooks):
    """An audit trail: only the hub writes it, and it removes records by age."""

    shared = False

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "Only the hub records sign-ins.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "The record of a sign-in cannot be changed.")

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        raise Explained("_id", "The record of a sign-in cannot be deleted.")
