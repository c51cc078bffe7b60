"""Self-service registration: a code that is mailed to a user, and a key that reads in exchange for it.

Neither answers nor their timing reveal whether an account exists. A login without an account, or whose account cannot
receive a mail, stands for one of a few decoys: the same reads and commits are done for a decoy, and its code is none.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Final

import orjson

from auth.errors import TooManyAttempts
from auth.groups import find_one
from auth.keys import LISTINGS
from auth.mailboxes import is_mailbox
from auth.secret_key import SecretKey
from auth.system_stores import KEYS
from hub.http.errors import BadRequest
from hub.mail import Mailer
from hub.services import expectations as expect
from hub.services.group_paths import GroupPathKeeper
from hub.services.holders import no_room
from hub.services.keys import STORE, KeyIssuer, NewKey
from hub.services.logins import find_user, spellings
from hub.services.retrying import retry_unexpected
from hub.services.violations import raise_violations
from stores.bounds import Limit
from stores.errors import DuplicateValue, NotAsExpected, StoreError, Unavailable
from stores.protocol import DeleteMany, Engine, Insert, Procedure, Step, Steps, Upsert, Write, do, find
from stores.query import And, Compare, Equal, In, Query
from stores.records import Entity, new_id, now_ms
from stores.schema import StoreDefinition

log = logging.getLogger(__name__)

CODES: Final = StoreDefinition("_registration_codes", indexes=("until",), unique=("account",))
"""One entity for each account that has asked for a code, or tried one, within the last hour. `account`: the id of a
user, or of a decoy. `digest`: that of the code; None if there is none, or it was used. `tries`: wrong tries of this
code. `expires`, `until`: Unix ms at which the code and the whole entity lose their meaning. `sent`: when codes were
made. `key`: the key that was given for the last code."""

"""The kind of the keys that can be registered for."""

DIGITS: Final = 6

MOST_TRIES: Final[Annotated[int, Limit("code", "wrong tries", "400, like any wrong code")]] = 5

MOST_CODES: Final[Annotated[int, Limit("account", "codes in an hour", "no mail")]] = 10

MOST_CODE_REQUESTS: Final[Annotated[int, Limit("process", "requests for a code", "429")]] = 1_000
"""Requests for a code that wait for the lookup of their user."""

DECOYS: Final = 4_096
"""Accounts for which all logins without an account stand."""

HOUR: Final = 3_600_000
RETRIES: Final = 20
REMOVED_AT_ONCE: Final = 1_000
LONGEST: Final = 300
"""Characters of a login that are looked at: more than any account has."""

INVALID_CODE: Final = "Invalid or expired code."

SUBJECT: Final = "Your verification code"
TEXT: Final = """Somebody, probably you, has asked for an API key for {login!r}{origin}.

Your verification code is: {code}

It works once, within {minutes} minutes. If it was not you, ignore this mail, and give the code to nobody.
"""

_PURPOSE: Final = "registration codes"
_DECOY: Final = "registration decoys"


class InvalidCode(BadRequest):
    """The code is wrong, has expired, was used, replaced or locked, or there is no such account."""

    def __init__(self) -> None:
        super().__init__("code", INVALID_CODE)


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a login stands for: that of `user`, or a decoy."""

    id: str
    user: Entity | None


