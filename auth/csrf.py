"""Whether a request that a cookie authenticates was made by a page of ours: another site's page can make a browser
send the cookie, but not hide where it comes from."""

from __future__ import annotations

from urllib.parse import urlsplit

from auth.errors import CrossSite

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_same_site(
    method: str, host: str, origin: str | None, fetch_site: str | None, trusted: frozenset[str]
) -> None:
    """Raise CrossSite for an unsafe request from another site's page.

    `host` is the Host header, `origin` and `fetch_site` the Origin and Sec-Fetch-Site headers (None when absent: a
    program, not a browser). `trusted` holds further origins, such as ``https://portal.example.com``.
    """
    if method in SAFE_METHODS or (origin is not None and origin in trusted):
        return
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise CrossSite(f"a cookie does not authenticate a {fetch_site} {method}")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise CrossSite(f"a cookie does not authenticate a {method} from {origin}")
