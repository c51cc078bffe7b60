"""The second factor of a sign-in: one-time codes of an authenticator app, and recovery codes.

A user has at most one entity in `second_factors`. Its secret is sealed with the hub's key; recovery codes are stored
only as keyed digests. An accepted code is marked as used in the commit that it authorises, so it works only once.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from auth.attempts import LoginAttempts
from auth.errors import CodeRequired, Explained, Unauthenticated
from auth.groups import find_one
from auth.principal import Principal
from auth.secret_key import BadSeal, SecretKey
from auth.totp import matching_step, new_recovery_codes, new_secret, normal_code, provisioning_url
from hub.http.errors import BadRequest
from hub.services import expectations as expect
from hub.services.credentials import Credentials
from hub.services.retrying import retry_on_current, retry_unexpected
from hub.services.stamping import stamp_new
from hub.services.user_rights import check_rights_of
from stores.errors import Conflict, NotAsExpected, NotFound
from stores.protocol import Delete, Engine, Insert, Update, Write
from stores.query import Equal, In, Query
from stores.records import Entity, now_ms

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE: Final = "second_factors"
ISSUER: Final = "hub"
RECENT_SIGN_IN: Final = 600_000
"""Milliseconds for which a sign-in replaces the current password as proof of identity."""

_PURPOSE: Final = "one-time codes"
_RECOVERY: Final = "recovery codes"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The data for an authenticator app, shown once."""

    secret: str
    url: str


