"""The head of a request: what is wrong with it, and offers to upgrade the connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import httptools

from hub.errors import BadRequest, ExpectationFailed, HubError

Headers = Sequence[tuple[bytes, bytes]]

LONGEST_HOST: Final = 300
LONGEST_TARGET: Final = 1_000
"""Bytes of a request that is not parsed, in which its target is looked for."""
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
"""Headers whose second line would leave open which one counts: a proxy in front may take the other one."""
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """Of a request's line and headers: `size` in bytes, `seconds` in which they must arrive."""

    size: int = 65_536
    seconds: float = 30


def fault(
    method: bytes, version: str, headers: Headers, hosts: int, host: bytes, expect: bytes = b""
) -> HubError | None:
    """Why a request with this head is refused, if it is. `hosts` counts its Host headers, `host` is the last one, and
    `expect` is its Expect header."""
    if method == b"CONNECT":
        return BadRequest("request", "The hub is no proxy.")
    if version not in VERSIONS:
        return BadRequest("request", "HTTP/1.1 is spoken here.")
    if hosts != 1 and (hosts or version == "1.1"):
        return BadRequest("Host", "A request has one Host header.")
    if hosts and (len(host) > LONGEST_HOST or not is_host(host)):
        return BadRequest("Host", "Must be a host name or an address, perhaps with a port.")
    if version == "1.0" and values(headers, b"transfer-encoding"):
        # RFC 9112, 6.1: whatever is between us and the client may have taken the length from elsewhere.
        return BadRequest("Transfer-Encoding", "HTTP/1.0 has none.")
    if len(dict(headers)) < len(headers) and (repeated := _repeated(headers)):
        return BadRequest(repeated, "This header was sent more than once.")
    if expect and version == "1.1" and expect.lower() != b"100-continue":
        return ExpectationFailed("only 100-continue is known")
    return None


def _repeated(headers: Headers) -> str | None:
    """A header that is there twice and may be there once."""
    return next((text for name, text in _SINGLE.items() if len(values(headers, name)) > 1), None)


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """The values of every header of this lower-case name."""
    return [value for key, value in headers if key == name]


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """The items of a header that is a list, in lower case."""
    return [item.strip().lower() for value in values(headers, name) for item in value.split(b",")]


def is_handshake(method: bytes, version: str, url: bytes, headers: Headers, path: bytes) -> bool:
    """Whether the request is a WebSocket handshake (RFC 6455, 4.2.1) to `path`. Its version is judged later: the answer
    to another than 13 is an HTTP status of its own."""
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
    """Whether the request asks for `path`, by itself or behind a prefix under which the hub is published."""
    return asked == path or (asked.endswith(path) and not asked.startswith(b"/api/v1/"))


def without_offer(method: bytes, version: str, url: bytes, headers: Headers) -> bytes:
    """The same head without its offer to upgrade the connection."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            kept = [item for item in value.split(b",") if item.strip().lower() != b"upgrade"]
            value = b",".join(kept)
        if name != b"upgrade":
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def decoded(path: str) -> str:
    """A path without its percent-encoding, but for the slash: an encoded one is part of a name. A proxy that has rules
    by path takes it for that too."""
    return unquote(path.replace("%2F", "%252F").replace("%2f", "%252f"))


def path_of(target: bytes) -> str:
    """The path of a request's target, of which the end may be missing."""
    return decoded(target.partition(b"?")[0].decode("latin-1"))


def target_of(data: bytes) -> bytes:
    """The target in the first line of a request that is not parsed; empty where there is none."""
    words = data[:LONGEST_TARGET].split(b" ", 2)
    return words[1] if len(words) > 1 else b""
