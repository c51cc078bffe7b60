"""Request framing: upgrade headers, bodies, trailers and Host headers never turn one request into two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.platform.raw import Wire, request, token_of, wire
from tests.support.hub import PATIENCE, Hub, StartHub
from tests.support.live import live

pytestmark = pytest.mark.engine("sqlite")  # all of this happens before the engine is used

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    return await sqlite_hub(max_head_bytes=20_000, head_timeout=5, body_timeout=1)


@pytest.fixture(scope="module")
async def store(hub: Hub) -> str:
    return await hub.define()


@pytest.fixture(scope="module")
def token(hub: Hub) -> str:
    return token_of(hub.admin.http.headers)


@pytest.fixture
async def connection(hub: Hub) -> AsyncIterator[Wire]:
    async with wire(hub.process.port) as connection:
        yield connection


def with_body(head: bytes, body: bytes, chunked: bool = False) -> bytes:
    """Return the request with a body, which the head does not declare yet."""
    if chunked:
        return head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head[:-2] + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    "offer", [H2C, HANDSHAKE, HANDSHAKE[:2], ("Connection: upgrade", "Upgrade: TLS/1.0, foo/2")], ids=lambda o: o[1]
)
async def test_an_offer_to_upgrade_keeps_the_body(
    connection: Wire, store: str, token: str, offer: tuple[str, ...], chunked: bool
) -> None:
    """The upgrade header is ignored, whatever the protocol, in one packet and in several; the connection stays open."""
    asked = with_body(request("POST", f"/{store}", token, *offer), b'{"a":5}', chunked)
    for cut in (0, 20, asked.index(b"\r\n\r\n") + 4, len(asked) - 3):
        await connection.send(asked[:cut])
        await connection.send(asked[cut:])
        answer = await connection.answer()
        assert (answer.status, answer.json()["a"]) == (200, 5)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", [H2C, HANDSHAKE], ids=lambda o: o[1])
async def test_a_body_behind_an_offer_is_no_request(
    hub: Hub, connection: Wire, store: str, token: str, offer: tuple[str, ...], chunked: bool
) -> None:
    victim = await hub.admin.make(store)
    hidden = request("DELETE", f"/{store}/{victim['_id']}", token)
    asked = with_body(request("POST", f"/{store}", token, *offer), hidden, chunked)
    end = asked.index(b"\r\n\r\n") + 4
    await connection.send(asked[:end])
    await hub.admin.get("/auth")  # after this answer the hub has read the head
    await connection.send(asked[end:])
    assert (await connection.answer()).status == 400
    await connection.send(request("GET", "/auth", token))
    assert (await connection.answer()).json()["login"] == "admin"
    assert (await hub.admin.get(f"/{store}/{victim['_id']}")).status_code == 200


EARLY = {
    401: ("POST", "/{store}", "no token", ()),
    404: ("PUT", "/nowhere/at/all/here", "", ()),
    400: ("POST", "/{store}?surprise=1", "", ()),
}
"""Requests that are answered before their body is read: method, path and token, by the status."""


@pytest.mark.parametrize("size", [64, 3_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("status", EARLY)
async def test_line_breaks_in_a_body_that_nobody_reads_belong_to_it(
    hub: Hub, connection: Wire, store: str, token: str, status: int, chunked: bool, size: int
) -> None:
    """The body begins with them in a packet of its own, behind the answer. The request behind it is the next one, and
    what its body contains is none."""
    victim = await hub.admin.make(store)
    method, path, other, headers = EARLY[status]
    body = b"\r\n" * size
    asked = with_body(request(method, path.format(store=store), other or token, *headers), body, chunked)
    end = asked.index(b"\r\n\r\n") + 4
    hidden = request("DELETE", f"/{store}/{victim['_id']}", token)
    for _ in range(2):
        await connection.send(asked[:end])
        assert (await connection.answer()).status == status
        first = asked.index(b"\r\n", end) if chunked else end + size
        for begin, stop in ((end, first), (first, len(asked) - 2), (len(asked) - 2, len(asked))):
            await connection.send(asked[begin:stop])
            await hub.admin.get("/auth")  # after this answer the hub has read this part
        await connection.send(with_body(request("POST", f"/{store}", token), hidden))
        answer = await connection.answer()
        assert (answer.status, [*answer.json()["errors"]]) == (400, ["body"])
    await connection.send(request("GET", "/auth", token))
    assert (await connection.answer()).json()["login"] == "admin"
    assert (await hub.admin.get(f"/{store}/{victim['_id']}")).status_code == 200


async def test_empty_lines_between_requests_are_skipped(connection: Wire, token: str) -> None:
    for lines in (b"", b"\r\n", b"\r\n" * 9, b"\r\n" * 9_000):
        await connection.send(lines + request("GET", "/auth", token) + lines)
        assert (await connection.answer()).json()["login"] == "admin"


async def test_requests_behind_an_offer_are_answered_in_order(connection: Wire, store: str, token: str) -> None:
    first = with_body(request("POST", f"/{store}", token, *H2C), b'{"a":1}')
    second = request("GET", f"/{store}", token, *HANDSHAKE)
    third = request("GET", "/auth", token)
    await connection.send(first + second + third)
    answers = [await connection.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert (answers[0].json()["a"], answers[2].json()["login"]) == (1, "admin")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nowhere",
        "/api/v1/auth",
        "/elsewhere",
        "/health/live",
        "/a/socket.io/",
        "/api/v1/socket.io/",
        "http://a",
    ],
)
async def test_a_handshake_elsewhere_is_answered_by_the_api(connection: Wire, method: str, path: str) -> None:
    """The answer comes immediately and equals that to the same request without the handshake's headers."""
    answers = []
    for offer in ((), HANDSHAKE):
        await connection.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: hub", *offer, "", ""]).encode())
        answers.append(await connection.answer())
    assert answers[0].status == answers[1].status
    assert answers[0].body == answers[1].body
    assert answers[0].headers["content-type"] == "application/json"


