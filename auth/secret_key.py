"""The hub's secret key and values derived from it: sub-keys, keyed digests, sealed values.

Each purpose has its own sub-key, so that a digest or sealed value of one purpose is useless for another.

Sources: RFC 5869 (HKDF), RFC 2104 (HMAC), NIST SP 800-38D (AES-GCM), RFC 5297 (AES-SIV).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stores import base64url

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_CHECK: Final = "check of the secret key"


class BadKey(ValueError):
    """Text that is not a secret key; the message gives the expected form."""


class BadSeal(ValueError):
    """A text that was not sealed with this key for this purpose and context."""


class SecretKey:
    """32 random bytes that every process of one hub shares."""

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise BadKey(f"a secret key has {KEY_BYTES} bytes, this one has {len(material)}")
        self._material = material
        self._derived = lru_cache(maxsize=256)(self._derive)

    @classmethod
    def generate(cls) -> SecretKey:
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Return a key written as 64 hexadecimal digits or as base64url. Raises BadKey."""
        text = text.strip()
        try:
            material = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64url.decode(text)
        except (ValueError, binascii.Error):
            raise BadKey(f"a secret key is {KEY_BYTES} bytes as hexadecimal digits or base64url") from None
        return cls(material)

    def as_text(self) -> str:
        return self._material.hex()

    def derive(self, purpose: str, length: int = KEY_BYTES) -> bytes:
        """Return the sub-key of a purpose; always the same bytes. `length` is at most 8 160."""
        return self._derived(purpose, length)

    def digest(self, purpose: str, *pieces: bytes) -> str:
        """Return the HMAC-SHA-256 of the pieces, one after the other, in hexadecimal digits.

        Without the key, nobody can test a guess of them against it.
        """
        made = hmac.new(self.derive(purpose), digestmod=hashlib.sha256)
        for piece in pieces:
            made.update(piece)
        return made.hexdigest()

    def sealer(self, purpose: str) -> Sealer:
        """Return a cipher for values that the hub stores and reads again."""
        return Sealer(self.derive(purpose))

    def cover(self, purpose: str) -> Cover:
        """Return a cipher for values that callers hold for the hub."""
        return Cover(self.derive(purpose, 2 * KEY_BYTES))

    @property
    def check_value(self) -> str:
        """A value that shows two processes whether they have the same key. It reveals nothing about the key."""
        return self.digest(_CHECK, b"")

    def _derive(self, purpose: str, length: int) -> bytes:
        return HKDF(SHA256(), length, salt=None, info=purpose.encode()).derive(self._material)

    def __repr__(self) -> str:
        return "SecretKey(…)"  # never in a log


class Sealer:
    """AES-256-GCM with a random nonce: sealing the same value twice gives two texts."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, context: str = "") -> str:
        """Return `data` encrypted, as URL-safe text.

        `context` names the owner of the value, such as the id of a user. A text that is moved to another owner is
        refused.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return base64url.encode(nonce + self._cipher.encrypt(nonce, data, context.encode()))

    def unseal(self, text: str, context: str = "") -> bytes:
        """Return the data of a sealed text. Raises BadSeal."""
        try:
            sealed = base64url.decode(text)
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (ValueError, binascii.Error, InvalidTag):
            raise BadSeal("this was not sealed here") from None


class Cover:
    """AES-256-SIV, deterministic: the same data always gives the same text, so that callers can compare texts."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, data: bytes) -> str:
        """Return `data`, which must not be empty, encrypted as URL-safe text."""
        return base64url.encode(self._cipher.encrypt(data, None))

    def unseal(self, text: str) -> bytes:
        """Return the data of a sealed text. Raises BadSeal."""
        try:
            return self._cipher.decrypt(base64url.decode(text), None)
        except (ValueError, binascii.Error, InvalidTag):
            raise BadSeal("this was not sealed here") from None
