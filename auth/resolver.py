"""Resolution of a credential to its principal, for HTTP and sockets alike.

Principals are cached until something that they depend on changes. Code that makes such a change calls `forget`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from auth.errors import Forbidden, Unauthenticated
from auth.groups import chain_of, find_one
from auth.keys import SCOPES, KeyHolder, is_secret, key_of, scope_of
from auth.principal import CREDENTIAL_STORES, CredentialKind, Principal
from auth.principal_cache import Loads, PrincipalCache
from auth.scopes import BadScope, Scopes, parse_scopes
from auth.secrets import digest
from auth.system_stores import ADMIN_ROLE
from stores.errors import Unavailable
from stores.protocol import Engine
from stores.query import NOTHING, And, Equal, In, Not, Query
from stores.records import Change, Entity, difference, is_id, now_ms

T = TypeVar("T")

ATTEMPTS = 100
"""Maximum reads of one principal while its data keeps changing."""

BOOKKEEPING = frozenset({"name", "last_used", "address", "agent", "_at", "_rev"})
"""Fields of credentials that no principal depends on: the name of a token, and records of use."""

OF_USER = frozenset({"login", "group", "roles", "disabled", "number"})
"""Fields of a user that its principals, or the holders of its keys, depend on."""

BOOKKEEPING_OF_KEYS = BOOKKEEPING - {"name"}
"""Fields of keys that no holder depends on: APIs show the name of a key."""

CREDENTIALS = frozenset(CREDENTIAL_STORES.values())
"""The system stores of credentials."""

FOREVER = 2**62
"""Value of `expires` for credentials that do not expire."""

CONTROL_ID = ""
"""Credential id of this process's own command line."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A session, token or key as stored."""

    id: str
    user_id: str
    kind: CredentialKind
    expires: int
    scopes: Scopes | None


class Resolver:
    """Resolves credentials, with a cache of at most `remembered` principals, and another for as many keys: no call of
    one kind can find what the other has cached.

    `control` is a credential that only this process knows, for the command line. It resolves to the oldest
    administrator.
    """

    def __init__(self, engine: Engine, remembered: int = 10_000, control: str | None = None) -> None:
        self._engine = engine
        self._control = digest(control) if control else None
        self._principals = PrincipalCache[Principal](remembered, lambda principal: principal)
        self._holders = PrincipalCache[KeyHolder](remembered, lambda holder: holder.principal)
        self._loads = Loads(remembered)

    async def resolve(self, credential: str) -> Principal:
        """Return the principal of a session cookie or Bearer token. Raises Unauthenticated, for an API key too."""
        hashed = digest(credential)
        principal = self._principals.get(hashed)
        if principal is None:
            principal = await self._load(hashed, self._principals, self._read)
        _check_expiry(principal)
        return principal

    async def resolve_key(self, credential: str, kind: str) -> KeyHolder:
        """Return the holder of an active API key of this kind. Raises Unauthenticated, for any other credential too."""
        if not is_secret(credential):
            raise Unauthenticated("not a key")
        hashed = digest(credential)
        holder = self._holders.get(hashed)
        if holder is None:
            holder = await self._load(hashed, self._holders, self._read_holder)
        _check_expiry(holder.principal)
        if holder.key.kind != kind:
            raise Unauthenticated("a key of another kind")
        return holder

    async def principal_of(self, user_id: str, credential: Credential) -> Principal:
        """Return the principal for a user, with its roles and groups.

        Raises Unauthenticated if the user does not exist or is disabled.
        """
        return await self._principal(await self._active_user(user_id), credential)

    async def _active_user(self, user_id: str) -> Entity:
        user = await find_one(self._engine, "users", user_id) if is_id(user_id) else None
        if user is None or user.get("disabled"):
            raise Unauthenticated("no such user")
        return user

    async def _principal(self, user: Entity, credential: Credential) -> Principal:
        roles = await read_roles(self._engine, user.get("roles"))
        group = user.get("group")
        group = group if isinstance(group, str) else None  # another program may have stored anything
        return Principal(
            user_id=user["_id"],
            login=str(user.get("login") or ""),  # another program may have made a user without one
            group=group,
            branch=await chain_of(self._engine, group),
            roles=tuple(role["_id"] for role in roles),
            admin=credential.kind != "key" and any(role["name"] == ADMIN_ROLE for role in roles),
            role_scopes=role_scopes(roles) if user.get("roles") else None,
            token_scopes=credential.scopes,
            kind=credential.kind,
            credential_id=credential.id,
            expires=credential.expires,
        )

    def forget(self, changes: Iterable[Change]) -> None:
        """Drop cached principals that changes of the system stores make stale."""
        for change in changes:
            if change.op == "lost":
                self.forget_all()
            elif alters_principals(change):
                self.forget_entity(change.store, change.id)

    def forget_all(self) -> None:
        self._loads.invalidate_all()
        self._principals.clear()
        self._holders.clear()

    def forget_entity(self, store: str, id: str) -> None:
        if store in ("roles", "groups"):
            self.forget_all()
        elif store == "users":
            self.forget_user(id)
        elif store in CREDENTIALS:
            self._forget_credential(id)

    def forget_user(self, id: str) -> None:
        """Drop the principals of one user, for all credentials."""
        self._loads.invalidate(id)
        self._principals.forget_user(id)
        self._holders.forget_user(id)
        if self._control is not None:  # any user may now be the oldest administrator
            self._forget_credential(CONTROL_ID)

    def _forget_credential(self, id: str) -> None:
        self._loads.invalidate(id)
        self._principals.forget_credential(id)
        self._holders.forget_credential(id)

    async def _load(self, hashed: str, cache: PrincipalCache[T], read: Callable[[str], Awaitable[T]]) -> T:
        """Read what a credential stands for, and read it again if something that it depends on changes meanwhile.

        A live session that starts with the old state would not be notified of such a change.
        """
        with self._loads.running():
            for _ in range(ATTEMPTS):
                began = self._loads.generation
                found = await read(hashed)
                if self._loads.is_valid(cache.principal_of(found), began):
                    cache.remember(hashed, found)
                    return found
        raise Unavailable("users, groups and roles change faster than they can be read")

    async def _read(self, hashed: str) -> Principal:
        credential = await self._credential(hashed)
        if credential is None:
            raise Unauthenticated("unknown credential")
        return await self.principal_of(credential.user_id, credential)

    async def _read_holder(self, hashed: str) -> KeyHolder:
        for found in await self._engine.entities("keys", Query(Equal(("digest",), hashed), limit=1)):
            credential = _credential_of("keys", found)
            user = await self._active_user(credential.user_id)
            number = user.get("number")
            return KeyHolder(
                await self._principal(user, credential),
                key_of(found, credential.expires),
                number if isinstance(number, int) else None,
            )
        raise Unauthenticated("unknown key")

    async def confirm(self, principal: Principal) -> None:
        """Check in the database that the principal still has its rights, because its request may have taken long.

        Raises Unauthenticated and Forbidden.
        """
        if principal.kind == "control":
            return
        store = CREDENTIAL_STORES[principal.kind]
        found = await find_one(self._engine, store, principal.credential_id)
        if found is None:
            raise Unauthenticated("the credential has ended")
        now = await self.principal_of(principal.user_id, _credential_of(store, found))
        if _rights_of(now) != _rights_of(principal):
            raise Forbidden("the rights of the caller have changed")

    async def first_admin(self) -> str:
        """Return the user id of the oldest administrator that is not disabled.

        Raises Unauthenticated if there is none.
        """
        roles = await self._engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
        where = And((Equal(("roles",), roles[0]["_id"]), Not(Equal(("disabled",), True)))) if roles else NOTHING
        for user in await self._engine.entities("users", Query(where, limit=1)):
            return str(user["_id"])
        raise Unauthenticated("there is no administrator")

    async def _credential(self, hashed: str) -> Credential | None:
        if hashed == self._control:
            return Credential(CONTROL_ID, await self.first_admin(), "control", FOREVER, None)
        query = Query(Equal(("digest",), hashed), limit=1)
        for store in ("sessions", "tokens"):
            for found in await self._engine.entities(store, query):
                return _credential_of(store, found)
        return None


