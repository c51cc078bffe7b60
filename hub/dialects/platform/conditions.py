"""Preconditions on revisions: If-Match and If-None-Match. Unsupported preconditions are refused."""

from __future__ import annotations

import re
from typing import Final

from hub.http.call import Call
from hub.http.errors import BadRequest, NotModified
from hub.http.headers import first_headers
from stores.errors import StaleRevision
from stores.protocol import AllBut, Revisions

_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
"""A weak tag counts like a strong one. RFC 9110 (13.1.1) wants a strong comparison for If-Match, but proxies weaken the
tags of answers that they compress, such as nginx with `gzip on`, and clients behind them could not write safely. The
tag is the revision of the entity, not of its coding: a weak one names the same state."""
_ETAGC: Final = r"[!\x23-\x7e\x80-\xff]"
_LISTED: Final = f'(?:W/)?"{_ETAGC}*"'
ETAGS: Final = rf"[ \t,]*{_LISTED}(?:[ \t]*,[ \t,]*{_LISTED})*[ \t,]*"
"""The pattern of a list of ETags (RFC 9110, 8.8.3), in which elements may be empty (5.6.1.2)."""
_ETAGS: Final = re.compile(ETAGS)
_REVISION: Final = re.compile("0|[1-9][0-9]{0,17}")
"""A tag is compared literally: `"01"` is not a revision."""
_SAFE: Final = frozenset({"GET", "HEAD"})
_NAMES: Final = {
    b"if-match": "If-Match",
    b"if-none-match": "If-None-Match",
    b"if-unmodified-since": "If-Unmodified-Since",
}


def preconditions(call: Call) -> dict[bytes, str] | None:
    """Return the preconditions by lower-case header name, or None. Repeated headers are joined."""
    if _NAMES.keys().isdisjoint(first_headers(call.scope)):
        return None
    given: dict[bytes, str] = {}
    for name, value in call.scope["headers"]:
        if name in _NAMES:
            text = value.decode("latin-1")
            given[name] = f"{given[name]}, {text}" if name in given else text
    return given


def expected_revisions(call: Call) -> Revisions | None:
    """Return the revisions at which If-Match and If-None-Match allow a write; None allows any.

    A write always needs an existing entity, so ``If-None-Match: *`` allows no revision. Raises BadRequest for a header
    that is no list of ETags, and for If-Unmodified-Since: times are too coarse to protect a write.
    """
    given = preconditions(call)
    if given is None:
        return None
    if b"if-unmodified-since" in given:
        raise BadRequest("If-Unmodified-Since", "Send If-Match with the entity's ETag instead.")
    wanted = revisions(given, b"if-match")
    if b"if-none-match" not in given:
        return wanted
    unwanted = revisions(given, b"if-none-match")
    if unwanted is None:
        return frozenset()
    return AllBut(unwanted) if wanted is None else wanted - unwanted


def revisions(given: dict[bytes, str], header: bytes) -> frozenset[int] | None:
    """Return the revisions in a header of ETags; None without the header and for ``*``. Raises BadRequest."""
    text = given.get(header)
    if text is None or text.strip() == "*":
        return None
    if not _ETAGS.fullmatch(text):
        raise BadRequest(_NAMES[header], 'Takes an ETag such as "3".')
    return frozenset(int(tag) for tag in _ETAG.findall(text) if _REVISION.fullmatch(tag))


def check_read(call: Call, rev: int) -> None:
    """Raise StaleRevision or NotModified if the preconditions of a read do not hold at this revision."""
    given = preconditions(call)
    if given is None:
        return
    wanted = revisions(given, b"if-match")
    if wanted is not None and rev not in wanted:
        raise StaleRevision(rev)
    unwanted = given.get(b"if-none-match")
    if unwanted is not None and not_modified(unwanted, rev):
        raise NotModified(f'"{rev}"')


def check_expanded_read(call: Call, rev: int) -> None:
    """Raise StaleRevision if If-Match does not hold at this revision. If-None-Match is ignored: what the entity refers
    to may have changed without it."""
    wanted = revisions(preconditions(call) or {}, b"if-match")
    if wanted is not None and rev not in wanted:
        raise StaleRevision(rev)


def not_modified(if_none_match: str, rev: int) -> bool:
    """Return whether a read is answered without the entity. A header that is no list of ETags asks for the entity."""
    if str(rev) in _ETAG.findall(if_none_match):
        return _ETAGS.fullmatch(if_none_match) is not None
    return if_none_match.strip() == "*"


def refuse_preconditions(call: Call) -> None:
    """Raise BadRequest for a precondition that the call does not support: an ignored one would protect nothing. A safe
    call may ignore If-None-Match, which only costs an unnecessary answer."""
    headers = first_headers(call.scope)
    if _NAMES.keys().isdisjoint(headers):
        return
    for name in _NAMES:
        if name in headers and not (name != b"if-match" and call.method in _SAFE):
            raise BadRequest(_NAMES[name], "This call does not support the precondition.")
