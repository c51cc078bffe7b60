"""The audit trail of sign-ins: user, address and result of each attempt."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Final, Literal

from auth.addresses import address_block
from auth.attempts import MovingWindow
from auth.errors import TooManyAttempts
from hub.services.logins import find_user, spellings
from stores.bounds import Limit
from stores.errors import StoreError
from stores.protocol import DeleteMany, Engine, Insert
from stores.query import Compare, In, Query
from stores.records import Entity, new_id, now_ms

log = logging.getLogger("hub.signin")

Result = Literal["ok", "password", "code", "limited", "disabled"]

FAILURES_RECORDED: Annotated[int, Limit("process and minute", "failed sign-ins", "not recorded, logged")] = 600
"""Further failures are only logged, so that a flood of guesses does not fill the database."""

KEPT_DAYS = 90
DAY = 86_400_000
REMOVED_AT_ONCE = 1_000
LONGEST: Final = 200
"""Characters of a login, address or user agent that are stored."""

_EVERYBODY = b"everybody"


class SignIns:
    """`window`: seconds in which refusals by a rate limit are recorded once per address (IPv6: per /64 network)."""

    def __init__(self, engine: Engine, window: int) -> None:
        self._engine = engine
        self._recorded = MovingWindow(FAILURES_RECORDED, 60, time.monotonic)
        self._limited = MovingWindow(1, window, time.monotonic)

    def entry(self, result: Result, login: str, user: Entity | None, address: str, agent: str) -> Insert:
        """Return the write that records a sign-in. A known user owns the record; others are for administrators only."""
        now = now_ms()
        known = {"user": user["_id"], "owner": user["_id"]} if user else {"user": None, "owner": None}
        return Insert(
            "signins",
            {
                "_id": new_id(),
                "login": login[:LONGEST],
                "address": address[:LONGEST],
                "agent": agent[:LONGEST],
                "result": result,
                **known,
                "group": None,
                "access": [],
                "branch": [],
                "time": now,
                "_at": now,
                "_rev": 1,
            },
        )

    async def failed(self, result: Result, login: str, user: Entity | None, address: str, agent: str) -> None:
        """Log and record a refused sign-in. The answer to the caller does not depend on this."""
        self._log(result, user, address)
        await self._record(result, login, user, address, agent)

    async def asked_for_code(self, login: str, user: Entity, address: str, agent: str) -> None:
        """Record a sign-in with the right password and no one-time code. It is not logged: fail2ban would ban people
        who sign in as they should."""
        await self._record("code", login, user, address, agent)

    def _log(self, result: Result, user: Entity | None, address: str) -> None:
        # fail2ban expects the address at this place. The login is not logged: it may be a mistyped password.
        known = f"user {user['_id']}" if user else "not looked up" if result == "limited" else "unknown login"
        log.warning("sign-in failed from %s: %s, %s", address[:LONGEST].replace("\n", " ") or "?", result, known)

    async def _record(self, result: Result, login: str, user: Entity | None, address: str, agent: str) -> None:
        if self._recorded.wait(_EVERYBODY) > 0:
            return
        self._recorded.add(_EVERYBODY)
        try:
            if result == "limited":
                user = await find_user(self._engine, spellings(login))
            await self._engine.commit([self.entry(result, login, user, address, agent)], None)
        except StoreError as error:
            log.warning("a failed sign-in could not be recorded: %s", error)

    async def limited(self, refusal: TooManyAttempts, login: str, address: str, agent: str) -> None:
        """Log and record a sign-in refused by a rate limit, once per address (IPv6: per /64 network) while the limit
        lasts. The user is looked up, since it may read the record."""
        key = f"{refusal.limit_name} {address_block(address)}".encode("utf-8", "surrogatepass")
        if self._limited.wait(key) > 0:
            return
        self._limited.add(key)
        await self.failed("limited", login, None, address, agent)

    async def sweep(self, now: int) -> None:
        """Remove records older than 90 days."""
        old = Query(Compare(("time",), "lt", now - KEPT_DAYS * DAY), limit=REMOVED_AT_ONCE)
        while found := await self._engine.entities("signins", old):
            ids = In(("_id",), tuple(entry["_id"] for entry in found))
            await self._engine.commit([DeleteMany("signins", ids, REMOVED_AT_ONCE)], None)
