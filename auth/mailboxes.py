"""E-mail addresses that the hub accepts: one plain mailbox, because the address is written into the header of a mail.

Source: WHATWG HTML, "valid e-mail address", the rule for forms in browsers: ASCII, no names, quotes, comments or lists
(RFC 5322). Encoded words (RFC 2047) are rejected too, because a header would decode them to another text.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 254
"""Maximum characters of an address (RFC 5321, 4.5.3.1.3)."""

_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

PATTERN: Final = rf"^(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*$"
"""Written in the syntax that JSON Schema and Python share."""

EXAMPLE: Final = "ann@example.com"

_MAILBOX: Final = re.compile(PATTERN)


def is_mailbox(text: str) -> bool:
    """Return whether the text is one plain e-mail address."""
    return len(text) <= LONGEST and _MAILBOX.fullmatch(text) is not None
