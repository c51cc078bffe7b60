"""Logins and passwords in one spelling, by PRECIS: what looks the same is the same, whatever a keyboard sends.

Source: RFC 8265. A login keeps the case it was given in and is compared without it (UsernameCasePreserved and
UsernameCaseMapped of each of its words); a password is an OpaqueString, with its case and its blanks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

LONGEST: Final = 1_000
"""Characters of a login or password."""


class BadName(ValueError):
    """A text that is no login or no password; the message says why."""


def canonical_login(login: str) -> str:
    """The login as it is kept and shown. Raises BadName."""
    return _of_words("UsernameCasePreserved", login)


def login_key(login: str) -> str:
    """The form in which logins are compared without regard to case. Raises BadName."""
    return _of_words("UsernameCaseMapped", login)


def canonical_password(password: str) -> str:
    """The password as it is digested. Raises BadName."""
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
    from precis_i18n import get_profile  # its tables are not needed before somebody signs in

    return get_profile(name)


@cache
def common_passwords() -> frozenset[str]:
    """The 30 000 passwords that are met most often, in lower case."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # a large table, needed only when a password is set

    return frozenset(FREQUENCY_LISTS["passwords"])


def password_fault(password: str, least: int, login: str = "") -> str:
    """Why this cannot become the password of `login`; empty when it can."""
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
