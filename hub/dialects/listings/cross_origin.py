"""Pages of other origins: the headers of answers, and preflight requests, which browsers send without a key.

Keys of scope ``R`` live in web pages. Source of the protocol: the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from auth.keys import LISTINGS
from hub.dialects.listings.context import ListingsContext
from hub.http.call import Call
from hub.http.origins import Headers
from hub.http.scope import FOR_PAGES
from stores.query import And, Compare, Equal, Filter, Not, Or, Query, Size
from stores.records import now_ms

ANY: Final = b"*"

_EXPOSED: Final = (b"access-control-expose-headers", b"Allow, Retry-After, X-Request-Id")
_VARY: Final = (b"vary", b"Origin")
_MOST_KEYS: Final = 100
"""Keys for a page, among which one that is for all pages is looked for."""
_MOST_DIGITS: Final = 18
"""Digits of a 64-bit number."""


def host_of(url: str) -> str:
    """Return the hostname in an origin or an address, in lower case; empty if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def refuse_pages(call: Call) -> None:
    """Let no page of another origin read the answer."""
    call.scope[FOR_PAGES] = []


def allow_any_page(call: Call) -> None:
    """Let every page read the answer, which has nothing of a user."""
    call.scope[FOR_PAGES] = _headers(ANY) if call.header(b"origin") is not None else []


def allow_page(call: Call, origins: Iterable[str]) -> None:
    """Let the page that sent the call read the answer. `origins`: the hostnames of the key, none if it is for all."""
    origin = call.header(b"origin")
    call.scope[FOR_PAGES] = [] if origin is None else _headers(origin.encode("latin-1") if origins else ANY)


def _headers(origin: bytes) -> Headers:
    return [(b"access-control-allow-origin", origin), _EXPOSED, _VARY]


def is_preflight(call: Call) -> bool:
    return call.header(b"origin") is not None and call.header(b"access-control-request-method") is not None


def allow_reading(call: Call, origin: bytes) -> None:
    """Answer a preflight request: pages of this origin, or of any (``*``), may read with a key."""
    call.scope[FOR_PAGES] = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
        (b"access-control-allow-headers", b"Authorization, Content-Type"),
        (b"access-control-max-age", b"600"),
        _VARY,
    ]


async def allowed_origin(context: ListingsContext, call: Call) -> bytes | None:
    """Return the origin that a preflight request is allowed for: its own, or ``*``; None if no active key of scope
    ``R`` is for its page. The key must be of the user whom the path names; elsewhere it may be of anybody."""
    origin, user_id = call.header(b"origin") or "", call.path.get("user_id")
    host = host_of(origin)
    if user_id is None:
        if await context.pages.all_may_read():
            return ANY
        return origin.encode("latin-1") if await context.pages.may_read(host) else None
    user = await _user_numbered(context, user_id)
    if user is None:
        return None
    where = And((Equal(("user",), user), *_for_page(host)))
    keys = await context.engine.entities("keys", Query(where, limit=_MOST_KEYS))
    if any(not key.get("allowed_origins") for key in keys):
        return ANY
    return origin.encode("latin-1") if keys else None


def _for_page(host: str) -> tuple[Filter, ...]:
    """Return the conditions for active keys of scope ``R`` that pages of this host may use."""
    origins, expires = ("allowed_origins",), ("expires",)
    unrestricted = (Equal(origins, None), Size(origins, 0))
    return (
        Equal(("kind",), LISTINGS),
        Equal(("scope",), "R"),
        Equal(("active",), True),
        Or((Equal(expires, None), Compare(expires, "gt", now_ms()))),
        Or((*unrestricted, Equal(origins, host)) if host else unrestricted),
    )


async def _user_numbered(context: ListingsContext, number: str) -> str | None:
    """Return the id of the user with a number; None if there is none, or it is disabled."""
    digits = number.lstrip("0")
    if not 0 < len(digits) <= _MOST_DIGITS:
        return None
    where = And((Equal(("number",), int(digits)), Not(Equal(("disabled",), True))))
    users = await context.engine.entities("users", Query(where, limit=1))
    return str(users[0]["_id"]) if users else None
