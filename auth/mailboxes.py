"""E-mail addresses as the hub takes them: one plain mailbox, since it becomes the header of a mail.

Source: WHATWG HTML, "valid e-mail address", which is what forms in browsers take: ASCII, no names, quotes, comments or
lists (RFC 5322). Encoded words (RFC 2047), which a header would decode to something else, are left out besides.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 254
"""Characters of an address (RFC 5321, 4.5.3.1.3)."""

_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

PATTERN: Final = rf"^(?!.*=\?)[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*$"
"""In the dialect that JSON Schema and Python share."""

EXAMPLE: Final = "ann@example.com"

_MAILBOX: Final = re.compile(PATTERN)


def is_mailbox(text: str) -> bool:
    """Whether this is one plain e-mail address."""
    return len(text) <= LONGEST and _MAILBOX.fullmatch(text) is not None
