"""Whether a request that a cookie authenticates was made by a page of ours: another site's page can make a browser
send the cookie, but not hide where it comes from."""

from __future__ import annotations

from auth.errors import CrossSite
from auth.origins import BadOrigin, Origin, own_origin, parse_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_same_site(
    method: str, scheme: str, host: str, origin: str | None, fetch_site: str | None, trusted: frozenset[Origin]
) -> None:
    """Raise CrossSite for an unsafe request from another site's page.

    `scheme` and `host` (the Host header) are what the request was sent to, `origin` and `fetch_site` the Origin and
    Sec-Fetch-Site headers (None when absent: a program, not a browser). `trusted` holds further origins.
    """
    if method in SAFE_METHODS:
        return
    page = read_origin(origin)
    if page is not None and page in trusted:
        return
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise CrossSite(f"a cookie does not authenticate a {fetch_site} {method}")
    if page is not None and page != own_origin(scheme, host):
        raise CrossSite(f"a cookie does not authenticate a {method} from {origin}")


def read_origin(header: str | None) -> Origin | None:
    """The origin of an Origin header, None without one. Raises CrossSite for a malformed one."""
    try:
        return None if header is None else parse_origin(header)
    except BadOrigin as error:
        raise CrossSite(str(error)) from None
