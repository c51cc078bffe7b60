"""Hooks of system stores, beyond their schema. `StoreHooks` has defaults; each store overrides some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auth.delegation import check_grant, check_user_rights, rights_of_role
from auth.errors import Explained
from auth.groups import MOST_GROUP_LEVELS, KnownGroups, chain_of, find_one, inside, read_chain, subtree_of
from auth.mailboxes import EXAMPLE, is_mailbox
from auth.principal import Principal
from auth.resolver import OF_USER, parsed_scopes
from auth.secrets import PREFIX_LENGTH, digest, new_credential
from auth.system_stores import ADMIN_ROLE
from hub.services import expectations as expect
from hub.services.credentials import PROOF, Credentials, refuse
from hub.services.group_paths import restamping
from hub.services.references import known_ids
from hub.services.registry import StoreRegistry
from hub.services.second_factors import check_foreign
from hub.services.shared_reads import SharedReads
from hub.services.token_terms import checked_scopes, end_of, first_expiry, later_expiry, narrowed
from hub.services.user_rights import check_rights_of
from stores.errors import Conflict, NotAsExpected
from stores.protocol import UNBOUNDED, DeleteMany, Engine, IdempotencyKey, Write, Written
from stores.query import And, Equal, Not, Query
from stores.records import Entity, is_id


@dataclass(slots=True)
class Prepared:
    """A prepared write: its fields, accompanying writes, and members that are added only to the answer."""

    fields: Entity
    more_writes: list[Write] = field(default_factory=list)
    reveal: Entity = field(default_factory=dict)


class StoreHooks:
    """Hooks around the writes of one store. `body` is the caller's input, `fields` its checked fields."""

    hook_members: frozenset[str] = frozenset()
    """Members of a body for the hooks alone, which are not fields of the store."""

    shared: bool = True
    """Whether the owner of an entity may share it."""

    repeatable: bool = True
    """Whether the answer to a creation can be repeated for an Idempotency-Key."""

    sent_as: Mapping[str, str] = {}
    """Unique fields that the hooks derive, with the fields that they are derived from."""

    def __init__(self, engine: Engine, registry: StoreRegistry) -> None:
        self.engine = engine
        self.registry = registry

    async def check_number(self, principal: Principal, entities: Sequence[Entity]) -> None:
        """Refuse more entities than can ever be created. Called before they are prepared one by one."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        return Prepared(entity)

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        return Prepared(fields)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        return []

    def moves(self, prepared: Prepared) -> bool:
        """Return whether the change moves a group, and so re-stamps everything in and below it."""
        return False

    def alters_principals(self, prepared: Prepared) -> bool:
        """Return whether the change affects cached principals."""
        return True

    async def commit_creation(
        self, entities: Sequence[Entity], writes: Sequence[Write], by: str | None, key: IdempotencyKey | None
    ) -> list[Written]:
        return await self.engine.commit(writes, by, key)

    async def commit_change(
        self, before: Entity, after: Entity, writes: Sequence[Write], by: str | None
    ) -> list[Written]:
        return await self.engine.commit(writes, by)

    async def commit_deletion(self, before: Entity, writes: Sequence[Write], by: str | None) -> list[Written]:
        return await self.engine.commit(writes, by)

    async def created(self) -> None:
        """Called once after the commit."""

    async def changed(self) -> None:
        """Called after the commit."""

    async def deleted(self, entity: Entity) -> None:
        """Called after the commit."""


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
        self, before: Entity, after: Entity, writes: Sequence[Write], by: str | None
    ) -> list[Written]:
        written = await super().commit_change(before, after, writes, by)
        if after.get("password") != before.get("password"):
            self.credentials.forgive(after)
        return written

    def alters_principals(self, prepared: Prepared) -> bool:
        # The accompanying writes end credentials or assign roles or a group.
        return bool(prepared.more_writes) or not OF_USER.isdisjoint(prepared.fields)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        mine = Equal(("user",), before["_id"])
        also = [DeleteMany(store, mine, UNBOUNDED) for store in ("sessions", "tokens", "second_factors")]
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


class GroupHooks(StoreHooks):
    """Groups form a tree. Moving a group re-stamps the `branch` of everything in and below it."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        parent = entity.get("parent")
        return Prepared(entity, await shared.once(parent, lambda: self._place(parent, shared.groups)))

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        if fields.get("parent", before.get("parent")) == before.get("parent"):
            return Prepared(fields)
        parent = fields["parent"]
        subtree = await subtree_of(self.engine, before["_id"])
        await self._check_parent(parent, subtree)
        above, ancestors = await read_chain(self.engine, parent)
        if before["_id"] in above:
            raise NotAsExpected  # a concurrent move put it there after the subtree was read
        if len(above) >= len(await chain_of(self.engine, before["_id"])):  # not if it goes up, or to the side
            self._check_levels(len(above) + max(map(len, subtree.values())))

        async def branch_of(group: str) -> list[str]:
            return [*subtree[group], *above]

        restamped = await restamping(self.engine, self.registry, list(subtree), branch_of)
        # While no group above has moved or been deleted, the move creates no cycle.
        expected = [*self._place_is_unchanged(parent, ancestors), *expect.subtree_has_not_grown(subtree)]
        return Prepared(fields, [*expected, *restamped])

    def moves(self, prepared: Prepared) -> bool:
        return bool(prepared.more_writes)

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        for store, path, what in (("groups", "parent", "groups below it"), ("users", "group", "users in it")):
            if await self.engine.entities(store, Query(inside(path, [before["_id"]]), limit=1)):
                raise Conflict(f"There are {what}.")
        return [*expect.nothing_is_in_group(before["_id"])]

    async def _place(self, parent: Any, known: KnownGroups) -> list[Write]:
        """Check the parent of a new group, and return the expectations that its place is unchanged."""
        await self._check_parent(parent, ())
        above, ancestors = await read_chain(self.engine, parent, known)
        self._check_levels(len(above) + 1)
        return self._place_is_unchanged(parent, ancestors)

    async def _check_parent(self, parent: Any, subtree: Container[str]) -> None:
        if parent is None:
            return
        if not is_id(parent) or await find_one(self.engine, "groups", parent) is None:
            raise refuse("parent", f"There is no group with the id {parent!r}.")
        if parent in subtree:
            raise refuse("parent", "A group cannot be below itself.")

    @staticmethod
    def _check_levels(levels: int) -> None:
        if levels > MOST_GROUP_LEVELS:
            text = f"A tree of groups may have {MOST_GROUP_LEVELS} levels: this one would have {levels}."
            raise refuse("parent", text).at("MOST_GROUP_LEVELS")

    @staticmethod
    def _place_is_unchanged(parent: str | None, ancestors: Sequence[Entity]) -> list[Write]:
        return [*expect.groups_exist(parent), *expect.groups_are_unchanged(ancestors)]


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


