"""HTTP requests and responses without a network: error codes, origins, content types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.engineio import http
from realtime.engineio.http import ErrorCode, Refused
from realtime.engineio.options import Options
from realtime.engineio.packets import Packet


def scope(query: str = "EIO=4&transport=polling", method: str = "GET", type: str = "http", **headers: str) -> Any:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": type, "method": method, "query_string": query.encode(), "headers": raw, "path": "/engine.io/"}


@pytest.mark.parametrize(
    ("query", "method", "type", "code"),
    [
        ("EIO=4", "GET", "http", 0),
        ("EIO=4&transport=carrier", "GET", "http", 0),
        ("EIO=4&transport=polling", "POST", "http", 2),
        ("EIO=4&transport=polling", "PUT", "http", 2),
        ("EIO=4&transport=polling&sid=x", "PUT", "http", 3),
        ("EIO=4&transport=websocket", "GET", "http", 3),
        ("EIO=4&transport=polling", "GET", "websocket", 3),
        ("transport=polling", "GET", "http", 5),
        ("EIO=5&transport=polling", "GET", "http", 5),
        ("EIO=&transport=websocket", "GET", "websocket", 5),
        ("&".join(f"x{n}=" for n in range(200)), "GET", "http", 3),
    ],
)
def test_a_wrong_request_is_refused_with_its_code(query: str, method: str, type: str, code: int) -> None:
    with pytest.raises(Refused) as caught:
        http.parse_request(scope(query, method, type), Options())
    assert caught.value.code == code


@pytest.mark.parametrize(("code", "status"), [(code, 403 if code == 4 else 400) for code in ErrorCode])
def test_an_error_has_a_code_and_a_message(code: ErrorCode, status: int) -> None:
    response = http.error_response(Refused(code))
    assert response.status == status
    assert json.loads(response.body) == {"code": code.value, "message": http.MESSAGES[code]}


def test_a_transport_may_be_switched_off() -> None:
    with pytest.raises(Refused):
        http.parse_request(scope(), Options(transports=["websocket"]))


def test_base64_and_jsonp_are_asked_for_by_version_3() -> None:
    def read(query: str) -> http.Request:
        return http.parse_request(scope(f"transport=polling&{query}"), Options())

    assert (read("EIO=3").octets, read("EIO=3&b64=1").octets, read("EIO=3&j=0").octets) == (True, False, False)
    assert (read("EIO=3&j=0").jsonp, read("EIO=4&j=0").jsonp) == ("0", None)


@pytest.mark.parametrize(
    ("origin", "at", "allowed", "passes"),
    [
        (None, "http://hub.example", (), True),
        ("http://hub.example", "http://hub.example", (), True),
        ("http://hub.example", "ws://hub.example", (), True),
        ("https://hub.example", "https://hub.example", (), True),
        ("https://hub.example", "wss://hub.example", (), True),
        ("http://hub.example", "http://Hub.example:80", (), True),
        ("https://hub.example", "wss://hub.example:443", (), True),
        ("http://hub.example:8000", "http://hub.example:8000", (), True),
        ("https://hub.example", "http://hub.example", (), False),
        ("http://hub.example:8000", "http://hub.example", (), False),
        ("https://other.example", "https://hub.example", (), False),
        ("null", "http://hub.example", (), False),
        ("//hub.example", "http://hub.example", (), False),
        ("http://hub.example", "http://hub.example:many", (), False),
        ("https://other.example", "http://hub.example", ("https://other.example",), True),
        ("https://other.example", "http://hub.example", ("https://other.example:443",), True),
        ("https://other.example", "http://hub.example", "*", True),
    ],
)
def test_only_pages_of_known_origins_may_connect(origin: str | None, at: str, allowed: Any, passes: bool) -> None:
    """Compared by scheme class, host and port, as for the rest of the hub."""
    scheme, _, host = at.partition("://")
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    request = scope(**headers) | {"scheme": scheme}
    assert http.origin_allowed(request, Options(cors_origins=allowed)) is passes


def test_a_page_of_an_allowed_origin_may_read_the_answer() -> None:
    known = Options(cors_origins=("https://other.example",))
    headers = dict(http.cors_headers(scope(origin="https://other.example"), known))
    assert headers[b"access-control-allow-origin"] == b"https://other.example"
    assert headers[b"access-control-allow-credentials"] == b"true"
    assert headers[b"vary"] == b"Origin"
    spelt = Options(cors_origins=("https://other.example:443",))
    assert dict(http.cors_headers(scope(origin="https://other.example"), spelt)) == headers
    assert http.cors_headers(scope(origin="https://third.example"), known) == []
    without = Options(cors_origins="*", cors_credentials=False)
    assert b"access-control-allow-credentials" not in dict(http.cors_headers(scope(origin="null"), without))


def test_a_preflight_allows_the_headers_that_are_asked_for() -> None:
    response = http.preflight(scope(method="OPTIONS", access_control_request_headers="authorization"))
    headers = dict(response.headers)
    assert (response.status, response.body) == (204, b"")
    assert headers[b"access-control-allow-headers"] == b"authorization"
    assert headers[b"access-control-allow-methods"] == b"GET,POST"


@pytest.mark.parametrize(
    ("version", "packet", "octets", "jsonp", "content_type", "body"),
    [
        (4, Packet("4", "é"), True, None, "text/plain; charset=UTF-8", "4é".encode()),
        (4, Packet("4", b"\1"), True, None, "text/plain; charset=UTF-8", b"bAQ=="),
        (3, Packet("4", "é"), True, None, "text/plain; charset=UTF-8", "2:4é".encode()),
        (3, Packet("4", b"\1"), True, None, "application/octet-stream", b"\x01\x02\xff\x04\x01"),
        (3, Packet("4", b"\1"), False, None, "text/plain; charset=UTF-8", b"6:b4AQ=="),
        (3, Packet("4", b"\1"), False, "0", "text/javascript; charset=UTF-8", b'___eio[0]("6:b4AQ==");'),
    ],
)
def test_a_poll_is_answered_in_the_form_that_the_client_reads(
    version: Any, packet: Packet, octets: bool, jsonp: str | None, content_type: str, body: bytes
) -> None:
    response = http.poll_response(version, [packet], octets=octets, jsonp=jsonp)
    headers = dict(response.headers)
    assert (response.status, response.body) == (200, body)
    assert headers[b"content-type"].decode() == content_type
    assert headers[b"cache-control"] == b"no-store"


def test_a_post_is_answered_ok() -> None:
    response = http.post_response()
    assert (response.status, response.body, dict(response.headers)[b"content-type"]) == (200, b"ok", b"text/html")
