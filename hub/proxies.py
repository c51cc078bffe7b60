"""What a trusted reverse proxy says of a request, and the path prefix under which the hub is published."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

PREFIX: Final = "hub.prefix"
"""Key of the scope for the prefix, such as ``/hub``; the path that stands beside it is without it."""

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
_OWN: Final = ("/api/", "/socket.io/", "/health/")
"""What the hub's own paths begin with: a path of a prefix that is stripped already may look like the prefix."""


def is_prefix(text: str) -> bool:
    """Whether the text is a path prefix: absolute, without a slash at its end, nothing to be escaped."""
    return _PREFIX.match(text) is not None and not {".", ".."} & set(text.split("/"))


def public_path(scope: Scope) -> str:
    """The request's path as its client knows it."""
    return scope.get(PREFIX, "") + scope["path"]  # type: ignore[no-any-return]


def set_prefix(scope: Scope, prefix: str) -> None:
    """Note the prefix, and take it off the path unless the proxy has done so."""
    scope[PREFIX] = prefix
    path = scope["path"]
    rest = path.removeprefix(prefix)
    if path.startswith(prefix + "/") and (rest.startswith(_OWN) or not path.startswith(_OWN)):
        scope["path"] = rest


class RootPath:
    """ASGI: the hub is published under `prefix`, whether or not the proxy strips it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and PREFIX not in scope:
            set_prefix(scope, self._prefix)
        await self._app(scope, receive, send)


class TrustedProxies:
    """The addresses and networks of HUB_TRUSTED_PROXIES, as `ForwardedHeaders` reads them."""

    def __init__(self, listed: str) -> None:
        self._hosts = _TrustedHosts(listed)

    def trusts(self, peer: str) -> bool:
        """Whether the peer of a TCP connection is trusted; with ``*`` every peer is."""
        return peer in self._hosts

    def lists(self, address: str) -> bool:
        """Whether the address of a client is that of a proxy, which has not said whom it stands for. ``*`` lists
        none."""
        return not self._hosts.always_trust and address in self._hosts


class ForwardedHeaders(ProxyHeadersMiddleware):
    """uvicorn's, which believes X-Forwarded-For and X-Forwarded-Proto, for X-Forwarded-Prefix as well. A request
    without such a header costs one look at the names of its headers."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for name, _ in scope.get("headers", ()):
            if name.startswith(b"x-forwarded-"):
                break
        else:
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        if client and client[0] in self.trusted_hosts:  # uvicorn's part replaces the client's address
            values = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
            prefix = "".join(
                part.strip().rstrip("/") for value in values for part in value.decode("latin-1").split(",")
            )
            if is_prefix(prefix):
                set_prefix(scope, prefix)
        await super().__call__(scope, receive, send)
