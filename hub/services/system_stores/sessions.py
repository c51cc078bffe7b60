"""Hooks of the store `sessions`."""

from __future__ import annotations

from auth.errors import Explained
from auth.principal import Principal
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from stores.records import Entity


class SessionHooks(StoreHooks):
    """Sessions begin with `POST /api/v1/auth` and can only be ended."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "A session begins with POST /auth.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "A session cannot be changed, only ended.")
