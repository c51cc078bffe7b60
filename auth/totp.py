"""Time-based one-time codes of an authenticator app (RFC 6238), and the recovery codes that stand in for them."""

from __future__ import annotations

import secrets
from typing import Final

import pyotp

STEP: Final = 30
"""Seconds for which one code is shown."""

DRIFT: Final = 1
"""Steps by which the app's clock may differ from the hub's."""

RECOVERY_CODES: Final = 10
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters and digits that look alike
_HALF: Final = 5


def new_secret() -> str:
    """160 random bits in base32, as authenticator apps take them."""
    return pyotp.random_base32()


def provisioning_url(secret: str, login: str, issuer: str) -> str:
    """The `otpauth:` URL that an app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=issuer)


def matching_step(secret: str, code: str, now: int, after: int) -> int | None:
    """The step whose code this is, None for a wrong one.

    Args:
        now: Unix seconds.
        after: the step of the last code that was accepted: a code counts once, and none before it counts any more.
    """
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        return None
    present = now // STEP
    totp, found = pyotp.TOTP(secret), None
    for step in range(present - DRIFT, present + DRIFT + 1):
        # All of them are compared, whichever matches, so that the time tells nothing.
        if secrets.compare_digest(totp.generate_otp(step), code) and step > after:
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Ten codes such as ``k7wpd-3mxqz``, 49 random bits each."""
    return [f"{_half()}-{_half()}" for _ in range(RECOVERY_CODES)]


def normal_code(text: str) -> str:
    """A code as it was meant: without blanks, in lower case, a recovery code with its hyphen."""
    code = "".join(text.split()).lower()
    return f"{code[:_HALF]}-{code[_HALF:]}" if len(code) == 2 * _HALF else code


def _half() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_HALF))