BROKEN = {
    "no key": HANDSHAKE[:3],
    "a bad key": (*HANDSHAKE[:3], "Sec-WebSocket-Key: short"),
    "two keys": (*HANDSHAKE, HANDSHAKE[3]),
    "no version": (*HANDSHAKE[:2], HANDSHAKE[3]),
    "a body": (*HANDSHAKE, "Content-Length: 0"),
    "another protocol": (HANDSHAKE[0], "Upgrade: websocket, h2c", *HANDSHAKE[2:]),
}


@pytest.mark.parametrize("offer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_handshake_is_refused_at_once(connection: Wire, offer: tuple[str, ...]) -> None:
    head = ["GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", "Host: hub", *offer, "", ""]
    await connection.send("\r\n".join(head).encode())
    answer = await connection.answer()
    assert (answer.status, answer.json()) == (400, {"code": 3, "message": "Bad request"})


async def test_a_handshake_with_a_long_line_is_refused_at_once(connection: Wire) -> None:
    """The line exceeds the WebSocket library's bound but not the bound on request heads."""
    head = ["GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", "Host: hub", *HANDSHAKE, "Cookie: a=" + "x" * 9_000]
    await connection.send("\r\n".join([*head, "", ""]).encode())
    answer = await connection.answer()
    assert (answer.status, answer.json()["code"]) == (431, "431")
    assert await connection.closed()


async def test_a_handshake_behind_a_request_waits_for_nobody(connection: Wire, token: str) -> None:
    """Both arrive at once on one connection: the handshake is answered after the request."""
    head = ["GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", "Host: hub", *HANDSHAKE, "", ""]
    await connection.send(request("GET", "/auth", token) + "\r\n".join(head).encode())
    assert (await connection.answer()).json()["login"] == "admin"
    status, _ = await connection.head()
    assert status == 101


async def test_a_websocket_is_still_one(hub: Hub, store: str) -> None:
    async with live(hub, hub.admin) as client:
        assert (await client.subscribe(store))["ok"]


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", [], 400),
        ("1.1", ["hub", "hub"], 400),
        ("1.1", ["hub", "other"], 400),
        ("1.0", ["hub", "other"], 400),
        ("1.1", ["a b"], 400),
        ("1.1", ["a,b"], 400),
        ("1.1", ["a/b"], 400),
        ("1.1", ["user@hub"], 400),
        ("1.1", ["hub:port"], 400),
        ("1.1", ["h\xfcb"], 400),
        ("1.1", ["h" * 301], 400),
        ("2.0", ["hub"], 400),
        ("1.1", ["hub"], 200),
        ("1.1", [""], 200),
        ("1.1", ["hub:8000"], 200),
        ("1.1", ["[::1]:8000"], 200),
        ("1.1", ["a_b.example.com"], 200),
        ("1.0", [], 200),
    ],
)
async def test_a_request_has_one_host(connection: Wire, version: str, hosts: list[str], status: int) -> None:
    lines = [f"GET /health/live HTTP/{version}", *(f"Host: {host}" for host in hosts), "", ""]
    await connection.send("\r\n".join(lines).encode("latin-1"))
    answer = await connection.answer()
    assert answer.status == status
    if status == 400:
        assert (answer.json()["tags"], answer.headers["connection"]) == (["error_bad_request"], "close")
        assert version == "2.0" or "Host" in answer.json()["errors"]
        assert await connection.closed()


async def test_trailers_are_not_headers(hub: Hub, connection: Wire, store: str, token: str) -> None:
    """An Authorization header in a trailer does not authenticate the request."""
    head = f"GET /api/v1/{store} HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"
    await connection.send(head.encode() + b"0\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n")
    assert (await connection.answer()).status == 401


