"""Tokens that let a user who has forgotten the password set a new one.

A token is signed and not stored. The signature covers the stored password and e-mail address, so a change of either
invalidates all tokens of the user. The first use of a token changes the password, so a token works once.
"""

from __future__ import annotations

import binascii
import hmac
from dataclasses import dataclass
from typing import Final

from auth.errors import Unauthenticated
from auth.secret_key import SecretKey
from stores import base64url
from stores.records import Entity, is_id

MINUTES: Final = 30
_PURPOSE: Final = "password reset"


@dataclass(frozen=True, slots=True)
class Claim:
    """The unverified content of a token: its user and its expiry (Unix ms)."""

    user_id: str
    expires: int
    signature: str


def new_token(key: SecretKey, user: Entity, now: int) -> str:
    """Return a token for the stored user, valid for `MINUTES`; `now` is in Unix ms."""
    expires = now + MINUTES * 60_000
    signature = _signature(key, user, expires)
    return base64url.encode(f"{user['_id']}.{expires}.{signature}".encode())


def read_claim(token: str) -> Claim:
    """Return the content of a token. Raises Unauthenticated if the text is not a token."""
    try:
        text = base64url.decode(token).decode("ascii")
        user_id, expires, signature = text.split(".")
        if not is_id(user_id) or not expires.isascii() or not expires.isdigit() or len(expires) > 16:
            raise ValueError(token)
        return Claim(user_id, int(expires), signature)
    except (ValueError, binascii.Error):
        raise Unauthenticated("no such reset token") from None


def check_claim(key: SecretKey, claim: Claim, user: Entity | None, now: int) -> None:
    """Raise Unauthenticated unless the token was made for the user as stored now, and has not expired."""
    if user is None or claim.expires <= now:
        raise Unauthenticated("no such reset token")
    if not hmac.compare_digest(_signature(key, user, claim.expires), claim.signature):
        raise Unauthenticated("no such reset token")


def _signature(key: SecretKey, user: Entity, expires: int) -> str:
    said = "\0".join((user["_id"], str(expires), str(user.get("password") or ""), str(user.get("email") or "")))
    return key.digest(_PURPOSE, said.encode())
