"""Parses points in time in requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

LATEST = 2**53
DIGITS = 20
"""Digits of a time that are read, leading zeros included. No time needs as many."""


def parse_time(value: Any) -> int:
    """Return Unix ms for Unix ms (a number or digits) or ISO 8601 text, in UTC if it has no zone. Raises ValueError."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        if len(value) > DIGITS:
            raise ValueError("out of range")
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < LATEST:
            raise ValueError("out of range")
        return value
    if not isinstance(value, str):
        raise ValueError("not a time")
    moment = datetime.fromisoformat(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1000)
