"""Password reset: a mail with a token, and the new password set with that token."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Annotated, Final

from auth.addresses import address_block
from auth.attempts import ADDRESS_FACTOR, MovingWindow
from auth.errors import TooManyAttempts, Unauthenticated
from auth.groups import find_one
from auth.reset_tokens import MINUTES, check_claim, new_token, read_claim
from auth.resolver import Resolver
from auth.secret_key import SecretKey
from hub.http.errors import BadRequest
from hub.mail import Mailer
from hub.services import expectations as expect
from hub.services.accounts import Accounts
from hub.services.credentials import Credentials
from stores.bounds import Limit
from stores.errors import NotAsExpected, NotFound, StoreError
from stores.protocol import Engine, Update
from stores.records import Entity, now_ms

log = logging.getLogger(__name__)

MOST_RESETS: Final[Annotated[int, Limit("process", "requests", "429")]] = 1_000
"""Requests waiting for the lookup of their user."""

RESET_MAILS: Final[Annotated[int, Limit("user", "mails in 15 minutes", "no mail; from one address ten times, 429")]] = 5
WINDOW: Final = 900
"""Seconds."""

SUBJECT: Final = "Reset your password"
TEXT: Final = """Somebody, probably you, has asked for a new password for {login!r}.

{how}

This works once, within {minutes} minutes. If it was not you, ignore this mail: your password stays as it is.
"""
LINK: Final = "Set a new password here:\n{url}"
NO_LINK: Final = "Your reset token is:\n{token}"


class PasswordReset:
    """Sends and redeems reset tokens. `page` is the address of the page that takes a token behind `#token=`; empty for
    none. Neither answers nor their timing reveal whether a login exists: users are looked up in the background."""

    def __init__(
        self,
        accounts: Accounts,
        credentials: Credentials,
        engine: Engine,
        resolver: Resolver,
        key: SecretKey,
        mailer: Mailer,
        page: str,
    ) -> None:
        self._accounts = accounts
        self._credentials = credentials
        self._engine = engine
        self._resolver = resolver
        self._key = key
        self._mailer = mailer
        self._page = page
        self._users = MovingWindow(RESET_MAILS, WINDOW, time.monotonic)
        self._addresses = MovingWindow(RESET_MAILS * ADDRESS_FACTOR, WINDOW, time.monotonic)
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_RESETS)

    def request(self, login: str, address: str) -> None:
        """Queue a reset mail to the user with this login, if there is one with an e-mail address. Raises
        TooManyAttempts for too many requests from one address or in total."""
        block = address_block(address).encode()
        if (seconds := self._addresses.wait(block)) > 0:
            raise TooManyAttempts(math.ceil(seconds)).at("RESET_MAILS")
        self._addresses.add(block)
        try:
            self._waiting.put_nowait(login)
        except asyncio.QueueFull:
            raise TooManyAttempts(1).at("MOST_RESETS") from None

    async def run(self) -> None:
        """Look up the users of queued requests, until cancelled."""
        while True:
            login = await self._waiting.get()
            try:
                await self._mail(login)
            except StoreError as error:
                log.warning("a password reset could not be prepared: %s", error)
            except Exception:  # whatever fails, later requests must be served
                log.exception("a password reset could not be prepared")

    async def _mail(self, login: str) -> None:
        user = await self._accounts.find_user(login)
        email = user.get("email") if user else None
        if user is None or user.get("disabled") or not isinstance(email, str):
            return
        if self._users.wait(user["_id"].encode()) > 0:
            return  # protects the user's mailbox from a flood
        self._users.add(user["_id"].encode())
        token = new_token(self._key, user, now_ms())
        how = LINK.format(url=f"{self._page}#token={token}") if self._page else NO_LINK.format(token=token)
        self._mailer.send(email, SUBJECT, TEXT.format(login=user["login"], how=how, minutes=MINUTES))

    async def confirm(self, token: str, password: str) -> None:
        """Set the password of the token's user, and end the credentials of the old one. Raises BadRequest for an
        invalid or expired token, InvalidEntity for a password that is refused, and TooManyAttempts for too many
        confirmations at once."""
        try:
            claim = read_claim(token)
            user = await find_one(self._engine, "users", claim.user_id)
            check_claim(self._key, claim, user, now_ms())
        except Unauthenticated:
            raise _worthless() from None
        if user is None or user.get("disabled"):
            raise _worthless()
        with self._credentials.slot(user):  # for valid tokens only: others must not take up the user's slots
            await self._set(user, password)

    async def _set(self, user: Entity, password: str) -> None:
        fields = await self._credentials.kept({"password": password}, user)
        update = Update("users", user["_id"], fields | {"_at": now_ms()})
        ended = self._credentials.ended_by_reset(user)
        try:
            await self._engine.commit([expect.password_is(user), update, *ended], user["_id"])
        except (NotAsExpected, NotFound):
            raise _worthless() from None
        # Before the feed brings the change: the next request must not find the old sessions.
        self._resolver.forget_user(user["_id"])
        self._credentials.forgive(user | fields)


def _worthless() -> BadRequest:
    return BadRequest("token", "This token has expired, has been used, or was never valid: ask for another one.")