def _check_expiry(principal: Principal) -> None:
    if principal.expires <= now_ms():
        raise Unauthenticated("the credential has expired")


def _credential_of(store: str, found: Entity) -> Credential:
    """Return the credential for a stored session, token or key. Raises Unauthenticated for a key that is not active."""
    if store == "sessions":
        kind: CredentialKind = "access" if found.get("kind") == "access" else "session"
        return Credential(found["_id"], found["user"], kind, found["expires"], None)
    expires = found.get("expires")
    expires = FOREVER if expires is None else expires
    if store == "tokens":
        return Credential(found["_id"], found["user"], "token", expires, _token_scopes(found))
    if found.get("active") is not True:
        raise Unauthenticated("the key is not active")
    return Credential(found["_id"], found["user"], "key", expires, SCOPES[scope_of(found)])


def _rights_of(principal: Principal) -> tuple[object, ...]:
    return principal.admin, principal.role_scopes, principal.token_scopes


def alters_principals(change: Change) -> bool:
    """Return whether the change may alter a principal that existed before it.

    A principal does not depend on the name and last use of its credential, nor on the name, address or password of its
    user.
    """
    if change.store == "users":
        if change.op == "insert":
            return False
        return change.op != "update" or not OF_USER.isdisjoint(difference(change.before, change.after))
    if change.store in CREDENTIALS:
        if change.op == "insert":
            return False
        ignored = BOOKKEEPING_OF_KEYS if change.store == "keys" else BOOKKEEPING
        return change.op != "update" or not difference(change.before, change.after).keys() <= ignored
    return change.store in ("roles", "groups")


async def read_roles(engine: Engine, ids: object) -> list[Entity]:
    """Return those roles of a user that exist."""
    known = tuple(i for i in ids if is_id(i)) if isinstance(ids, list) else ()
    return await engine.entities("roles", Query(In(("_id",), known))) if known else []


def role_scopes(roles: list[Entity]) -> Scopes:
    """Return the scopes that at least one of these roles allows."""
    return parsed_scopes(scope for role in roles for scope in role.get("scopes") or [])


def _token_scopes(token: Entity) -> Scopes | None:
    scopes = token.get("scopes")
    return None if scopes is None else parsed_scopes(scopes)


def parsed_scopes(texts: Iterable[object]) -> Scopes:
    """Return the valid scopes. They were checked when written; an invalid one, from another program, grants nothing."""
    pairs: set[tuple[str, str]] = set()
    for text in texts:
        try:
            pairs |= parse_scopes([str(text)]).pairs
        except BadScope:
            continue
    return Scopes(frozenset(pairs))
