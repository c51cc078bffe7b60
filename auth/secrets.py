"""Secrets that authenticate users: passwords (argon2id) and random credentials (only their SHA-256 is stored)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import DEFAULT_MEMORY_COST, PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from auth.names import BadName, canonical_password

T = TypeVar("T")

PREFIX_LENGTH = 8
"""Characters of a credential that are stored in clear text, so that its owner can recognize it."""


def new_credential() -> str:
    """Return 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def digest(credential: str) -> str:
    """Return the SHA-256 that is stored and looked up instead of the credential.

    A fast hash is safe here: 256 random bits cannot be guessed.
    """
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).hexdigest()


def unmatched_hash(hasher: PasswordHasher) -> str:
    """Return a hash of no known password. Checking a password against it takes as long as against one that `hasher`
    makes; making it takes no time.

    Source: the PHC string format of argon2."""
    salt, value = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len)
    )
    parameters = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2{hasher.type.name.lower()}$v={ARGON2_VERSION}${parameters}${salt}${value}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a password check. `renewed` is a new hash of the password if the stored one is outdated."""

    right: bool
    renewed: str | None = None


class Passwords:
    """argon2id in a few threads.

    Hashing takes tens of milliseconds and `memory_kib` of memory, and must not block the event loop or use up the
    memory.
    """

    def __init__(self, memory_kib: int = DEFAULT_MEMORY_COST, threads: int = 2) -> None:
        self._hasher = PasswordHasher(memory_cost=memory_kib)
        self._threads = ThreadPoolExecutor(threads, "hub-argon2")
        # Verified if the login is unknown, so that the answer takes the same time.
        self._nobody = unmatched_hash(self._hasher)

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises BadName."""
        return await self._run(self._hasher.hash, canonical_password(password))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Check a password against the stored hash.

        If `stored` is None (no such user), the check takes the same time and fails.
        """
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
        # Hashes from before passwords were made canonical are of the text as typed.
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
