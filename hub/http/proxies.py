"""Forwarded headers of trusted reverse proxies, and the path prefix under which the hub is published."""

from __future__ import annotations

import re
from ipaddress import ip_interface, ip_network
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

from hub.http.headers import first_headers

PREFIX: Final = "hub.prefix"
"""Scope key of the prefix, such as ``/hub``. The scope's `path` does not contain it."""

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-prefix"})
_PLATFORM: Final = "/api/v1/"
_LISTINGS: Final = "/v1/"
_OWN: Final = ("/api/", _LISTINGS, "/media/", "/socket.io/", "/health/")
"""Beginnings of the hub's own paths: a path whose prefix was already stripped may look like the prefix."""


def is_prefix(text: str) -> bool:
    """Return whether the text is a path prefix: absolute, without a final slash or characters that need escaping."""
    return _PREFIX.match(text) is not None and not {".", ".."} & set(text.split("/"))


def check_proxies(listed: str) -> None:
    """Raise ValueError unless the text lists addresses and networks, or is ``*``. uvicorn accepts any text, and then
    trusts nothing."""
    if listed.strip() == "*":
        return
    for each in filter(None, map(str.strip, listed.split(","))):
        try:
            network = ip_network(each, strict=False)
        except ValueError:
            text = f"{each!r} is neither an address nor a network, such as 10.0.0.5 or 10.0.0.0/24"
            raise ValueError(f"{text}; * alone trusts every proxy") from None
        if "/" in each and ip_interface(each).ip != network.network_address:
            raise ValueError(f"{each!r} is an address within a network: the network is {network}")


def public_path(scope: Scope) -> str:
    """Return the request's path as the client sees it."""
    return scope.get(PREFIX, "") + scope["path"]  # type: ignore[no-any-return]


def set_prefix(scope: Scope, prefix: str) -> None:
    """Note the prefix in the scope, and remove it from the path unless the proxy already did."""
    scope[PREFIX] = prefix
    path = scope["path"]
    rest = path.removeprefix(prefix)
    if path.startswith(_PLATFORM) and rest.startswith(_LISTINGS):
        return  # behind the prefix /api: it is the platform's rather than one of listings
    if path.startswith(prefix + "/") and (rest.startswith(_OWN) or not path.startswith(_OWN)):
        scope["path"] = rest


class RootPath:
    """ASGI middleware for a hub published under `prefix`, whether or not the proxy strips the prefix."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and PREFIX not in scope:
            set_prefix(scope, self._prefix)
        await self._app(scope, receive, send)


class TrustedProxies:
    """The addresses and networks of HUB_TRUSTED_PROXIES, interpreted like `ForwardedHeaders` does."""

    def __init__(self, listed: str) -> None:
        self._hosts = _TrustedHosts(listed)

    def trusts(self, peer: str) -> bool:
        """Return whether the peer of a TCP connection is trusted. ``*`` trusts every peer."""
        return peer in self._hosts

    def lists(self, address: str) -> bool:
        """Return whether a client's address is that of a proxy which did not forward an address. ``*`` lists none."""
        return not self._hosts.always_trust and address in self._hosts


class ForwardedHeaders(ProxyHeadersMiddleware):
    """Extends uvicorn's handling of X-Forwarded-For and X-Forwarded-Proto by X-Forwarded-Prefix. A request without such
    headers costs little."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or _FORWARDED.isdisjoint(first_headers(scope)):
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        if client and client[0] in self.trusted_hosts:  # checked first: uvicorn replaces the client's address
            values = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
            prefix = "".join(
                part.strip().rstrip("/") for value in values for part in value.decode("latin-1").split(",")
            )
            if is_prefix(prefix):
                set_prefix(scope, prefix)
        await super().__call__(scope, receive, send)
