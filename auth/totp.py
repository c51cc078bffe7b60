"""Time-based one-time codes of an authenticator app (RFC 6238), and recovery codes that replace them."""

from __future__ import annotations

import secrets
from typing import Final

import pyotp

STEP: Final = 30
"""Seconds for which an app shows one code."""

DRIFT: Final = 1
"""Steps by which the app's clock may differ from the hub's."""

RECOVERY_CODES: Final = 10
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters and digits that look alike
_HALF: Final = 5


def new_secret() -> str:
    """Return 160 random bits in base32, the format of authenticator apps."""
    return pyotp.random_base32()


def provisioning_url(secret: str, login: str, issuer: str) -> str:
    """Return the `otpauth:` URL that an app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=issuer)


def matching_step(secret: str, code: str, now: int, after: int) -> int | None:
    """Return the step that the code belongs to; None for a wrong code.

    Args:
        now: Unix seconds.
        after: the step of the last accepted code. This code and all earlier ones are rejected.
    """
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        return None
    present = now // STEP
    totp, found = pyotp.TOTP(secret), None
    for step in range(present - DRIFT, present + DRIFT + 1):
        # Compare all steps even after a match, so that the duration reveals nothing.
        if secrets.compare_digest(totp.generate_otp(step), code) and step > after:
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Return ten codes such as ``k7wpd-3mxqz``, 49 random bits each."""
    return [f"{_half()}-{_half()}" for _ in range(RECOVERY_CODES)]


def normal_code(text: str) -> str:
    """Return a code without blanks and in lower case, and a recovery code with its hyphen."""
    code = "".join(text.split()).lower()
    return f"{code[:_HALF]}-{code[_HALF:]}" if len(code) == 2 * _HALF else code


def _half() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_HALF))
