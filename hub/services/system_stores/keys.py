"""Hooks of the store `keys`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from auth.delegation import check_grant
from auth.errors import Explained
from auth.hostnames import BadHostname, canonical_hostname
from auth.keys import SCOPES, scope_of
from auth.principal import Principal
from hub.services import expectations as expect
from hub.services.credentials import refuse
from hub.services.holders import find_holder
from hub.services.keys import KeyIssuer
from hub.services.registry import StoreRegistry
from hub.services.shared_reads import SharedReads
from hub.services.system_stores.base import Prepared, StoreHooks
from hub.services.token_terms import check_end, end_of, first_expiry, later_expiry
from stores.protocol import Engine, IdempotencyKey, Write, Written
from stores.records import Entity

CHANGEABLE: Final = ("name", "scope", "allowed_origins", "expires", "active")


class KeyHooks(StoreHooks):
    """The secret is shown once, in the answer that creates the key. Users make and change their own keys that read;
    only administrators make and change keys that write, and keys of others."""

    repeatable = False

    def __init__(self, engine: Engine, registry: StoreRegistry, issuer: KeyIssuer) -> None:
        super().__init__(engine, registry)
        self._issuer = issuer

    async def check_number(self, principal: Principal, entities: Sequence[Entity]) -> None:
        for user, count in Counter(entity.get("user") or principal.user_id for entity in entities).items():
            if count > self._issuer.most and (principal.admin or user == principal.user_id):
                await self._issuer.check_room(user, count)

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        named, scope = entity.get("user"), entity["scope"]
        user = await shared.once(f"holder {named}", lambda: find_holder(self.engine, principal, named, "key"))
        if scope == "RW" and not principal.admin:
            raise Explained("scope", "Only an administrator can create a key that writes.")
        check_grant(principal, "scope", SCOPES[scope])
        also = await shared.once(f"expected {named}", lambda: self._expected(principal, user["_id"]))
        terms = {
            "allowed_origins": checked_origins(entity.get("allowed_origins")),
            "expires": first_expiry(principal, entity.get("expires")),
        }
        new = await self._issuer.new_key(user, entity | terms, shared.groups)
        return Prepared(new.entity, also, {"key": new.secret})

    async def _expected(self, principal: Principal, user: str) -> list[Write]:
        return [*expect.credential_is_good(principal, user), *self._issuer.expected(user)]

    async def commit_creation(
        self, principal: Principal, entities: Sequence[Entity], writes: Sequence[Write], key: IdempotencyKey | None
    ) -> list[Written]:
        for user, more in Counter(entity["user"] for entity in entities).items():
            await self._issuer.check_room(user, more)
        await self._issuer.prepare({entity["kind"] for entity in entities}, adopts=principal.admin)
        return await super().commit_creation(principal, entities, writes, key)

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        if scope_of(before) == "RW" and not principal.admin:
            raise Explained("_id", "Only an administrator can change a key that writes. Its user can delete it.")
        fixed = fields.keys() - {*CHANGEABLE, "_at"}
        for name in fixed:
            if name == "digest" or fields[name] != before.get(name):
                raise refuse(name, f"Only {', '.join(CHANGEABLE[:-1])} and {CHANGEABLE[-1]} of a key can be changed.")
        fields = {name: value for name, value in fields.items() if name not in fixed}
        if "allowed_origins" in fields:
            fields["allowed_origins"] = checked_origins(fields["allowed_origins"])
        if "expires" in fields and fields["expires"] != before.get("expires"):
            fields["expires"] = later_expiry(principal, fields["expires"])
        widened = _widened(before, before | fields)
        if widened:
            check_grant(principal, widened, SCOPES[scope_of(before | fields)])
            check_end(principal, (before | fields).get("expires"))
        return Prepared(fields)


def _widened(before: Entity, after: Entity) -> str | None:
    """Return the field by whose change the key opens more than before, or for longer; None if it does not."""
    if scope_of(after) == "RW" != scope_of(before):
        return "scope"
    if after.get("active") and not before.get("active"):
        return "active"
    if end_of(after.get("expires")) > end_of(before.get("expires")):
        return "expires"
    origins = frozenset(after.get("allowed_origins") or ()), frozenset(before.get("allowed_origins") or ())
    return "allowed_origins" if origins[1] and not (origins[0] and origins[0] <= origins[1]) else None


def checked_origins(origins: Any) -> list[str]:
    """Return hostnames as they are stored: in lower case, each once. Raises InvalidEntity."""
    try:
        return [*dict.fromkeys(map(canonical_hostname, origins or ()))]
    except BadHostname as error:
        raise refuse("allowed_origins", str(error)) from None