class TokenHooks(StoreHooks):
    """The secret is shown once, in the answer that creates the token. Only its SHA-256 is stored."""

    repeatable = False

    def __init__(self, engine: Engine, registry: StoreRegistry, most: int) -> None:
        super().__init__(engine, registry)
        self._most = most

    async def check_number(self, principal: Principal, entities: Sequence[Entity]) -> None:
        for user, count in Counter(entity.get("user") or principal.user_id for entity in entities).items():
            if count > self._most and (principal.admin or user == principal.user_id):
                await self._check_room(user, count)

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        named = entity.get("user")
        user = await shared.once(f"holder {named}", lambda: self._holder(principal, named))
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
        return [*expect.credential_is_good(principal, user), expect.tokens_are_few(user, self._most)]

    async def commit_creation(
        self, entities: Sequence[Entity], writes: Sequence[Write], by: str | None, key: IdempotencyKey | None
    ) -> list[Written]:
        for user, more in Counter(entity["user"] for entity in entities).items():
            await self._check_room(user, more)
        return await super().commit_creation(entities, writes, by, key)

    async def _check_room(self, user: str, more: int) -> None:
        have = (await self.engine.summarize("tokens", Equal(("user",), user))).count
        if have + more > self._most:
            text = f"A user may have {self._most} tokens: this one has {have}. Revoke some first."
            raise refuse("user", text).at("max_tokens_per_user")

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

    async def _holder(self, principal: Principal, user: Any) -> Entity:
        if user is not None and user != principal.user_id and not principal.admin:
            raise Explained("user", "Only an administrator can create a token for another user.")
        holder = (
            await find_one(self.engine, "users", user or principal.user_id)
            if is_id(user or principal.user_id)
            else None
        )
        if holder is None:
            raise refuse("user", f"There is no user with the id {user!r}.")
        return holder


class SessionHooks(StoreHooks):
    """Sessions begin with `POST /api/v1/auth` and can only be ended."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "A session begins with POST /auth.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "A session cannot be changed, only ended.")


class SecondFactorHooks(StoreHooks):
    """One-time codes begin with `POST /api/v1/auth/totp`; deleting them switches them off."""

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "One-time codes begin with POST /auth/totp.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "One-time codes cannot be changed, only switched off.")

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        check_foreign(principal, before.get("user"))
        return await check_rights_of(self.engine, principal, "_id", before["user"])


class SignInHooks(StoreHooks):
    """An audit trail: only the hub writes it, and it removes records by age."""

    shared = False

    async def create(self, principal: Principal, body: Entity, entity: Entity, shared: SharedReads) -> Prepared:
        raise Explained("body", "Only the hub records sign-ins.")

    async def change(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> Prepared:
        raise Explained("_id", "The record of a sign-in cannot be changed.")

    async def delete(self, principal: Principal, before: Entity) -> list[Write]:
        raise Explained("_id", "The record of a sign-in cannot be deleted.")