class Registration:
    """`seconds`: how long a code is valid."""

    def __init__(
        self,
        engine: Engine,
        issuer: KeyIssuer,
        group_paths: GroupPathKeeper,
        key: SecretKey,
        mailer: Mailer,
        seconds: int,
    ) -> None:
        self._engine = engine
        self._issuer = issuer
        self._group_paths = group_paths
        self._key = key
        self._mailer = mailer
        self._seconds = seconds
        self._waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MOST_CODE_REQUESTS)

    async def open(self) -> None:
        """Define the store of codes."""
        await self._engine.define(CODES)

    # Requesting a code.

    async def request_code(self, login: str, address: str) -> None:
        """Queue the mail of a new code to the user with this login, if there is one with an e-mail address. `address`
        is that of the client, and is named in the mail. Raises TooManyAttempts for too many requests at once."""
        try:
            self._waiting.put_nowait((_searchable(login), address))
        except asyncio.QueueFull:
            raise TooManyAttempts(1).at("MOST_CODE_REQUESTS") from None

    async def run(self) -> None:
        """Make and mail the requested codes, until cancelled."""
        while True:
            login, address = await self._waiting.get()
            try:
                await self._issue(login, address)
            except StoreError as error:
                log.warning("a registration code could not be made: %s", error)
            except Exception:  # whatever fails, later requests must be served
                log.exception("a registration code could not be made")

    async def _issue(self, login: str, address: str) -> None:
        """Replace the code of the account, and mail it. At the limit of codes the account keeps the one that it has."""
        account = await self._account(login)
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        digest = self._digest(account, code) if account.user else secrets.token_hex(32)
        replaced = await self._commit([_of(account, lambda: self._replacing(account, digest))], None)
        if account.user is not None and replaced["digest"] == digest:
            values = {"login": account.user["login"], "origin": _origin(address), "code": code}
            text = TEXT.format(**values, minutes=max(1, self._seconds // 60))
            self._mailer.send(account.user["email"], SUBJECT, text)

    def _replacing(self, account: Account, digest: str) -> Steps:
        before = yield from _stored(account.id)
        now = now_ms()
        sent = [at for at in before["sent"] if at > now - HOUR]
        if account.user is not None and len(sent) >= MOST_CODES:
            return (yield from _put(account.id, {"sent": sent}))
        sent = [*sent, now][-MOST_CODES:]
        expires = now + 1_000 * self._seconds
        until = max(expires, now + HOUR)
        code = {"digest": digest, "tries": 0, "expires": expires, "sent": sent, "until": until}
        return (yield from _put(account.id, code))

    # Verifying a code.

    async def verify(self, login: str, code: str, name: str) -> tuple[str, Entity]:
        """Exchange a code for a new key that reads, called `name`; return its secret, and the user's `login` and
        `number`.

        Raises InvalidCode, whatever is wrong with the login or the code; InvalidEntity for a name that no key can have,
        or, if the code is right, for a user with too many keys; and the errors of the preparation of the first key.
        """
        checked, violations = KEYS.check_new({"name": name, "kind": LISTINGS})
        raise_violations(violations)
        with self._group_paths.stamping():
            return await retry_unexpected(lambda: self._verify(_searchable(login), code, checked))

    async def _verify(self, login: str, code: str, fields: Entity) -> tuple[str, Entity]:
        account = await self._account(login)
        digest = self._digest(account, code)
        new = await self._new_key(account, digest, fields)
        trial = _of(account, lambda: self._trying(account, digest, new))
        there = expect.user_is_active(account.id) if account.user else expect.user_is_gone(account.id)
        room = self._issuer.expected(account.id) if new else []
        tried = await self._commit([trial, there, *room], account.id if new else None)
        if new is None or tried["key"] != new.entity["_id"]:
            raise InvalidCode
        user = await find_one(self._engine, "users", account.id)
        if user is None:
            raise InvalidCode
        return new.secret, {name: user.get(name) for name in ("login", "number")}

    async def _new_key(self, account: Account, digest: str, fields: Entity) -> NewKey | None:
        """Return the key that a right code gets; None for a wrong one. The commit decides about the code again."""
        found = await self._engine.entities(CODES.name, Query(Equal(("account",), account.id), limit=1))
        if account.user is None or not any(_is_right(record, digest) for record in found):
            return None
        await self._issuer.prepare([LISTINGS], adopts=False)
        now = now_ms()
        stamped: Entity = {"_id": new_id(), "access": [], "time": now, "_at": now, "_rev": 1}
        terms: Entity = {"allowed_origins": [], "expires": None}
        return await self._issuer.new_key(account.user, stamped | fields | terms)

    def _trying(self, account: Account, digest: str, new: NewKey | None) -> Steps:
        """Use the code up and insert the key, or count a wrong try."""
        record = yield from _stored(account.id)
        if account.user is None or not _is_right(record, digest):
            return (yield from _put(account.id, {"tries": record["tries"] + 1}))
        if new is None:
            raise NotAsExpected  # the code has been made since it was looked at
        keys = yield from find(STORE, Equal(("user",), account.id), self._issuer.most, ())
        if len(keys) >= self._issuer.most:
            raise no_room(STORE, len(keys), self._issuer.most)
        yield from do(Insert(STORE, new.entity))
        return (yield from _put(account.id, {"digest": None, "key": new.entity["_id"]}))

    # Helpers.

    async def _account(self, login: str) -> Account:
        """Return the account for a login. Both kinds take the same reads."""
        names = spellings(login)
        user = await find_user(self._engine, names)
        can_register = user is not None and _can_register(user)
        decoy = self._decoy(names[-1])
        return Account(user["_id"], user) if user is not None and can_register else Account(decoy, None)

    def _decoy(self, login: str) -> str:
        """Return the id of the decoy for a login: always the same, and no user's."""
        number = int(self._key.digest(_DECOY, login.encode())[:8], 16) % DECOYS
        return self._key.digest(_DECOY, b"\0", str(number).encode())[:24]

    def _digest(self, account: Account, code: str) -> str:
        """Return the digest of a code for an account. It depends on the address, so a new one ends the code."""
        email = account.user["email"] if account.user else ""
        return self._key.digest(_PURPOSE, f"{account.id}:{email}:{code.strip()}".encode("utf-8", "surrogatepass"))

    async def _commit(self, writes: Sequence[Write], by: str | None) -> Entity:
        """Commit the writes; return the record that the first of them leaves. On MongoDB, one of two commits that
        create a record finds the other's."""
        for _ in range(RETRIES):
            with suppress(DuplicateValue):
                written = await self._engine.commit(writes, by)
                record: Entity = orjson.loads(written[0].entity)
                return record
        raise Unavailable("the codes of an account change faster than one can be tried")

    async def sweep(self, now: int) -> None:
        """Remove the records that have lost their meaning, in batches between which other writes can run."""
        old = Compare(("until",), "lt", now)
        while found := await self._engine.entities(CODES.name, Query(old, limit=REMOVED_AT_ONCE)):
            ids = In(("_id",), tuple(record["_id"] for record in found))
            # One of them may just have got a new code.
            await self._engine.commit([DeleteMany(CODES.name, And((ids, old)), REMOVED_AT_ONCE)], None)


def _can_register(user: Entity) -> bool:
    """Return whether a user can get a key. Another program may have made one without a number, until the next
    start of a hub."""
    has_number = type(user.get("number")) is int
    return has_number and not user.get("disabled") and is_mailbox(str(user.get("email") or ""))


def _is_right(record: Entity, digest: str) -> bool:
    """Return whether a code with this digest opens the account now."""
    alike = hmac.compare_digest(str(record["digest"] or ""), digest)
    return alike and bool(record["tries"] < MOST_TRIES and now_ms() < record["expires"])


def _of(account: Account, steps: Callable[[], Steps]) -> Procedure:
    """Return the procedure that changes the record of an account. Those of one account take turns."""
    return Procedure(CODES.name, steps, keys=((CODES.name, "account", account.id),))


def _stored(account: str) -> Generator[Step, Any, Entity]:
    """Read the record of an account in a procedure: ``record = yield from _stored(…)``. A new one has no code."""
    found = yield from find(CODES.name, Equal(("account",), account), 1)
    return found[0] if found else _fresh(account)


def _fresh(account: str) -> Entity:
    return {"account": account, "digest": None, "tries": 0, "expires": 0, "sent": [], "key": None}


def _put(account: str, fields: Entity) -> Steps:
    """Write fields of the record of an account, which is created if there is none."""
    now = now_ms()
    until = {"until": now + HOUR}
    stamps: Entity = {"owner": None, "group": None, "access": [], "branch": [], "time": now, "_at": now, "_rev": 1}
    entity = {"_id": new_id(), **_fresh(account), **until, **fields, **stamps}
    return (yield from do(Upsert(CODES.name, "account", entity, fields | {"_at": now}, forced=True)))


def _searchable(login: str) -> str:
    """Return a login as it is looked up: without what no login has, since databases refuse it."""
    try:
        login.encode()
    except UnicodeEncodeError:
        return ""
    return login[:LONGEST]


def _origin(address: str) -> str:
    """Return the part of the mail that names the client's address; empty if it is unknown."""
    with suppress(ValueError):
        return f" from the address {ip_address(address)}"
    return ""
