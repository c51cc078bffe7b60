"""From a credential to the principal it stands for: the one way in, for HTTP and sockets alike.

Principals are remembered until something that they depend on changes; who changes it calls `forget`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from auth.errors import Unauthenticated
from auth.groups import chain_of, find_one
from auth.principal import CredentialKind, Principal
from auth.scopes import BadScope, Scopes, parse_scopes
from auth.secrets import digest
from auth.standard import ADMIN_ROLE
from stores.errors import Unavailable
from stores.protocol import Engine
from stores.query import NOTHING, And, Equal, In, Not, Query
from stores.records import Change, Entity, difference, is_id, now_ms

ATTEMPTS = 100
"""Readings of one principal, while what it depends on changes."""

BOOKKEEPING = frozenset({"last_used", "address", "agent", "_at", "_rev"})
"""Fields of sessions and tokens that tell of their use."""

FOREVER = 2**62
"""`expires` of what does not expire."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A session or token as stored."""

    id: str
    user_id: str
    kind: CredentialKind
    expires: int
    scopes: Scopes | None


class Resolver:
    """`remembered`: how many principals are kept. `control`: a credential of this process alone, which stands for the
    administrator that has been there longest (the command line uses it)."""

    def __init__(self, engine: Engine, remembered: int = 10_000, control: str | None = None) -> None:
        self._engine = engine
        self._control = digest(control) if control else None
        self._remembered = remembered
        self._cache: OrderedDict[str, Principal] = OrderedDict()
        self._key_of: dict[str, str] = {}  # by credential id
        self._generation = 0

    async def resolve(self, credential: str) -> Principal:
        """The principal of a session cookie or Bearer token. Raises Unauthenticated."""
        key = digest(credential)
        principal = self._cache.get(key)
        if principal is None:
            principal = await self._load(key)
        if principal.expires <= now_ms():
            raise Unauthenticated("the credential has expired")
        return principal

    async def principal_of(self, user_id: str, credential: Credential) -> Principal:
        """The user with what its roles and groups give it. Raises Unauthenticated if it is gone or disabled."""
        user = await find_one(self._engine, "users", user_id) if is_id(user_id) else None
        if user is None or user.get("disabled"):
            raise Unauthenticated("no such user")
        roles = await self._roles(user.get("roles"))
        group = user.get("group")
        return Principal(
            user_id=user_id,
            login=user["login"],
            group=group,
            branch=await chain_of(self._engine, group),
            roles=tuple(role["_id"] for role in roles),
            admin=any(role["name"] == ADMIN_ROLE for role in roles),
            role_scopes=_role_scopes(roles) if user.get("roles") else None,
            token_scopes=credential.scopes,
            kind=credential.kind,
            credential_id=credential.id,
            expires=credential.expires,
        )

    def forget(self, changes: Iterable[Change]) -> None:
        """Take in changes of the administrative stores: what is remembered of them is no longer true."""
        for change in changes:
            if change.op == "lost":
                self.forget_all()
            elif not is_bookkeeping(change):
                self.forget_entity(change.store, change.id, change.op == "insert")

    def forget_all(self) -> None:
        self._generation += 1
        self._cache.clear()
        self._key_of.clear()

    def forget_entity(self, store: str, id: str, inserted: bool = False) -> None:
        if store in ("users", "roles", "groups"):
            self.forget_all()
        elif store in ("tokens", "sessions") and not inserted:
            self._generation += 1
            key = self._key_of.pop(id, None)
            if key is not None:
                del self._cache[key]

    async def _load(self, key: str) -> Principal:
        """Read anew as often as something changes meanwhile: a live session that begins by what was true before such
        a change is not told of it again."""
        for _ in range(ATTEMPTS):
            generation = self._generation
            principal = await self._read(key)
            if generation == self._generation:
                self._remember(key, principal)
                return principal
        raise Unavailable("users, groups and roles change faster than they can be read")

    def _remember(self, key: str, principal: Principal) -> None:
        self._cache[key] = principal
        self._key_of[principal.credential_id] = key
        while len(self._cache) > self._remembered:
            _, oldest = self._cache.popitem(last=False)
            self._key_of.pop(oldest.credential_id, None)

    async def _read(self, key: str) -> Principal:
        credential = await self._credential(key)
        if credential is None:
            raise Unauthenticated("unknown credential")
        return await self.principal_of(credential.user_id, credential)

    async def first_admin(self) -> str:
        """The user id of the administrator that has been there longest. Raises Unauthenticated if there is none."""
        roles = await self._engine.entities("roles", Query(Equal(("name",), ADMIN_ROLE), limit=1))
        where = And((Equal(("roles",), roles[0]["_id"]), Not(Equal(("disabled",), True)))) if roles else NOTHING
        for user in await self._engine.entities("users", Query(where, limit=1)):
            return str(user["_id"])
        raise Unauthenticated("there is no administrator")

    async def _credential(self, key: str) -> Credential | None:
        if key == self._control:
            return Credential("", await self.first_admin(), "control", FOREVER, None)
        query = Query(Equal(("digest",), key), limit=1)
        for session in await self._engine.entities("sessions", query):
            kind: CredentialKind = "access" if session.get("kind") == "access" else "session"
            return Credential(session["_id"], session["user"], kind, session["expires"], None)
        for token in await self._engine.entities("tokens", query):
            expires = token.get("expires")
            expires = FOREVER if expires is None else expires
            return Credential(token["_id"], token["user"], "token", expires, _token_scopes(token))
        return None

    async def _roles(self, ids: object) -> list[Entity]:
        known = tuple(i for i in ids if is_id(i)) if isinstance(ids, list) else ()
        return await self._engine.entities("roles", Query(In(("_id",), known))) if known else []


def is_bookkeeping(change: Change) -> bool:
    """Whether the change only says when and from where a credential was last used: no principal is another for it."""
    if change.store not in ("tokens", "sessions") or change.op != "update":
        return False
    return difference(change.before, change.after).keys() <= BOOKKEEPING


def _role_scopes(roles: list[Entity]) -> Scopes:
    return _parsed(scope for role in roles for scope in role.get("scopes") or [])


def _token_scopes(token: Entity) -> Scopes | None:
    scopes = token.get("scopes")
    return None if scopes is None else _parsed(scopes)


def _parsed(texts: Iterable[object]) -> Scopes:
    """Scopes were checked when written; one that another program spoiled grants nothing."""
    pairs: set[tuple[str, str]] = set()
    for text in texts:
        try:
            pairs |= parse_scopes([str(text)]).pairs
        except BadScope:
            continue
    return Scopes(frozenset(pairs))
