"""Canonical logins and passwords by PRECIS: texts that look the same are equal, whatever code points a keyboard sends.

Source: RFC 8265. A login keeps its case, but logins are compared without case (UsernameCasePreserved and
UsernameCaseMapped, for each word). A password is an OpaqueString, which keeps its case and its blanks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

LONGEST_LOGIN: Final = 255
"""Maximum characters of a login."""

LONGEST_PASSWORD: Final = 1_000
"""Maximum characters of a password."""

_JUDGED_BY_TEXT: Final = frozenset({"\u30fb", *map(chr, range(0x660, 0x66A)), *map(chr, range(0x6F0, 0x6FA))})
"""Characters that are valid or not by all characters of the text, wherever they stand: the katakana middle dot and
Arabic digits of both kinds (RFC 5892, A.7 to A.9)."""

_TOO_LONG: Final = f"Must be at most {LONGEST_PASSWORD} characters long."


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
    if len(password) > LONGEST_PASSWORD:
        raise BadName(_TOO_LONG)
    try:
        return _prepared("OpaqueString", password)
    except UnicodeEncodeError:
        raise BadName("Must not be empty or hold control characters.") from None


def _of_words(profile: str, login: str) -> str:
    if not 0 < len(login) <= LONGEST_LOGIN:
        raise BadName(f"Must have 1 to {LONGEST_LOGIN} characters.")
    words = login.split(" ")
    if not all(words):
        raise BadName("Must not begin or end with a blank, nor hold two in a row.")
    try:
        return " ".join(_prepared(profile, word) for word in words)
    except UnicodeEncodeError as error:
        shown = ascii(error.object[error.start : error.end])[1:-1]
        raise BadName(f"Must consist of letters, digits and ASCII punctuation: {shown} is not allowed.") from None


def _prepared(name: str, text: str) -> str:
    """Return a text in the form of a PRECIS profile, in linear time. Raises UnicodeEncodeError."""
    profile = _profile(name)
    form = str(profile.idempotence_check(profile.apply_five_rules(text)))
    if not form:
        raise UnicodeEncodeError(name, text, 0, len(text), "DISALLOWED/empty")
    profile.base.enforce(_thinned(form), name)
    return form


def _thinned(text: str) -> str:
    """Return a text that is valid whenever `text` is. For each of `_JUDGED_BY_TEXT` the library searches the whole
    text, so only the first of equal ones is kept; "0" for the others is valid everywhere and as a neighbor the same."""
    for char in _JUDGED_BY_TEXT.intersection(text):
        before, _, after = text.partition(char)
        text = before + char + after.replace(char, "0")
    return text


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
    if len(chosen) > LONGEST_PASSWORD:
        return _TOO_LONG
    if chosen.lower() in common_passwords():
        return "Is one of the most common passwords: choose another."
    if login and chosen.lower() == login.lower():
        return "Must differ from the login."
    return ""
