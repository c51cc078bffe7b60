"""Mail addresses and phone numbers, stored in canonical form: equal addresses and numbers are equal texts."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final
from unicodedata import normalize

from stores.fields.base import EVERY_FIELD, IN_LISTS, Checker, FieldSettings, Rejected, Schema, TextType
from stores.fields.spans import Span
from stores.records import Json

ADDRESS_LENGTH: Final = 254
"""Most characters of a mail address (RFC 5321, 4.5.3.1.3, with erratum 1690 of RFC 3696)."""
PHONE_LENGTH: Final = 64
"""Most characters of a phone number as it is sent, with separators."""

_ATOM: Final = r"[A-Za-z0-9_!#$%&'*+/=?^`{|}~-]+"
_LABEL: Final = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@((?:{_LABEL}\.)+{_LABEL})(?<=[A-Za-z])")
_TEST: Final = "test"
"""Its domains are reserved for tests (RFC 6761), which need addresses too."""
_DOMAIN_LENGTH: Final = 253

_SEPARATORS: Final = str.maketrans("", "", " -./()")
_PHONE: Final = re.compile(r"\+?[0-9]{5,15}")


class Email(TextType):
    """A mail address, in lower case. Whether its domain receives mail is not asked."""

    takes = TextType.takes | {"min", "max"}
    costly = True

    def checker(self, field: FieldSettings) -> Checker:
        return check_address

    def costly_in(self, field: FieldSettings, value: Any) -> int:
        return int(isinstance(value, str) and len(value) <= ADDRESS_LENGTH and _is_international(value))

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "format": "email", "maxLength": ADDRESS_LENGTH, "examples": [self.example]}


def check_address(value: Any) -> Json:
    """Return the address with its domain in Unicode and in lower case, and the part before it casefolded.

    ASCII addresses are decided here, as the library decides them: it takes thirty times as long. Raises Rejected.
    """
    if not isinstance(value, str) or len(value) > ADDRESS_LENGTH:
        raise Rejected("email")
    if _is_international(value):
        return _international(value)
    found = _ADDRESS.fullmatch(value)
    address = value.lower()
    if found is None or len(found[1]) > _DOMAIN_LENGTH or address.endswith(_unusable()):
        raise Rejected("email")
    return address


@cache
def _unusable() -> tuple[str, ...]:
    """Return the endings of domains that receive no mail."""
    from email_validator import SPECIAL_USE_DOMAIN_NAMES  # here: the command line need not load it, which takes 20 ms

    return tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES if name != _TEST)


def _is_international(text: str) -> bool:
    return not text.isascii() or "xn--" in text.lower()


def _international(text: str) -> str:
    address = _folded(text)
    # Folding may lengthen an address, or leave a form that folds again: such a text would have two canonical forms.
    if _folded(address) != address:
        raise Rejected("email")
    return address


def _folded(text: str) -> str:
    """Return the address as the library normalises it, casefolded. The domain is in lower case already; casefolding
    would turn some of its letters (`ß`, `ς`) into those of another domain."""
    from email_validator import EmailNotValidError, validate_email

    if len(text) > ADDRESS_LENGTH:
        raise Rejected("email")
    try:
        # `test_environment` allows domains under `test`.
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise Rejected("email") from None
    if "." not in found.domain:
        raise Rejected("email")
    return f"{normalize('NFC', found.local_part.casefold())}@{found.domain}"


class Phone(TextType):
    """A phone number: digits, with `+` before a country code."""

    takes = EVERY_FIELD | IN_LISTS | {"unique", "search", "options"}

    def checker(self, field: FieldSettings) -> Checker:
        return check_phone

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "pattern": r"^(?:\+|(?!00))[0-9]{5,15}$", "examples": [self.example]}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span("+", "9" * 15, "+0123456789"),)

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        between, digits = r"[ \-./()]*", r"[0-9](?:[ \-./()]*[0-9]){4,14}"
        # `00` stands for `+`, so fewer than five digits behind it are too few.
        forms = rf"(?:\+{between}{digits}|0{between}0{between}{digits}|(?!0{between}0){digits})"
        return {
            "anyOf": [shown, {"type": "string", "maxLength": PHONE_LENGTH, "pattern": f"^{between}{forms}{between}$"}]
        }

    def parse(self, text: str) -> Json:
        """Read a parameter's text. A plus sign that was not percent-encoded arrives as a blank."""
        return super().parse(f"+{text[1:]}" if text.startswith(" ") else text)


def check_phone(value: Any) -> Json:
    """Return the number without separators, with `+` for `00`. Raises Rejected."""
    if not isinstance(value, str) or len(value) > PHONE_LENGTH:
        raise Rejected("phone")
    number = value.translate(_SEPARATORS)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    if not _PHONE.fullmatch(number):
        raise Rejected("phone")
    return number
