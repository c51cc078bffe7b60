"""Signing in and out: sessions behind a cookie, access tokens, and when a token was last used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auth.attempts import LoginAttempts
from auth.errors import Unauthenticated
from auth.groups import chain_of
from auth.principal import Principal
from auth.resolver import Resolver
from auth.secrets import PREFIX_LENGTH, Passwords, digest, new_credential
from hub.errors import BadRequest
from stores.errors import NotFound
from stores.protocol import Delete, DeleteMany, Engine, Insert, Update
from stores.query import Compare, Equal, Query
from stores.records import Entity, new_id, now_ms

HOUR = 3_600_000
MOST_EXPIRED = 10_000
"""Sessions removed by one round of housekeeping."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new credential; the only time that it is known. Times are Unix ms."""

    credential: str
    issued_at: int
    expires_at: int


class Accounts:
    """`session_hours` and `token_hours` are how long a cookie and an access token last."""

    def __init__(
        self,
        engine: Engine,
        resolver: Resolver,
        passwords: Passwords,
        attempts: LoginAttempts,
        session_hours: int,
        token_hours: int,
    ) -> None:
        self._engine = engine
        self._resolver = resolver
        self._passwords = passwords
        self._attempts = attempts
        self._hours = {"session": session_hours, "access": token_hours}
        self._noted: dict[str, int] = {}

    async def sign_in(
        self, login: str, password: str, kind: Literal["session", "access"], address: str, agent: str
    ) -> Issued:
        """Raises Unauthenticated, the same and after the same time for an unknown login and a wrong password, and
        TooManyAttempts."""
        await self._attempts.take(login, address)
        found = await self._engine.entities("users", Query(Equal(("login",), login), limit=1))
        user = found[0] if found else None
        right = await self._passwords.verify(user.get("password") if user else None, password)
        if user is None or not right or user.get("disabled"):
            raise Unauthenticated("wrong login or password")
        await self._attempts.succeeded(login, address)
        return await self._begin(user, kind, address, agent)

    async def _begin(self, user: Entity, kind: Literal["session", "access"], address: str, agent: str) -> Issued:
        credential, now = new_credential(), now_ms()
        issued = Issued(credential, now, now + self._hours[kind] * HOUR)
        session = {
            "_id": new_id(),
            "user": user["_id"],
            "kind": kind,
            "expires": issued.expires_at,
            "prefix": credential[:PREFIX_LENGTH],
            "address": address[:200],
            "agent": agent[:200],
            "digest": digest(credential),
            "owner": user["_id"],
            "group": user.get("group"),
            "access": [],
            "branch": list(await chain_of(self._engine, user.get("group"))),
            "time": now,
            "_at": now,
            "_rev": 1,
        }
        await self._engine.commit([Insert("sessions", session)], user["_id"])
        return issued

    async def sign_out(self, principal: Principal) -> None:
        """End the session or access token at hand; a long-lived token is revoked in the store `tokens`
        (BadRequest)."""
        if principal.kind not in ("session", "access"):
            raise BadRequest("token", "A long-lived token is revoked by deleting it from the store tokens.")
        try:
            await self._engine.commit([Delete("sessions", principal.credential_id)], principal.user_id)
        except NotFound:
            pass  # it has ended already: that is what was asked for
        self._resolver.forget_entity("sessions", principal.credential_id)

    async def note_use(self, principal: Principal) -> None:
        """Remember, to the hour, when a token was last used."""
        now = now_ms()
        if principal.kind != "token" or now - self._noted.get(principal.credential_id, 0) < HOUR:
            return
        if len(self._noted) > 10_000:
            self._noted.clear()
        self._noted[principal.credential_id] = now
        try:
            await self._engine.commit([Update("tokens", principal.credential_id, {"last_used": now})], None)
        except NotFound:
            pass  # revoked in this moment

    async def sweep(self, now: int) -> None:
        """Remove sessions that have expired."""
        expired = Compare(("expires",), "lt", now)
        if len(await self._engine.entities("sessions", Query(expired, limit=MOST_EXPIRED))) < MOST_EXPIRED:
            await self._engine.commit([DeleteMany("sessions", expired, MOST_EXPIRED)], None)
