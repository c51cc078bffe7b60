"""Sign-in and sign-out: sessions with a cookie, access tokens, and the time of a credential's last use."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from auth.attempts import LoginAttempts, LoginQueue
from auth.errors import CodeRequired, TooManyAttempts, Unauthenticated
from auth.groups import chain_of
from auth.policy import authorize
from auth.principal import CREDENTIAL_STORES, Principal
from auth.resolver import Resolver
from auth.secrets import PREFIX_LENGTH, Passwords, digest, new_credential
from auth.system_stores import SYSTEM_STORES
from hub.http.errors import BadRequest
from hub.services import expectations as expect
from hub.services.credentials import ended_credentials
from hub.services.logins import find_user, spellings
from hub.services.second_factors import SecondFactors
from hub.services.signins import Result, SignIns
from stores.errors import NotAsExpected, NotFound, StaleRevision, StoreError, Unavailable
from stores.protocol import Delete, DeleteMany, Engine, Insert, Update, Write
from stores.query import Compare, Equal, In, Query, Sort
from stores.records import Entity, new_id, now_ms
from stores.tasks import run_each

log = logging.getLogger(__name__)

HOUR = 3_600_000

RETRIES = 5
"""Attempts to begin a session while the password is being changed."""

EXPIRED_AT_ONCE = 1_000
"""Sessions removed in one commit of the sweep."""

SURPLUS_AT_ONCE = 1_000
"""A user's oldest sessions that one sign-in ends at most."""

_NEWEST = (Sort(("time",), descending=True), Sort(("_id",), descending=True))

NOTED = 10_000
"""Credentials for which this process caches the time of the last recorded use."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new credential. It is not stored in clear, so this is the only copy. Times are Unix ms."""

    credential: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """The input of a sign-in."""

    login: str
    password: str
    code: str | None
    kind: Literal["session", "access"]
    address: str
    agent: str


