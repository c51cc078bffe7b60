"""Conditions and ranges of requests for files (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from typing import Final

from hub.http.call import Call
from hub.http.errors import NotModified, RangeNotSatisfiable

_ONE_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def check_not_modified(call: Call, etag: str) -> None:
    """Raise NotModified if the caller has the file with this ETag."""
    given = call.header(b"if-none-match")
    if given is not None and (given.strip() == "*" or etag in _ETAG.findall(given)):
        raise NotModified(etag)


def range_of(call: Call, etag: str, size: int) -> tuple[int, int] | None:
    """Return the range that a GET asks for, as start and end, the end excluded; None for the whole file.

    Several ranges, a malformed one, and one of another version of the file (If-Range) count as the whole file, which a
    server may always send. Raises RangeNotSatisfiable.
    """
    header = call.header(b"range")
    found = _ONE_RANGE.fullmatch(header.strip()) if header is not None and call.method == "GET" else None
    if found is None or call.header(b"if-range") not in (None, etag):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, end
