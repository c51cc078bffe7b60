"""Web origins, read from Origin and Host headers, and compared by scheme class, host and port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LONGEST: Final = 300
_SCHEMES: Final = {"ws": "http", "wss": "https"}
"""Schemes of one class count as equal: a WebSocket handshake may name its page's origin with either."""
_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@:\[\]\\]*)(?::(?P<port>[0-9]{1,5}))?\Z"
)


class BadOrigin(ValueError):
    """Text that is not an origin; the message says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A web origin. `scheme` is http or https, also for WebSockets; `port` defaults to that of the scheme."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """Return the origin as browsers write it in the Origin header."""
        port = "" if self.port is None or self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


OPAQUE: Final = Origin("null", "", None)
"""The origin of a sandboxed page. It differs from every site's origin."""


@lru_cache(maxsize=1_000)
def parse_origin(text: str) -> Origin:
    """Return the origin in an Origin header. Raises BadOrigin."""
    if text == "null":
        return OPAQUE
    found = _ORIGIN.match(text.lower()) if len(text) <= LONGEST and text.isascii() else None
    if found is None:
        raise BadOrigin(f"{text[:LONGEST]!r} is not an origin")
    scheme = _SCHEMES.get(found["scheme"], found["scheme"])
    if scheme in _PORTS and not found["host"]:
        raise BadOrigin(f"{text!r} names no host")
    port = int(found["port"]) if found["port"] else _PORTS.get(scheme)
    if port is not None and port > 65_535:
        raise BadOrigin(f"{text!r} names no port")
    return Origin(scheme, found["host"], port)


def own_origin(scheme: str, host: str) -> Origin | None:
    """Return the origin that a request with this scheme and Host header was sent to; None if the header is
    malformed."""
    try:
        return parse_origin(f"{scheme}://{host}")
    except BadOrigin:
        return None


def parse_trusted(text: str) -> Origin:
    """Return an origin from the settings: one site, written as browsers write it. Raises BadOrigin."""
    try:
        origin = parse_origin(text)
    except BadOrigin:
        origin = OPAQUE
    if origin is OPAQUE or not origin.host or "*" in origin.host or text.lower() != text:
        raise BadOrigin(
            f"{text!r} is not an origin: write scheme, host and port alone, such as https://app.example.com"
        )
    return origin
