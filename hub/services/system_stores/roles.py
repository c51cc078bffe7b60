"""Hooks of the store `roles`."""

from __future__ import annotations

from auth.delegation import check_grant, rights_of_role
from auth.principal import Principal
from auth.resolver import parsed_scopes
from auth.system_stores import ADMIN_ROLE
from hub.services import expectations as expect
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from hub.services.token_terms import checked_scopes
from stores.errors import Conflict
from stores.protocol import Write
from stores.query import Equal, Query
from stores.records import Entity


class RoleHooks(StoreHooks):
    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        made = entity | {"scopes": checked_scopes(entity["scopes"])}
        check_grant(principal, "scopes", rights_of_role(made["name"], made["scopes"] or ()))
        return Prepared(made)

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        self._not_the_admin_role(before)
        if "scopes" in fields:
            fields = fields | {"scopes": checked_scopes(fields["scopes"])}
        after = before | fields
        wanted = rights_of_role(after["name"], after["scopes"] or ())
        check_grant(principal, "scopes", wanted, parsed_scopes(before["scopes"] or ()))
        return Prepared(fields)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        self._not_the_admin_role(before)
        if await self.engine.entities("users", Query(Equal(("roles",), before["_id"]), limit=1)):
            raise Conflict("There are users with this role.")
        return [expect.nobody_has_role(before["_id"])]

    @staticmethod
    def _not_the_admin_role(role: Entity) -> None:
        if role["name"] == ADMIN_ROLE:
            raise Conflict("The role admin cannot be changed.")
