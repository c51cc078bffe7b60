"""Canonical logins and passwords by PRECIS: texts that look the same are equal, whatever code points a keyboard sends.

Source: RFC 8265. A login keeps its case, but logins are compared without case (UsernameCasePreserved and
UsernameCaseMapped, for each word). A password is an OpaqueString, which keeps its case and its blanks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

LONGEST: Final = 1_000
"""Maximum characters of a login or password."""


class BadName(ValueError):
    """Text that is not a valid login or password; the message says why."""


def canonical_login(login: str) -> str:
    """Return the login as it is stored and shown. Raises BadName."""
    return _of_words("UsernameCasePreserved", login)


def login_key(login: str) -> str:
    """Return the form of a login that is compared, without case. Raises BadName."""
    return _of_words("UsernameCaseMapped", login)


def canonical_password(password: str) -> str:
    """Return the form of a password that is hashed. Raises BadName."""
    try:
        return str(_profile("OpaqueString").enforce(password))
    except UnicodeEncodeError:
        raise BadName("Must not be empty or hold control characters.") from None


def _of_words(profile: str, login: str) -> str:
    if not 0 < len(login) <= LONGEST:
        raise BadName(f"Must have 1 to {LONGEST} characters.")
    words = login.split(" ")
    if not all(words):
        raise BadName("Must not begin or end with a blank, nor hold two in a row.")
    try:
        return " ".join(_profile(profile).enforce(word) for word in words)
    except UnicodeEncodeError as error:
        shown = ascii(login[error.start : error.end])[1:-1] if error.end <= len(login) else "a character"
        raise BadName(f"Must consist of letters, digits and ASCII punctuation: {shown} is not allowed.") from None


@cache
def _profile(name: str) -> Any:
    from precis_i18n import get_profile  # imported late: the tables are needed only for a login

    return get_profile(name)


@cache
def common_passwords() -> frozenset[str]:
    """Return the 30 000 most common passwords, in lower case."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # imported late: a large table, needed only to set a password

    return frozenset(FREQUENCY_LISTS["passwords"])


def password_fault(password: str, least: int, login: str = "") -> str:
    """Return why this cannot become the password of `login`; empty if it can."""
    try:
        chosen = canonical_password(password)
    except BadName as error:
        return str(error)
    if len(chosen) < least:
        return f"Must be at least {least} characters long."
    if len(chosen) > LONGEST:
        return f"Must be at most {LONGEST} characters long."
    if chosen.lower() in common_passwords():
        return "Is one of the most common passwords: choose another."
    if login and chosen.lower() == login.lower():
        return "Must differ from the login."
    return ""
