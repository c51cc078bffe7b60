"""Checks of a request's head, and offers to upgrade the connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import httptools

from hub.http.errors import BadRequest, ExpectationFailed, HubError

Headers = Sequence[tuple[bytes, bytes]]

LONGEST_HOST: Final = 300
LONGEST_TARGET: Final = 1_000
"""Bytes of an unparsed request that are searched for its target."""
VERSIONS: Final = ("1.1", "1.0")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+;=%-]*)(?::\d*)?", re.ASCII)
_SINGLE: Final = {
    name.lower().encode(): name
    for name in (
        "Authorization",
        "Content-Encoding",
        "Content-Type",
        "Expect",
        "Idempotency-Key",
        "Origin",
        "Sec-Fetch-Site",
    )
}
"""Headers that must not be repeated: a proxy in front of the hub might use another line than the hub."""
WEBSOCKET_VERSION: Final = b"13"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Limits of the request line and headers: `size` in bytes, `seconds` until they must be complete."""

    size: int = 65_536
    seconds: float = 30


def fault(
    method: bytes,
    version: str,
    headers: Headers,
    hosts: int,
    host: bytes,
    expect: bytes = b"",
    coding: bytes = b"",
) -> HubError | None:
    """Return why a request with this head is refused, or None.

    Args:
        hosts: number of Host headers.
        host: value of the last Host header.
        expect: value of the Expect header.
        coding: values of the Transfer-Encoding headers, in lower case.
    """
    if method == b"CONNECT":
        return BadRequest("request", "The hub is no proxy.")
    if version not in VERSIONS:
        return BadRequest("request", "HTTP/1.1 is spoken here.")
    if hosts != 1 and (hosts or version == "1.1"):
        return BadRequest("Host", "A request has one Host header.")
    if hosts and (len(host) > LONGEST_HOST or not is_host(host)):
        return BadRequest("Host", "Must be a host name or an address, perhaps with a port.")
    if coding and version == "1.0":
        # RFC 9112, 6.1: an intermediary may have taken the body's length from another header.
        return BadRequest("Transfer-Encoding", "HTTP/1.0 has none.")
    if coding and coding != b"chunked":
        return BadRequest("Transfer-Encoding", "Takes chunked alone.")
    if len(dict(headers)) < len(headers) and (repeated := _repeated(headers)):
        return BadRequest(repeated, "This header was sent more than once.")
    if expect and version == "1.1" and expect.lower() != b"100-continue":
        return ExpectationFailed("only 100-continue is known")
    return None


def _repeated(headers: Headers) -> str | None:
    """Return a header that is repeated and must not be, or None."""
    return next((text for name, text in _SINGLE.items() if len(values(headers, name)) > 1), None)


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of every header of this lower-case name."""
    return [value for key, value in headers if key == name]


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """Return the items of a list header, in lower case."""
    return [item.strip().lower() for value in values(headers, name) for item in value.split(b",")]


def is_handshake(method: bytes, version: str, url: bytes, headers: Headers, path: bytes) -> bool:
    """Return whether the request is a WebSocket handshake (RFC 6455, 4.2.1) to `path`. The WebSocket version is checked
    later: a version other than 13 gets an HTTP status of its own."""
    keys = values(headers, b"sec-websocket-key")
    return (
        (method, version) == (b"GET", "1.1")
        and tokens(headers, b"upgrade") == [b"websocket"]
        and len(keys) == len(values(headers, b"sec-websocket-version")) == 1
        and _KEY.fullmatch(keys[0]) is not None
        and not any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
        and _leads_to(httptools.parse_url(url).path or b"", path)
    )


def _leads_to(asked: bytes, path: bytes) -> bool:
    """Return whether the request asks for `path`, alone or behind a prefix under which the hub is published."""
    return asked == path or (asked.endswith(path) and not asked.startswith(b"/api/v1/"))


def without_offer(method: bytes, version: str, url: bytes, headers: Headers) -> bytes:
    """Return the head without its offer to upgrade the connection."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            kept = [item for item in value.split(b",") if item.strip().lower() != b"upgrade"]
            value = b",".join(kept)
        if name != b"upgrade":
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def decoded(path: str) -> str:
    """Return a path without percent-encoding, except for encoded slashes: they are part of a name. Proxies with rules
    by path treat them the same way."""
    return unquote(path.replace("%2F", "%252F").replace("%2f", "%252f"))


def path_of(target: bytes) -> str:
    """Return the path of a request's target, which may be incomplete."""
    return decoded(target.partition(b"?")[0].decode("latin-1"))


def target_of(data: bytes) -> bytes:
    """Return the target in the first line of an unparsed request, or empty bytes."""
    words = data[:LONGEST_TARGET].split(b" ", 2)
    return words[1] if len(words) > 1 else b""