class Accounts:
    """`session_hours` and `token_hours` are the lifetimes of sessions and access tokens. Beyond `most_sessions` of both
    together, a user's oldest ones end, and `on_limit` is called with the name of the limit."""

    def __init__(
        self,
        engine: Engine,
        resolver: Resolver,
        passwords: Passwords,
        attempts: LoginAttempts,
        queue: LoginQueue,
        factors: SecondFactors,
        signins: SignIns,
        session_hours: int,
        token_hours: int,
        most_sessions: int,
        on_limit: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._resolver = resolver
        self._passwords = passwords
        self._attempts = attempts
        self._queue = queue
        self._factors = factors
        self._signins = signins
        self._hours = {"session": session_hours, "access": token_hours}
        self._most_sessions = most_sessions
        self._on_limit = on_limit
        self._noted: OrderedDict[str, int] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def sign_in(
        self,
        login: str,
        password: str,
        code: str | None,
        kind: Literal["session", "access"],
        address: str,
        agent: str,
    ) -> Issued:
        """Begin a session or an access token.

        Raises Unauthenticated, with the same text and timing for an unknown login and a wrong password; CodeRequired,
        if the password is right, for a missing or wrong one-time code; and TooManyAttempts.
        """
        try:
            with self._queue.slot(address):
                self._attempts.check_address(address)  # a refusal costs no spellings
                names = spellings(login)
                return await self._counted(Attempt(login, password, code, kind, address, agent), names)
        except TooManyAttempts as refusal:
            await self._signins.limited(refusal, login, address, agent)
            raise

    async def _counted(self, attempt: Attempt, names: tuple[str, ...]) -> Issued:
        """Count the attempt until it succeeds, or until the database fails, which is no guess of the caller."""
        self._attempts.take(names[-1], attempt.address)
        try:
            return await self._judged(attempt, names)
        except StoreError:
            self._attempts.take_back(names[-1], attempt.address)
            raise

    async def _judged(self, attempt: Attempt, names: tuple[str, ...]) -> Issued:
        for _ in range(RETRIES):
            user, renewed = await self._proven(attempt, names)
            try:
                used_up = await self._factors.writes_of(user, attempt.code)
                issued = await self._begin(user, renewed, used_up, attempt)
            except (NotAsExpected, NotFound):
                continue  # the password was changed or the codes were switched off just now: check again
            except (CodeRequired, StaleRevision):
                await self._without_code(attempt, user)
                raise CodeRequired("the code is missing, wrong, or has just been used") from None
            self._attempts.succeeded(names[-1], attempt.address)
            return issued
        raise Unavailable("the user changes faster than a session can begin")

    async def _proven(self, attempt: Attempt, names: tuple[str, ...]) -> tuple[Entity, str | None]:
        """Return the user of the login and password, and the password's new hash if it needs one. Raises
        Unauthenticated."""
        user = await find_user(self._engine, names)
        verdict = await self._passwords.verify(user.get("password") if user else None, attempt.password)
        if user is None or not verdict.right or user.get("disabled"):
            await self._failed("disabled" if verdict.right else "password", attempt, user)
            raise Unauthenticated("wrong login or password")
        return user, verdict.renewed

    async def _failed(self, result: Result, attempt: Attempt, user: Entity | None) -> None:
        await self._signins.failed(result, attempt.login, user, attempt.address, attempt.agent)

    async def _without_code(self, attempt: Attempt, user: Entity) -> None:
        """Record a sign-in with the right password but no valid code. Without any code it is the first step of two, so
        it is no failure of the address."""
        if attempt.code is not None:
            await self._failed("code", attempt, user)
            return
        self._attempts.take_back_address(attempt.address)
        await self._signins.asked_for_code(attempt.login, user, attempt.address, attempt.agent)

    async def find_user(self, login: str) -> Entity | None:
        """Return the user with this login, or None."""
        return await find_user(self._engine, spellings(login))

    async def _begin(self, user: Entity, renewed: str | None, used_up: list[Write], attempt: Attempt) -> Issued:
        """Commit the new session. Raises NotAsExpected if the user's password is no longer the one that was checked,
        and StaleRevision if the one-time code was already used."""
        credential, now = new_credential(), now_ms()
        issued = Issued(credential, now, now + self._hours[attempt.kind] * HOUR)
        session = {
            "_id": new_id(),
            "user": user["_id"],
            "kind": attempt.kind,
            "expires": issued.expires_at,
            "prefix": credential[:PREFIX_LENGTH],
            "last_used": now,
            "address": attempt.address[:200],
            "agent": attempt.agent[:200],
            "digest": digest(credential),
            "owner": user["_id"],
            "group": user.get("group"),
            "access": [],
            "branch": list(await chain_of(self._engine, user.get("group"))),
            "time": now,
            "_at": now,
            "_rev": 1,
        }
        entry = self._signins.entry("ok", attempt.login, user, attempt.address, attempt.agent)
        writes: list[Write] = [expect.password_is(user), *used_up, Insert("sessions", session), entry]
        if renewed is not None:
            writes.append(Update("users", user["_id"], {"password": renewed}))
        surplus = await self._surplus(user)
        if surplus:
            writes.append(DeleteMany("sessions", In(("_id",), surplus), SURPLUS_AT_ONCE))
        await self._engine.commit(writes, user["_id"])
        self._ended(surplus)
        self._is_due(session["_id"], now)  # this commit has recorded the first use
        return issued

    async def _surplus(self, user: Entity) -> tuple[str, ...]:
        """Return the ids of the oldest sessions of the user, which must end for one more to begin. If concurrent
        sign-ins exceed the limit, the next one ends the rest."""
        mine = Equal(("owner",), user["_id"])  # its index is in the order of time
        query = Query(mine, _NEWEST, offset=self._most_sessions - 1, limit=SURPLUS_AT_ONCE)
        return tuple(session["_id"] for session in await self._engine.entities("sessions", query))

    def _ended(self, surplus: tuple[str, ...]) -> None:
        """Forget sessions that have ended at the limit, before the feed brings the change."""
        for id in surplus:
            self._resolver.forget_entity("sessions", id)
        if surplus:
            self._on_limit("max_sessions_per_user")

    async def sign_out(self, principal: Principal) -> None:
        """End the caller's session or access token. Raises BadRequest for a long-lived token: those are revoked in the
        store `tokens`."""
        if principal.kind not in ("session", "access"):
            raise BadRequest("token", "A long-lived token is revoked by deleting it from the store tokens.")
        try:
            await self._engine.commit([Delete("sessions", principal.credential_id)], principal.user_id)
        except NotFound:
            pass  # it has already ended
        self._resolver.forget_entity("sessions", principal.credential_id)

    async def end_others(self, principal: Principal, *, tokens: bool) -> int:
        """End the user's other sessions, and with `tokens` its tokens; return their number. Raises Forbidden."""
        also = ("tokens",) if tokens else ()
        for store in ("sessions", *also):
            authorize(principal, SYSTEM_STORES[store], "DELETE")
        ended = ended_credentials(principal.user_id, *also, but=principal.credential_id)
        written = await self._engine.commit(ended, principal.user_id)
        self._resolver.forget_user(principal.user_id)
        return sum(each.count for each in written)

    def note_use(self, principal: Principal, call: Caller) -> None:
        """Record when and from where a session or token was last used, at a resolution of one hour. It runs in the
        background; after a failure the next use is recorded instead. Of a key only the time is recorded: pages that
        use one send it from the browsers of their visitors."""
        now = now_ms()
        if principal.kind == "control" or not self._is_due(principal.credential_id, now):
            return
        use: Entity = {"last_used": now}
        if principal.kind != "key":
            use |= {"address": call.address[:200], "agent": agent_of(call)}
        task = asyncio.create_task(self._note(principal, use))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    def _is_due(self, credential_id: str, now: int) -> bool:
        """Return whether an hour has passed since this last returned True for the credential."""
        noted = self._noted.get(credential_id)
        if noted is not None and now - noted < HOUR:
            return False
        self._noted[credential_id] = now
        self._noted.move_to_end(credential_id)
        while len(self._noted) > NOTED:
            self._noted.popitem(last=False)
        return True

    async def _note(self, principal: Principal, use: Entity) -> None:
        store = CREDENTIAL_STORES[principal.kind]
        try:
            await self._engine.commit([Update(store, principal.credential_id, use)], None)
        except NotFound:
            pass  # the credential has just ended
        except Exception as error:  # no caller waits for this write, whatever fails
            log.info("the last use of a credential could not be noted: %s", type(error).__name__)
            self._noted.pop(principal.credential_id, None)

    async def sweep(self, now: int) -> None:
        """Remove expired sessions and old records of sign-ins, in batches between which other writes can run."""
        await run_each(partial(self._sweep_sessions, now), partial(self._signins.sweep, now))

    async def _sweep_sessions(self, now: int) -> None:
        expired = Query(Compare(("expires",), "lt", now), limit=EXPIRED_AT_ONCE)
        while found := await self._engine.entities("sessions", expired):
            ids = In(("_id",), tuple(session["_id"] for session in found))
            await self._engine.commit([DeleteMany("sessions", ids, EXPIRED_AT_ONCE)], None)


class Caller(Protocol):
    """The part of a request that is recorded as a credential's use."""

    @property
    def address(self) -> str: ...

    def header(self, name: bytes) -> str | None: ...


def agent_of(call: Caller) -> str:
    return (call.header(b"user-agent") or "")[:200]
