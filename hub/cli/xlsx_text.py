"""Escapes in the cells of an .xlsx file for characters that XML cannot represent: `_x0007_`, as in Excel."""

from __future__ import annotations

import re
from typing import Any, Final

ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
TO_ESCAPE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def escape(text: str) -> str:
    return TO_ESCAPE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def unescape(value: Any) -> Any:
    """Return the text of a cell without escapes; any other value unchanged."""
    if isinstance(value, str) and "_x" in value:
        return ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
    return value
