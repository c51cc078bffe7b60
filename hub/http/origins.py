"""Checks of the Host and Origin headers before a request is handled: the hub's host names, and pages of other
origins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from auth.csrf import read_origin
from auth.errors import CrossSite
from auth.origins import Origin, own_origin, parse_origin
from hub.http.answer import Answer
from hub.http.compression import is_loopback
from hub.http.errors import WrongHost
from hub.http.headers import first_headers

Headers = list[tuple[bytes, bytes]]

_EXPOSED: Final = b"ETag, Link, Location, Retry-After, X-Position, X-Request-Id"
_METHODS: Final = b"GET, POST, PATCH, PUT, DELETE"
_SENT: Final = b"Authorization, Content-Encoding, Content-Type, If-Match, If-None-Match, Idempotency-Key, X-Request-Id"
_PREFLIGHT_SECONDS: Final = b"600"

_ANY: Final[Headers] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED),
    (b"vary", b"Origin"),
]
"""Headers for pages of any origin: they may call the API with their own token and read the answers, without cookies."""

HEALTH: Final = "/health/"

_FORWARDED: Final = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
                               b"x-real-ip"})  # fmt: skip
"""Headers of proxies: a request with one of them is not local, whatever its address."""


class Origins:
    """`trusted` are the origins whose pages may use their visitors' cookies. `hosts` are the accepted names in Host
    headers; empty accepts all. Local requests, such as commands and Prometheus, need neither. `open_to`: beginnings of
    paths whose dialect judges Origin headers itself, malformed ones too."""

    def __init__(self, trusted: Iterable[str], hosts: Iterable[str], open_to: tuple[str, ...] = ()) -> None:
        self.trusted = frozenset(map(parse_origin, trusted))
        self._open_to = open_to
        self._hosts = frozenset(host.lower() for host in hosts)

    def admit(self, scope: Scope) -> Headers | None:
        """Return the headers that let a page of another origin read the answer, or None for a request without an
        origin. Raises WrongHost, and CrossSite for a malformed Origin header."""
        origin = first_headers(scope).get(b"origin")
        if self._hosts and not scope["path"].startswith(HEALTH):
            self._check_host(scope)
        if origin is None:
            return None
        try:
            page = read_origin(origin.decode("latin-1"))
        except CrossSite:
            if not scope["path"].startswith(self._open_to):
                raise
            return _ANY
        if page not in self.trusted:
            return _ANY
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            *_ANY[1:],
        ]

    def _check_host(self, scope: Scope) -> None:
        header = _host(scope)
        at = own_origin(scope.get("scheme", "http"), header)
        if at is None or not ({header.lower(), at.host} & self._hosts or is_local(scope)):
            raise WrongHost(header)

    def is_foreign(self, page: Origin | None, scheme: str, host: str) -> bool:
        """Return whether a page is of a trusted origin other than the hub's own."""
        return page in self.trusted and page != own_origin(scheme, host)


def is_local(scope: Scope) -> bool:
    """Return whether a request comes from this machine: from a loopback address, to a loopback name, through no proxy.
    A foreign DNS name that points at this machine does not count."""
    if not is_loopback(scope) or not _FORWARDED.isdisjoint(first_headers(scope)):
        return False
    at = own_origin("http", _host(scope))
    return at is not None and (at.host == "localhost" or is_loopback({"client": (at.host.strip("[]"), 0)}))


def _host(scope: Scope) -> str:
    return first_headers(scope).get(b"host", b"").decode("latin-1")


def preflight(scope: Scope) -> Answer | None:
    """Return the answer to a preflight request, or None for any other request."""
    if b"access-control-request-method" not in first_headers(scope):
        return None
    headers = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _SENT),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    return Answer(headers=headers)
