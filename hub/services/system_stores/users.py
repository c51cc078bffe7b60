"""Hooks of the store `users`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from auth.delegation import check_user_rights
from auth.groups import KnownGroups, chain_of, find_one
from auth.mailboxes import EXAMPLE, is_mailbox
from auth.principal import Principal
from auth.resolver import OF_USER
from auth.system_stores import ADMIN_ROLE
from hub.services import expectations as expect
from hub.services.credentials import PROOF, Credentials, refuse
from hub.services.id_lists import known_ids
from hub.services.registry import StoreRegistry
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from stores.errors import Conflict
from stores.protocol import UNBOUNDED, DeleteMany, Engine, Write, Written
from stores.query import And, Equal, Not, Query
from stores.records import Entity, is_id
from stores.schema import StoreDefinition

GUARDED = ("password", "login", "email", "roles", "group")
"""Fields of a user that determine its sign-in, its rights or its visibility."""


class UserHooks(StoreHooks):
    """Passwords are hashed, only administrators assign roles and groups, and one administrator always remains."""

    hook_members = frozenset({PROOF})
    sent_as = {"login_key": "login"}  # noqa: RUF012

    def __init__(self, engine: Engine, registry: StoreRegistry, credentials: Credentials) -> None:
        super().__init__(engine, registry)
        self.credentials = credentials

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        await check_user_rights(self.engine, principal, "roles", entity.get("roles"))
        named = body.get("group")
        group = await shared.once(named, lambda: self._group(named, shared.groups))
        made = await self._checked(entity | group | {"access": [entity["_id"]]}, {})
        return Prepared(made, self._references(made))

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        if principal.admin and "group" in body:
            fields = fields | await self._group(body["group"], {})
        await self._check_rights(principal, before, fields)
        await self.credentials.check_proof(principal, before, body, fields)
        checked = await self._checked(fields, before)
        also = self.credentials.ended(principal, before, checked) + self._references(checked)
        if "roles" in checked or checked.get("disabled"):
            also += await self._keep_an_admin(before, before | checked)
        return Prepared(checked, also)

    async def commit_change(
        self, before: Entity, after: Entity, writes: Sequence[Write], by: str | None, definition: StoreDefinition
    ) -> list[Written]:
        written = await super().commit_change(before, after, writes, by, definition)
        if after.get("password") != before.get("password"):
            self.credentials.forgive(after)
        return written

    def alters_principals(self, prepared: Prepared) -> bool:
        # The accompanying writes end credentials or assign roles or a group.
        return bool(prepared.more_writes) or not OF_USER.isdisjoint(prepared.fields)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        mine = Equal(("user",), before["_id"])
        also = [DeleteMany(store, mine, UNBOUNDED) for store in ("sessions", "tokens", "keys", "second_factors")]
        return [*also, expect.user_is_gone(before["_id"]), *await self._keep_an_admin(before, {})]

    async def _check_rights(self, principal: Principal, before: Entity, fields: Entity) -> None:
        """Prevent a token from taking over or creating a user with more rights than the token. Raises TooNarrow."""
        field = next((n for n in GUARDED if n in fields and (fields[n] or None) != (before.get(n) or None)), None)
        if field is None and before.get("disabled") and not fields.get("disabled", True):
            field = "disabled"
        if field is not None:
            for user in (before, before | fields):
                await check_user_rights(self.engine, principal, field, user.get("roles"))

    @staticmethod
    def _references(fields: Entity) -> list[Write]:
        """Return expectations that the assigned roles and group still exist at the commit."""
        return [*expect.roles_exist(fields.get("roles") or ()), *expect.groups_exist(fields.get("group"))]

    async def _checked(self, fields: Entity, before: Entity) -> Entity:
        email = fields.get("email")
        if email is not None and email != before.get("email") and not is_mailbox(email):
            raise refuse("email", f"Must be one e-mail address in ASCII, such as {EXAMPLE}, and nothing else.")
        checked = await self.credentials.kept(fields, before)
        if "roles" in fields:
            checked["roles"] = await self._roles(fields["roles"])
        return checked

    async def _roles(self, roles: Any) -> list[str] | None:
        if roles is None:
            return None
        if not isinstance(roles, list) or len(roles) > 100:
            raise refuse("roles", "Must be a list of at most 100 role ids.")
        return await known_ids(self.engine, "roles", "roles", roles)

    async def _group(self, group: Any, known: KnownGroups) -> Entity:
        if group is not None and (not is_id(group) or await find_one(self.engine, "groups", group) is None):
            raise refuse("group", f"There is no group with the id {group!r}.")
        return {"group": group, "branch": list(await chain_of(self.engine, group, known))}

    async def _keep_an_admin(self, before: Entity, after: Entity) -> list[Write]:
        """Refuse to lose the last administrator. Return the condition under which the commit checks this again."""
        roles = await self.engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
        role = roles[0]["_id"] if roles else None
        if role is None or role not in (before.get("roles") or []) or before.get("disabled"):
            return []
        if role in (after.get("roles") or []) and not after.get("disabled"):
            return []
        others = And((Equal(("roles",), role), Not(Equal(("_id",), before["_id"])), Not(Equal(("disabled",), True))))
        if not await self.engine.entities("users", Query(others, limit=1)):
            raise Conflict("This is the last administrator.")
        return [expect.an_administrator_remains(role)]
