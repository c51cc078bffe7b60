"""Checks of requests from browsers: cookies count only for the hub's own pages and those of trusted origins."""

from __future__ import annotations

from auth.csrf import check_same_site, read_origin
from hub.http.call import Call
from hub.http.origins import Origins


def check_browser(call: Call, origins: Origins) -> None:
    """Raise CrossSite for an unsafe call from a page that is neither the hub's own nor of a trusted origin."""
    origin, site = call.header(b"origin"), call.header(b"sec-fetch-site")
    check_same_site(call.method, call.scheme, call.host, origin, site, origins.trusted)


def from_trusted(call: Call, origins: Origins) -> bool:
    """Return whether the call comes from a trusted page on another site, according to the browser's headers."""
    page = read_origin(call.header(b"origin"))
    foreign = page is not None and origins.is_foreign(page, call.scheme, call.host)
    return foreign and call.header(b"sec-fetch-site") not in ("same-site", "same-origin")
