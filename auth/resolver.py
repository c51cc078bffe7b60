"""Resolution of a credential to its principal, for HTTP and sockets alike.

Principals are cached until something that they depend on changes. Code that makes such a change calls `forget`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from auth.errors import Forbidden, Unauthenticated
from auth.groups import chain_of, find_one
from auth.principal import CredentialKind, Principal
from auth.scopes import BadScope, Scopes, parse_scopes
from auth.secrets import digest
from auth.system_stores import ADMIN_ROLE
from stores.errors import Unavailable
from stores.protocol import Engine
from stores.query import NOTHING, And, Equal, In, Not, Query
from stores.records import Change, Entity, difference, is_id, now_ms

ATTEMPTS = 100
"""Maximum reads of one principal while its data keeps changing."""

BOOKKEEPING = frozenset({"name", "last_used", "address", "agent", "_at", "_rev"})
"""Fields of sessions and tokens that no principal depends on: the name of a token, and records of use."""

OF_USER = frozenset({"login", "group", "roles", "disabled"})
"""Fields of a user that its principals depend on."""

FOREVER = 2**62
"""Value of `expires` for credentials that do not expire."""

CONTROL_ID = ""
"""Credential id of this process's own command line."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A session or token as stored."""

    id: str
    user_id: str
    kind: CredentialKind
    expires: int
    scopes: Scopes | None


class Loads:
    """Records which users and credentials change while principals are being read.

    It holds at most `most` ids. Beyond that, all principals count as changed.
    """

    def __init__(self, most: int) -> None:
        self.generation = 0
        self._most = most
        self._running = 0
        self._all_changed = 0
        self._changed: dict[str, int] = {}  # generation by id

    @contextmanager
    def running(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._changed.clear()

    def invalidate(self, id: str) -> None:
        if not self._running:
            return
        if len(self._changed) >= self._most:
            self.invalidate_all()
            return
        self.generation += 1
        self._changed[id] = self.generation

    def invalidate_all(self) -> None:
        self.generation += 1
        self._all_changed = self.generation
        self._changed.clear()

    def is_valid(self, principal: Principal, began: int) -> bool:
        """Return whether nothing that the principal depends on has changed since generation `began`."""
        ids = (principal.user_id, principal.credential_id)
        return self._all_changed <= began and all(self._changed.get(id, 0) <= began for id in ids)


class Resolver:
    """Resolves credentials, with a cache of at most `remembered` principals.

    `control` is a credential that only this process knows, for the command line. It resolves to the oldest
    administrator.
    """

    def __init__(self, engine: Engine, remembered: int = 10_000, control: str | None = None) -> None:
        self._engine = engine
        self._control = digest(control) if control else None
        self._remembered = remembered
        self._cache: OrderedDict[str, Principal] = OrderedDict()
        self._key_of: dict[str, str] = {}  # by credential id
        self._keys_of_user: dict[str, set[str]] = defaultdict(set)
        self._loads = Loads(remembered)

    async def resolve(self, credential: str) -> Principal:
        """Return the principal of a session cookie or Bearer token. Raises Unauthenticated."""
        key = digest(credential)
        principal = self._cache.get(key)
        if principal is None:
            principal = await self._load(key)
        if principal.expires <= now_ms():
            raise Unauthenticated("the credential has expired")
        return principal

    async def principal_of(self, user_id: str, credential: Credential) -> Principal:
        """Return the principal for a user, with its roles and groups.

        Raises Unauthenticated if the user does not exist or is disabled.
        """
        user = await find_one(self._engine, "users", user_id) if is_id(user_id) else None
        if user is None or user.get("disabled"):
            raise Unauthenticated("no such user")
        roles = await read_roles(self._engine, user.get("roles"))
        group = user.get("group")
        group = group if isinstance(group, str) else None  # another program may have stored anything
        return Principal(
            user_id=user_id,
            login=str(user.get("login") or ""),  # another program may have made a user without one
            group=group,
            branch=await chain_of(self._engine, group),
            roles=tuple(role["_id"] for role in roles),
            admin=any(role["name"] == ADMIN_ROLE for role in roles),
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
        self._cache.clear()
        self._key_of.clear()
        self._keys_of_user.clear()

    def forget_entity(self, store: str, id: str) -> None:
        if store in ("roles", "groups"):
            self.forget_all()
        elif store == "users":
            self.forget_user(id)
        elif store in ("tokens", "sessions"):
            self._forget_credential(id)

    def forget_user(self, id: str) -> None:
        """Drop the principals of one user, for all credentials."""
        self._loads.invalidate(id)
        for key in list(self._keys_of_user.get(id, ())):
            self._drop(key)
        if self._control is not None:  # any user may now be the oldest administrator
            self._forget_credential(CONTROL_ID)

    def _forget_credential(self, id: str) -> None:
        self._loads.invalidate(id)
        key = self._key_of.get(id)
        if key is not None:
            self._drop(key)

    async def _load(self, key: str) -> Principal:
        """Read a principal, and read it again if something that it depends on changes meanwhile.

        A live session that starts with the old state would not be notified of such a change.
        """
        with self._loads.running():
            for _ in range(ATTEMPTS):
                began = self._loads.generation
                principal = await self._read(key)
                if self._loads.is_valid(principal, began):
                    self._remember(key, principal)
                    return principal
        raise Unavailable("users, groups and roles change faster than they can be read")

    def _remember(self, key: str, principal: Principal) -> None:
        self._drop(key)  # another request may have read it at the same time
        self._cache[key] = principal
        self._key_of[principal.credential_id] = key
        self._keys_of_user[principal.user_id].add(key)
        if len(self._cache) > self._remembered:
            self._drop(next(iter(self._cache)))

    def _drop(self, key: str) -> None:
        principal = self._cache.pop(key, None)
        if principal is None:
            return
        self._key_of.pop(principal.credential_id, None)
        keys = self._keys_of_user[principal.user_id]
        keys.discard(key)
        if not keys:
            del self._keys_of_user[principal.user_id]

    async def _read(self, key: str) -> Principal:
        credential = await self._credential(key)
        if credential is None:
            raise Unauthenticated("unknown credential")
        return await self.principal_of(credential.user_id, credential)

    async def confirm(self, principal: Principal) -> None:
        """Check in the database that the principal still has its rights, because its request may have taken long.

        Raises Unauthenticated and Forbidden.
        """
        if principal.kind == "control":
            return
        store = "tokens" if principal.kind == "token" else "sessions"
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

    async def _credential(self, key: str) -> Credential | None:
        if key == self._control:
            return Credential(CONTROL_ID, await self.first_admin(), "control", FOREVER, None)
        query = Query(Equal(("digest",), key), limit=1)
        for store in ("sessions", "tokens"):
            for found in await self._engine.entities(store, query):
                return _credential_of(store, found)
        return None


def _credential_of(store: str, found: Entity) -> Credential:
    """Return the credential for a stored session or token."""
    if store == "sessions":
        kind: CredentialKind = "access" if found.get("kind") == "access" else "session"
        return Credential(found["_id"], found["user"], kind, found["expires"], None)
    expires = found.get("expires")
    expires = FOREVER if expires is None else expires
    return Credential(found["_id"], found["user"], "token", expires, _token_scopes(found))


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
    if change.store in ("tokens", "sessions"):
        if change.op == "insert":
            return False
        return change.op != "update" or not difference(change.before, change.after).keys() <= BOOKKEEPING
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
