"""Engine.IO over HTTP without I/O: parsed requests, and responses.

Errors are status 400 (403 for code 4, 503 while the server shuts down) with `{"code": n, "message": …}`:

| code | message |
| --- | --- |
| 0 | Transport unknown |
| 1 | Session ID unknown |
| 2 | Bad handshake method |
| 3 | Bad request |
| 4 | Forbidden |
| 5 | Unsupported protocol version |

Source: engine.io-protocol v3 and v4; the codes are those of Node's engine.io.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from auth.origins import BadOrigin, Origin, own_origin, parse_origin
from realtime.engineio.options import Options, TransportName
from realtime.engineio.packets import Packet, Version, encode_jsonp, encode_payload, has_binary
from stores.bounds import Limit

Headers = list[tuple[bytes, bytes]]

MAX_QUERY_FIELDS: Final[Annotated[int, Limit("request", "parameters", "400")]] = 100
TEXT: Final = "text/plain; charset=UTF-8"
SCRIPT: Final = "text/javascript; charset=UTF-8"
OCTETS: Final = "application/octet-stream"
VERSIONS: Final[Mapping[str | None, Version]] = {"3": 3, "4": 4}


class ErrorCode(IntEnum):
    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SID = 1
    BAD_HANDSHAKE_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_VERSION = 5


MESSAGES: Final = {
    ErrorCode.UNKNOWN_TRANSPORT: "Transport unknown",
    ErrorCode.UNKNOWN_SID: "Session ID unknown",
    ErrorCode.BAD_HANDSHAKE_METHOD: "Bad handshake method",
    ErrorCode.BAD_REQUEST: "Bad request",
    ErrorCode.FORBIDDEN: "Forbidden",
    ErrorCode.UNSUPPORTED_VERSION: "Unsupported protocol version",
}


class Refused(Exception):
    """The request is answered with an error. `message` replaces the default text of the code."""

    status = 400

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or MESSAGES[code])
        self.code = code
        if code is ErrorCode.FORBIDDEN:
            self.status = 403


class ShuttingDown(Refused):
    """The server is closing, and the client may try again later. After 403 many clients give up."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.FORBIDDEN, "Shutting down")
        self.status = 503


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed Engine.IO request. The server must check whether `sid` is known.

    `jsonp` is the callback's index, or None. `octets`: the client can read binary payloads.
    """

    method: str
    transport: TransportName
    version: Version
    sid: str | None
    octets: bool
    jsonp: str | None
    content_type: str


@dataclass(frozen=True, slots=True)
class Response:
    """`on_sent` is called when the client has read most of the body, or is gone."""

    status: int
    headers: Headers
    body: bytes
    on_sent: Callable[[], None] | None = None


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """Return the first header of this lower-case name in an ASGI scope; None without one."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def parse_request(scope: Mapping[str, Any], options: Options) -> Request:
    """Parse an ASGI scope, of HTTP or of a WebSocket. Raises Refused."""
    query = _query(scope)
    upgrade = scope["type"] == "websocket"
    method = "GET" if upgrade else scope["method"]
    sid, transport = query.get("sid"), _transport(query, options)
    if (transport == "websocket") != upgrade:
        raise Refused(ErrorCode.BAD_REQUEST)
    if method != "GET" and (sid is None or method != "POST"):
        raise Refused(ErrorCode.BAD_HANDSHAKE_METHOD if sid is None else ErrorCode.BAD_REQUEST)
    version = VERSIONS.get(query.get("EIO"))
    if version is None:
        raise Refused(ErrorCode.UNSUPPORTED_VERSION)
    jsonp = query.get("j") if version == 3 else None
    octets = "b64" not in query and jsonp is None
    return Request(method, transport, version, sid, octets, jsonp, header(scope, b"content-type") or "")


def _query(scope: Mapping[str, Any]) -> dict[str, str]:
    try:
        fields = parse_qs(scope["query_string"].decode("latin-1"), True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise Refused(ErrorCode.BAD_REQUEST) from error
    return {name: values[0] for name, values in fields.items()}


def _transport(query: Mapping[str, str], options: Options) -> TransportName:
    for name in options.transports:
        if name == query.get("transport"):
            return name
    raise Refused(ErrorCode.UNKNOWN_TRANSPORT)


# Origins


def origin_allowed(scope: Mapping[str, Any], options: Options) -> bool:
    """Return whether the page that sends the request may use the server.

    A request without an Origin header is allowed, as are the server's own origin and the origins of the settings.
    WebSockets are checked too: a browser sends cookies with them, whatever page opens them.
    """
    origin = header(scope, b"origin")
    return origin is None or options.cors_public or _is_own(origin, scope) or _is_foreign_allowed(origin, options)


def _is_own(origin: str, scope: Mapping[str, Any]) -> bool:
    host, page = header(scope, b"host"), _parsed(origin)
    return host is not None and page is not None and page == own_origin(scope.get("scheme", "http"), host)


def _is_foreign_allowed(origin: str, options: Options) -> bool:
    if options.cors_origins == "*":
        return True
    page = _parsed(origin)
    return page is not None and any(page == _parsed(allowed) for allowed in options.cors_origins)


def _parsed(origin: str) -> Origin | None:
    try:
        return parse_origin(origin)
    except BadOrigin:
        return None


def cors_headers(scope: Mapping[str, Any], options: Options) -> Headers:
    """Return the headers that let a page of another origin read the answer; none if it may not."""
    origin = header(scope, b"origin")
    if origin is None:
        return []
    if not _is_foreign_allowed(origin, options):
        public = [(b"access-control-allow-origin", b"*"), (b"vary", b"Origin")]
        return public if options.cors_public else []
    headers = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
    if options.cors_credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers


def preflight(scope: Mapping[str, Any]) -> Response:
    """Return the answer to OPTIONS, without the headers that name the origin."""
    headers = [(b"access-control-allow-methods", b"GET,POST"), (b"access-control-max-age", b"600")]
    if wanted := header(scope, b"access-control-request-headers"):
        headers.append((b"access-control-allow-headers", wanted.encode("latin-1")))
    return Response(204, headers, b"")


# Answers


def poll_response(session_version: Version, packets: Sequence[Packet], *, octets: bool, jsonp: str | None) -> Response:
    body = encode_payload(session_version, packets, octets=octets)
    if jsonp is not None:
        return _ok(SCRIPT, encode_jsonp(jsonp, body))
    binary = session_version == 3 and octets and has_binary(packets)
    return _ok(OCTETS if binary else TEXT, body)


def post_response() -> Response:
    # Some browsers would offer text/plain as a download in JSONP's hidden frame.
    return _ok("text/html", b"ok")


def too_large_response() -> Response:
    return _response(413, "text/plain", b"")


def error_response(refused: Refused) -> Response:
    return _response(refused.status, "application/json", _json({"code": refused.code, "message": str(refused)}))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _ok(content_type: str, body: bytes) -> Response:
    return _response(200, content_type, body)


def _response(status: int, content_type: str, body: bytes) -> Response:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return Response(status, headers, body)