@pytest.mark.parametrize("end", [b"0\r\n" + b"X: x\r\n" * 9_000, b"0\r\nX: " + b"x" * 50_000, b"5;" + b"x" * 50_000])
async def test_trailers_have_a_bound(connection: Wire, store: str, token: str, end: bytes) -> None:
    """The bound also covers one endless header and chunk extensions."""
    await connection.send(request("POST", f"/{store}", token, "Transfer-Encoding: chunked") + end)
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (431, "close")


async def test_the_hub_is_no_tunnel(connection: Wire) -> None:
    await connection.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    assert (await connection.answer()).status == 400
    assert await connection.closed()


async def test_a_path_may_be_left_out(connection: Wire) -> None:
    """The target is in absolute form, as clients of a proxy send it."""
    for target, status in [("http://hub/health/live", 200), ("http://hub", 404)]:
        await connection.send(f"GET {target} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
        assert (await connection.answer()).status == status


async def test_a_client_that_is_refused_while_it_waits_to_send_is_hung_up_on(connection: Wire, store: str) -> None:
    """The client may then send its body or not, and the hub must not take it for a request."""
    await connection.send(request("POST", f"/{store}", "no token", "Content-Length: 100", "Expect: 100-continue"))
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert await connection.closed()


@pytest.mark.parametrize("kind", ["whole", "declared", "unfinished"])
async def test_an_answer_that_ends_the_connection_is_the_last_one(
    hub: Hub, connection: Wire, store: str, token: str, kind: str
) -> None:
    """The client takes the requests behind it as not carried out (RFC 9112, 9.6), so they are not."""
    victim = await hub.admin.make(store)
    path, large = f"/{store}/{victim['_id']}", b'{"a":"' + b"x" * 1_100_000 + b'"}'
    asked = {
        "whole": with_body(request("POST", f"/{store}", token), large),
        "declared": with_body(request("PATCH", path, token), large),
        "unfinished": request("POST", f"/{store}", token, "Content-Length: 9"),
    }[kind]
    delete = request("DELETE", path, token)
    await connection.send(asked if kind == "unfinished" else asked + delete)
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (408 if kind == "unfinished" else 413, "close")
    if kind == "unfinished":
        await connection.send(b'{"a":"b"}' + delete)
    async with asyncio.timeout(PATIENCE):
        assert await connection.reader.read() == b""
    assert (await hub.admin.get(path)).status_code == 200


async def test_an_encoded_slash_ends_no_segment(hub: Hub, connection: Wire, store: str, token: str) -> None:
    made = await hub.admin.make(store)
    for path in (f"/{store}%2f{made['_id']}", f"/{store}/{made['_id']}%2Fhistory", f"%2F{store}", f"/{store}%252F"):
        await connection.send(request("GET", path, token))
        assert (await connection.answer()).status == 404, path
    await connection.send(b"GET /health%2Flive HTTP/1.1\r\nHost: hub\r\n\r\n")
    assert (await connection.answer()).status == 404
    await connection.send(request("GET", f"/{store}/%{ord(made['_id'][0]):x}{made['_id'][1:]}", token))
    assert (await connection.answer()).status == 200


async def test_http_1_0_has_no_chunked_bodies(connection: Wire, store: str, token: str) -> None:
    """An intermediary may have determined the end of the body differently."""
    head = request("POST", f"/{store}", token).replace(b"HTTP/1.1", b"HTTP/1.0")
    await connection.send(with_body(head, b"{}", chunked=True))
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert [*answer.json()["errors"]] == ["Transfer-Encoding"]
    assert await connection.closed()


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key", "Origin", "Expect"])
async def test_a_header_of_which_there_is_one_comes_once(connection: Wire, store: str, token: str, name: str) -> None:
    """Repeated headers are refused even with equal values, since it is unknown which one a proxy has checked."""
    values = {"Authorization": f"Bearer {token}", "Expect": "100-continue", "Origin": "http://hub"}
    lines = [f"{name}: {values.get(name, 'application/json')}"] * (1 if name == "Authorization" else 2)
    await connection.send(request("GET", f"/{store}", token, *lines))
    answer = await connection.answer()
    assert (answer.status, [*answer.json()["errors"]]) == (400, [name])
    assert await connection.closed()


async def test_headers_that_are_lists_may_come_in_several_lines(connection: Wire, store: str, token: str) -> None:
    await connection.send(request("GET", f"/{store}", token, "Accept: a/b", "Accept: c/d", "X-A: 1", "X-A: 2"))
    assert (await connection.answer()).status == 200


@pytest.mark.parametrize("before", ["\r\n", "\r\n\r\n", "\n", "\r|\n", "\r\n\r|\n\r\n"])
async def test_empty_lines_before_a_request_are_ignored(connection: Wire, token: str, before: str) -> None:
    """They come in one piece with it or in several, and also before the second request of a connection."""
    for _ in range(2):
        for piece in before.split("|"):
            await connection.send(piece.encode())
            await asyncio.sleep(0.05 if "|" in before else 0)
        await connection.send(request("GET", "/auth", token))
        assert (await connection.answer()).status == 200


@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize("before", ["\r", "\r\r\n", "\n\r", "\r\n\r", "\r|", "\r|\r\n", "\r\n\r|"])
async def test_a_carriage_return_alone_is_no_line(
    hub: Hub, connection: Wire, token: str, before: str, earlier: int
) -> None:
    """Before the first request of a connection and before a later one: a proxy might see another request there."""
    for _ in range(earlier):
        await connection.send(request("GET", "/auth", token))
        assert (await connection.answer()).status == 200
    first, _, rest = before.partition("|")
    await connection.send(first.encode() if "|" in before else b"")
    await asyncio.sleep(0.05 if "|" in before else 0)
    await connection.send((rest if "|" in before else before).encode() + request("GET", "/auth", token))
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert await connection.closed()
    assert "Traceback" not in hub.process.log


@pytest.mark.parametrize("length", ["20000", "9" * 19])
async def test_a_status_line_says_what_the_message_says(connection: Wire, length: str) -> None:
    """Python has other names than the hub for some statuses, and different ones in each version."""
    head = f"POST /api/v1/auth HTTP/1.1\r\nHost: hub\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    await connection.send(head.encode())
    line = await connection.reader.readline()
    assert line == b"HTTP/1.1 413 Payload Too Large\r\n"
    await connection.reader.readuntil(b"\r\n\r\n")
    assert orjson.loads(await connection.reader.read())["message"] == "Payload Too Large"


@pytest.mark.parametrize("lines", [["gzip, chunked"], ["gzip", "chunked"]])
async def test_an_unknown_transfer_coding_is_refused(
    connection: Wire, store: str, token: str, lines: list[str]
) -> None:
    """Its body is not read as if it were only chunked, and the connection is closed."""
    asked = request("POST", f"/{store}", token, *(f"Transfer-Encoding: {line}" for line in lines))
    await connection.send(asked + b"2\r\n{}\r\n0\r\n\r\n")
    answer = await connection.answer()
    assert (answer.status, [*answer.json()["errors"]]) == (400, ["Transfer-Encoding"])
    assert await connection.closed()


@pytest.mark.parametrize("coding", ["Chunked", "\tchunked "])
async def test_a_transfer_coding_may_be_in_upper_case_and_between_blanks(
    connection: Wire, store: str, token: str, coding: str
) -> None:
    asked = request("POST", f"/{store}", token, f"Transfer-Encoding: {coding}")
    await connection.send(asked + b"2\r\n{}\r\n0\r\n\r\n")
    assert (await connection.answer()).status == 200


async def test_an_unknown_expectation_is_refused(connection: Wire, store: str, token: str) -> None:
    asked = request("POST", f"/{store}", token, "Expect: 200-ok")
    await connection.send(with_body(asked, b"{}"))
    answer = await connection.answer()
    assert (answer.status, answer.json()["tags"]) == (417, ["error_expectation_failed"])
    assert [*answer.json()["errors"]] == ["Expect"]
    assert await connection.closed()


@pytest.mark.parametrize("value", ["100-continue", "200-ok"])
async def test_http_1_0_has_no_expectations(connection: Wire, store: str, token: str, value: str) -> None:
    asked = request("POST", f"/{store}", token, f"Expect: {value}").replace(b"HTTP/1.1", b"HTTP/1.0")
    await connection.send(asked[:-2] + b"Content-Length: 2\r\n\r\n")
    await connection.send(b"{}")
    assert (await connection.answer()).status == 200


@pytest.mark.parametrize("version", ["12", "14", "x", "13, 12", ""])
@pytest.mark.parametrize("path", ["/socket.io/?EIO=4&transport=websocket", "/socket.io/?EIO=3&transport=websocket"])
async def test_a_handshake_of_another_version_is_answered_in_the_apis_shape(
    connection: Wire, path: str, version: str
) -> None:
    """The answer gives the version that the hub supports."""
    lines = [line.replace("Version: 13", f"Version: {version}") for line in HANDSHAKE]
    await connection.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: hub", *lines, "", ""]).encode())
    answer = await connection.answer()
    assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "upgrade, close")
    assert answer.json()["tags"] == ["error_upgrade_required"]
    assert answer.json()["errors"] == {"Sec-WebSocket-Version": ["Must be 13."]}
    assert answer.headers["x-request-id"]
    assert await connection.closed()
