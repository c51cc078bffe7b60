"""Check that a request authenticated by a cookie comes from one of the hub's own pages.

A page of another site can make a browser send the cookie, but it cannot hide its origin.
"""

from __future__ import annotations

from auth.errors import CrossSite, ForeignPage
from auth.origins import BadOrigin, Origin, own_origin, parse_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_same_site(
    method: str, scheme: str, host: str, origin: str | None, fetch_site: str | None, trusted: frozenset[Origin]
) -> None:
    """Raise ForeignPage for an unsafe request from a page of another site, and CrossSite for a malformed header.

    `scheme` and `host` (the Host header) identify the target of the request. `origin` and `fetch_site` are the Origin
    and Sec-Fetch-Site headers, None when absent, as in requests of a program that is not a browser. `trusted` has
    further allowed origins.
    """
    if method in SAFE_METHODS:
        return
    page = read_origin(origin)
    if page is not None and page in trusted:
        return
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise ForeignPage
    if page is not None and page != own_origin(scheme, host):
        raise ForeignPage


def read_origin(header: str | None) -> Origin | None:
    """Return the origin in an Origin header; None without a header. Raises CrossSite for a malformed header."""
    try:
        return None if header is None else parse_origin(header)
    except BadOrigin as error:
        raise CrossSite(str(error)) from None
