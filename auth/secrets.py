"""Secrets that prove who somebody is: passwords (argon2id) and random credentials (only their SHA-256 is kept)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from auth.names import BadName, canonical_password

T = TypeVar("T")

PREFIX_LENGTH = 8
"""Characters of a credential that are kept in clear, so that its owner can tell it from others."""


def new_credential() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def digest(credential: str) -> str:
    """What is stored and looked up instead of the credential. Fast on purpose: 256 bits cannot be guessed."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right. `renewed`: its hash by today's parameters, when the stored one is of others."""

    right: bool
    renewed: str | None = None


class Passwords:
    """argon2id in a few threads: hashing takes tens of milliseconds, and must not take the event loop or all memory."""

    def __init__(self, threads: int = 2) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(threads, "hub-argon2")
        # Verified in place of an unknown login's hash, so that both answers take the same time.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """The hash to store. Raises BadName."""
        return await self._run(self._hasher.hash, canonical_password(password))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether the password is right; with `stored` None (no such user) it takes as long and is not."""
        verdict = await self._run(self._verify, stored or self._nobody, password)
        return verdict if stored is not None else Verdict(False)

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _verify(self, stored: str, password: str) -> Verdict:
        try:
            chosen = canonical_password(password)
        except BadName:
            chosen = password
        if self._is_of(stored, chosen):
            return Verdict(True, self._hasher.hash(chosen) if self._hasher.check_needs_rehash(stored) else None)
        # A hash from before passwords were brought into one form is of the text as it was typed then.
        if chosen != password and self._is_of(stored, password):
            return Verdict(True, self._hasher.hash(chosen))
        return Verdict(False)

    def _is_of(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    async def _run(self, function: Callable[..., T], *arguments: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