class SecondFactors:
    """`attempts` limits guesses of a user's codes, whatever the address: at sign-in per user, later per credential."""

    def __init__(self, engine: Engine, key: SecretKey, attempts: LoginAttempts, credentials: Credentials) -> None:
        self._engine = engine
        self._key = key
        self._sealer = key.sealer(_PURPOSE)
        self._attempts = attempts
        self._credentials = credentials

    async def is_in_force(self, user_id: str) -> bool:
        found = await self._find(user_id)
        return found is not None and found["confirmed"]

    async def begin(self, principal: Principal, password: str | None) -> Enrolment:
        """Create a new secret, which is in force once a code of it is confirmed.

        `password` is the current password; it is not needed within ten minutes after sign-in. Raises InvalidEntity and
        TooManyAttempts for the password, and Conflict if a secret is already in force.
        """

        async def attempt() -> Enrolment:
            return await self._begin(principal, await self._proof(principal, password))

        return await retry_unexpected(attempt)

    async def _proof(self, principal: Principal, password: str | None) -> list[Write]:
        """Check that the caller is the user: the thief of a session could otherwise lock the user out. Return the
        conditions under which the commit checks this again."""
        good: list[Write] = [*expect.credential_is_good(principal, principal.user_id)]
        if principal.kind == "control":
            return good
        session = await find_one(self._engine, "sessions", principal.credential_id)
        if session is None:
            raise Unauthenticated("the session has ended")
        if password is None and abs(now_ms() - session["time"]) <= RECENT_SIGN_IN:
            return good
        user = await find_one(self._engine, "users", principal.user_id)
        if user is None:
            raise Unauthenticated("no such user")
        await self._credentials.check_password(principal, user, password, "switch on one-time codes")
        return [*good, expect.password_is(user)]

    async def _begin(self, principal: Principal, proof: list[Write]) -> Enrolment:
        found = await self._find(principal.user_id)
        if found is not None and found["confirmed"]:
            raise Conflict("One-time codes are in force: switch them off first.")
        secret = new_secret()
        fields = {"secret": self._sealer.seal(secret.encode(), principal.user_id), "confirmed": False, "step": 0}
        if found is None:
            made = stamp_new({"user": principal.user_id, "codes": [], **fields}, principal, principal.branch)
            write: Write = Insert(STORE, made)
        else:
            write = Update(STORE, found["_id"], fields | {"_at": now_ms()}, revs=frozenset({found["_rev"]}))
        await self._engine.commit([write, *proof], principal.user_id)
        return Enrolment(secret, provisioning_url(secret, principal.login, ISSUER))

    async def confirm(self, principal: Principal, code: str) -> list[str]:
        """Put the secret into force with a first code; return the recovery codes, which are shown once. Raises NotFound
        without an unconfirmed secret, BadRequest for a wrong code, and TooManyAttempts."""
        found = await self._find(principal.user_id)
        if found is None or found["confirmed"]:
            raise NotFound("no one-time codes to confirm")
        step = self._judged(found, lambda: self._step(found, code), principal.credential_id)
        if step is None:
            raise _wrong()
        codes = new_recovery_codes()
        digests = [self._digest(found, each) for each in codes]
        fields = {"confirmed": True, "step": step, "codes": digests, "_at": now_ms()}
        good = expect.credential_is_good(principal, principal.user_id)
        try:
            await self._engine.commit([self._update(found, fields), *good], principal.user_id)
        except NotAsExpected:
            raise Unauthenticated("the session has ended") from None
        return codes

    async def switch_off(self, principal: Principal, code: str) -> None:
        """Switch off one-time codes, with a code of the app or a recovery code. Raises NotFound if there are none,
        BadRequest for a wrong code, and TooManyAttempts."""
        mine = Equal(("user",), principal.user_id)

        def judged(found: Entity) -> Entity | None:
            return self._judged(found, lambda: self._accepted(found, code), principal.credential_id)

        async def attempt(found: Entity) -> None:
            if found["confirmed"] and judged(found) is None:
                raise _wrong()
            # Fails if the codes were confirmed, or this code was used, since they were read.
            await self._engine.commit(
                [Delete(STORE, found["_id"], mine, frozenset({found["_rev"]}))], principal.user_id
            )

        found = await self._find(principal.user_id)
        if found is None:
            raise NotFound("no one-time codes")
        await retry_on_current(self._engine, STORE, found["_id"], mine, None, attempt)

    async def remove(self, user_id: str, by: Principal) -> None:
        """Switch off the codes of another user, as an administrator. Raises NotFound if there are none, Forbidden for
        the administrator's own, and TooNarrow for a token with fewer rights than the user."""
        check_foreign(by, user_id)

        async def attempt() -> None:
            found = await self._find(user_id)
            if found is None:
                raise NotFound("no one-time codes")
            judged = await check_rights_of(self._engine, by, "_id", user_id)
            await self._engine.commit([Delete(STORE, found["_id"]), *judged], by.user_id)

        await retry_unexpected(attempt)

    async def writes_of(self, user: Entity, code: str | None) -> list[Write]:
        """Return the writes by which a sign-in of this user marks its code as used; empty without a second factor.

        Raises CodeRequired without a valid code, and TooManyAttempts. Their commit raises StaleRevision if the code was
        used meanwhile.
        """
        found = await self._find(user["_id"])
        if found is None or not found["confirmed"]:
            return []
        if code is None:
            raise CodeRequired("a code is needed")
        fields = self._judged(found, lambda: self._accepted(found, code))
        if fields is None:
            raise CodeRequired("wrong code")
        return [self._update(found, fields | {"_at": now_ms()})]

    async def _find(self, user_id: str) -> Entity | None:
        found = await self._engine.entities(STORE, Query(Equal(("user",), user_id), limit=1))
        return found[0] if found else None

    def _judged(self, factor: Entity, judge: Callable[[], T | None], credential: str | None = None) -> T | None:
        """Return the verdict of `judge` on a code, None for a wrong code. Each guess is counted before it is judged,
        for the `credential` (its id) with which it was made. Raises TooManyAttempts."""
        account = f"code:{factor['user']}"
        self._attempts.take_of(account, credential)
        verdict = judge()
        if verdict is not None:
            self._attempts.succeeded_of(account, credential)
        return verdict

    def _accepted(self, factor: Entity, code: str) -> Entity | None:
        """Return the changes that mark a valid code as used, or None for a wrong code."""
        step = self._step(factor, code)
        if step is not None:
            return {"step": step}
        given = self._digest(factor, code)
        used = [each for each in factor["codes"] if hmac.compare_digest(each, given)]
        return {"codes": [each for each in factor["codes"] if each not in used]} if used else None

    def _step(self, factor: Entity, code: str) -> int | None:
        try:
            secret = self._sealer.unseal(factor["secret"], factor["user"]).decode()
        except BadSeal:
            log.error("the one-time codes of a user were sealed with another HUB_SECRET_KEY")
            return None
        return matching_step(secret, normal_code(code), now_ms() // 1000, factor["step"])

    def _digest(self, factor: Entity, code: str) -> str:
        return self._key.digest(_RECOVERY, f"{factor['user']}:{normal_code(code)}".encode())

    @staticmethod
    def _update(factor: Entity, fields: Entity) -> Update:
        return Update(STORE, factor["_id"], fields, revs=frozenset({factor["_rev"]}))


def is_readable(key: SecretKey, factor: Mapping[str, Any]) -> bool:
    """Return whether the secret of an entity of `second_factors` was sealed with this key."""
    try:
        key.sealer(_PURPOSE).unseal(str(factor.get("secret")), str(factor.get("user")))
    except BadSeal:
        return False
    return True


async def logins_of_unreadable(engine: Engine, key: SecretKey) -> list[str]:
    """Return the sorted logins of users whose codes are in force and were sealed with another key. A user without a
    login is named by its id."""
    everyone = 2**31 - 1
    factors = await engine.entities(STORE, Query(Equal(("confirmed",), True), limit=everyone))
    users = [factor["user"] for factor in factors if not is_readable(key, factor)]
    found = await engine.entities("users", Query(In(("_id",), tuple(users)), limit=everyone)) if users else []
    return sorted(str(user.get("login") or user["_id"]) for user in found)


def check_foreign(principal: Principal, user_id: object) -> None:
    """Raise Explained if the caller would switch off its own codes without a code: a stolen session or token of an
    administrator must not. The command line may."""
    if user_id == principal.user_id and principal.kind != "control":
        raise Explained("_id", "Your own one-time codes are switched off with a code: DELETE /auth/totp.")


def _wrong() -> BadRequest:
    return BadRequest("code", "This is not a code that is valid now.")
