"""Hooks of the store `tokens`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from auth.delegation import check_grant
from auth.groups import chain_of
from auth.principal import Principal
from auth.resolver import parsed_scopes
from auth.secrets import PREFIX_LENGTH, digest, new_credential
from hub.services import expectations as expect
from hub.services.credentials import refuse
from hub.services.holders import check_room, find_holder
from hub.services.registry import StoreRegistry
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from hub.services.token_terms import checked_scopes, end_of, first_expiry, later_expiry, narrowed
from hub.services.user_rights import check_rights_of
from stores.protocol import Engine, IdempotencyKey, Write, Written
from stores.records import Entity


class TokenHooks(StoreHooks):
    """The secret is shown once, in the answer that creates the token. Only its SHA-256 is stored."""

    repeatable = False

    def __init__(self, engine: Engine, registry: StoreRegistry, most: int) -> None:
        super().__init__(engine, registry)
        self._most = most

    async def check_number(self, principal: Principal, entities: Sequence[Entity]) -> None:
        for user, count in Counter(entity.get("user") or principal.user_id for entity in entities).items():
            if count > self._most and (principal.admin or user == principal.user_id):
                await check_room(self.engine, "tokens", user, count, self._most)

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        named = entity.get("user")
        user = await shared.once(f"holder {named}", lambda: find_holder(self.engine, principal, named, "token"))
        also = await shared.once(f"expected {named}", lambda: self._expected(principal, user["_id"]))
        secret = new_credential()
        made = entity | {
            "user": user["_id"],
            "owner": user["_id"],
            "group": user.get("group"),
            "branch": list(await chain_of(self.engine, user.get("group"), shared.groups)),
            "scopes": narrowed(principal, checked_scopes(entity.get("scopes"))),
            "expires": first_expiry(principal, entity.get("expires")),
            "prefix": secret[:PREFIX_LENGTH],
            "digest": digest(secret),
            "last_used": None,
            "address": None,
            "agent": None,
        }
        return Prepared(made, also, {"token": secret})

    async def _expected(self, principal: Principal, user: str) -> list[Write]:
        return [*expect.credential_is_good(principal, user), expect.credentials_are_few("tokens", user, self._most)]

    async def commit_creation(
        self, principal: Principal, entities: Sequence[Entity], writes: Sequence[Write], key: IdempotencyKey | None
    ) -> list[Written]:
        for user, more in Counter(entity["user"] for entity in entities).items():
            await check_room(self.engine, "tokens", user, more, self._most)
        return await super().commit_creation(principal, entities, writes, key)

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        fixed = fields.keys() - {"name", "scopes", "expires", "_at"}
        for name in fixed:
            if name == "digest" or fields[name] != before.get(name):
                raise refuse(name, "Only name, scopes and expires of a token can be changed.")
        fields = {n: v for n, v in fields.items() if n not in fixed}
        if "scopes" in fields:
            fields = fields | {"scopes": narrowed(principal, checked_scopes(fields["scopes"]))}
        if "expires" in fields and fields["expires"] != before.get("expires"):
            fields = fields | {"expires": later_expiry(principal, fields["expires"])}
            return Prepared(fields, await self._check_prolonged(principal, before, fields["expires"]))
        return Prepared(fields)

    async def _check_prolonged(self, principal: Principal, before: Entity, expires: int | None) -> list[Write]:
        """Prevent a token from extending a token with more rights. Return the condition under which the commit checks
        this again. Raises TooNarrow."""
        if principal.token_scopes is None or end_of(expires) <= end_of(before.get("expires")):
            return []
        if before.get("scopes") is not None:
            check_grant(principal, "expires", parsed_scopes(before["scopes"]))
            return []
        return await check_rights_of(self.engine, principal, "expires", before["user"])
