"""A user's login and password: how they are stored, who may change them, and which credentials a change ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from auth.attempts import LoginAttempts, LoginQueue
from auth.errors import Explained
from auth.names import BadName, password_fault
from auth.principal import Principal
from auth.secrets import Passwords, digest
from hub.services import expectations as expect
from hub.services.logins import spellings, stored_login
from stores.errors import InvalidEntity, Violation
from stores.protocol import UNBOUNDED, DeleteMany, Write
from stores.query import And, Equal, Not
from stores.records import Change, Entity

PROOF = "current_password"
"""Member of a body with the current password. It is checked and not stored."""

LONG_LIVED: Final = ("tokens", "keys")
"""The stores of credentials with which programs act as a user."""

_ACCOUNT = "user:"
"""Prefix of the keys under which guesses of current passwords are counted."""


class Credentials:
    """`least`: characters of a new password. `ends_tokens`: whether a new password ends tokens and keys as well as
    sessions."""

    def __init__(
        self,
        passwords: Passwords,
        attempts: LoginAttempts,
        queue: LoginQueue,
        least: int,
        *,
        ends_tokens: bool,
    ) -> None:
        self._passwords = passwords
        self._attempts = attempts
        self._queue = queue
        self._least = least
        self._ends_tokens = ends_tokens

    async def kept(self, fields: Entity, before: Mapping[str, Any]) -> Entity:
        """Return a user's `fields` with login and password in their stored form. Raises InvalidEntity."""
        kept = {name: value for name, value in fields.items() if name != "login_key"}
        if "login" in fields and fields["login"] != before.get("login"):
            kept |= named(fields["login"])
        if "password" in fields:
            login = str(kept.get("login", before.get("login", "")))
            kept["password"] = await self._hashed(fields["password"], login)
        return kept

    async def _hashed(self, password: str | None, login: str) -> str | None:
        if password is None:
            return None
        fault = password_fault(password, self._least, login)
        if fault:
            raise refuse("password", fault)
        return await self._passwords.hash(password)

    async def check_proof(self, principal: Principal, before: Entity, body: Entity, fields: Entity) -> None:
        """Check that users know their current password if they change their own password or e-mail address.

        A long-lived token may change neither. Raises Explained, InvalidEntity and TooManyAttempts.
        """
        changed = [n for n in ("password", "email") if n in fields and fields[n] != before.get(n)]
        if not changed or before["_id"] != principal.user_id or principal.kind == "control":
            return
        if principal.kind == "token":
            raise Explained(changed[0], f"A long-lived token cannot change the {changed[0]} of its user.")
        await self.check_password(principal, before, body.get(PROOF), f"change the {changed[0]}")

    async def check_password(self, principal: Principal, user: Entity, given: object, purpose: str) -> None:
        """Check the current password; `purpose` is the action that needs it. Guesses are limited like logins, but per
        credential of the caller, whatever the address. Raises InvalidEntity and TooManyAttempts."""
        if not isinstance(given, str) or not given:
            raise refuse(PROOF, f"The current password is needed to {purpose}.")
        account = _account(user)
        with self.slot(user):
            self._attempts.take_of(account, principal.credential_id)
            if not (await self._passwords.verify(user.get("password"), given)).right:
                raise refuse(PROOF, "This is not the current password.")
            self._attempts.succeeded_of(account, principal.credential_id)

    def slot(self, user: Entity) -> AbstractContextManager[None]:
        """Occupy a slot in the queue of password checks, of which an account has few. Raises TooManyAttempts."""
        return self._queue.slot(_account(user))

    def forgive(self, user: Entity) -> None:
        """Reset the limits after a new password: guesses of the old one no longer keep the user out."""
        era = digest(str(user.get("password")))
        self._attempts.forgive(spellings(str(user.get("login", "")))[-1], _account(user), era)

    def follow(self, changes: Iterable[Change]) -> None:
        """Reset the limits for passwords that other processes have set."""
        for change in changes:
            if change.store != "users":
                continue
            if change.op == "lost":
                self.start_afresh()
            elif change.before and change.after and change.before.get("password") != change.after.get("password"):
                self.forgive(change.after)

    def start_afresh(self) -> None:
        """Reset the limits for all passwords after a gap in the feed, in which any may have been set. Guesses of
        one-time codes stay counted."""
        self._attempts.forgive_all(_ACCOUNT)

    def ended(self, principal: Principal, before: Entity, fields: Entity) -> list[Write]:
        """Return the writes that end credentials after a change of the user.

        A new password ends every session and, depending on the settings, every token and key, except the caller's
        credential. Disabling the user ends the sessions.
        """
        if "password" not in fields and not fields.get("disabled"):
            return []
        stores = self._long_lived if "password" in fields else ()
        return ended_credentials(before["_id"], *stores, but=principal.credential_id)

    def ended_by_reset(self, user: Entity) -> list[Write]:
        """Return the writes after a reset: they end every session, and every token and key unless the settings keep
        them."""
        return ended_credentials(user["_id"], *self._long_lived)

    @property
    def _long_lived(self) -> tuple[str, ...]:
        """The stores of the credentials that a new password ends besides sessions."""
        return LONG_LIVED if self._ends_tokens else ()


def ended_credentials(user_id: str, *stores: str, but: str = "") -> list[Write]:
    """Return writes that end a user's sessions, and its credentials in `stores`, except the credential with the id
    `but`. The user's guard orders them with credentials that are about to begin."""
    mine = Equal(("user",), user_id)
    where = And((mine, Not(Equal(("_id",), but)))) if but else mine
    stores = ("sessions", *stores)
    return [expect.user_exists(user_id), *(DeleteMany(store, where, UNBOUNDED) for store in stores)]


def _account(user: Entity) -> str:
    """Return the key under which guesses of the user's current password are counted."""
    return f"{_ACCOUNT}{user['_id']}"


def named(login: str) -> Entity:
    """Return a login's fields: as shown and as compared. Raises InvalidEntity."""
    try:
        return stored_login(login)
    except BadName as error:
        raise refuse("login", str(error)) from None


def refuse(field: str, text: str) -> InvalidEntity:
    """Return the error of a field that breaks a rule of its store."""
    return InvalidEntity([Violation(field, "invalid", text)])
