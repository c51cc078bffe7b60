"""Hostnames that a key may be limited to: as in the Origin header of a browser, without scheme and port.

Source: RFC 1123, 2.1, and RFC 1035, 2.3.4. Internationalised names are in the form that browsers send: ``xn--…``.
"""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

PATTERN: Final = rf"^(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*$"
"""Written in the syntax that JSON Schema and Python share."""

EXAMPLE: Final = "www.example.com"

_HOSTNAME: Final = re.compile(PATTERN.removesuffix("$") + r"\Z")


class BadHostname(ValueError):
    """Text that is not a hostname; the message says what is expected."""


def canonical_hostname(text: str) -> str:
    """Return a hostname in the form that is compared, in lower case. Raises BadHostname."""
    if _HOSTNAME.match(text) is None:
        raise BadHostname(f"Must be hostnames such as {EXAMPLE}, without scheme, port and path: {text!r} is none.")
    return text.lower()
