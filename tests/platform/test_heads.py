"""Request heads have a limit in bytes and in time, and idle connections are closed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from tests.platform.raw import RawAnswer, Wire, request, token_of, wire
from tests.support.hub import Hub, StartHub
from tests.support.live import live
from tests.support.tasks import end

pytestmark = pytest.mark.engine("sqlite")  # heads are read before the engine is used

MOST = 8_192
SECONDS = 1
ENDLESS = 2_000 * MOST


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    bounds = {"head_timeout": SECONDS, "keep_alive_timeout": SECONDS, "max_head_bytes": MOST}
    return await sqlite_hub(**bounds)


@pytest.fixture
def token(hub: Hub) -> str:
    return token_of(hub.admin.http.headers)


@pytest.fixture
async def connection(hub: Hub) -> AsyncIterator[Wire]:
    async with wire(hub.process.port) as connection:
        yield connection


def is_refusal(answer: RawAnswer, status: int, tag: str) -> bool:
    """Return whether the answer is this error in the API's format, and the last one on its connection."""
    body = answer.json()
    told = (answer.status, body["success"], body["code"], body["tags"], answer.headers["connection"])
    return told == (status, False, str(status), [tag], "close")


TOO_LARGE = (431, "error_request_header_fields_too_large")
TOO_SLOW = (408, "error_request_timeout")


@pytest.mark.parametrize(
    ("path", "header"),
    [("/auth", "X-Long: " + "x" * MOST), ("/auth", "X: x\r\n" * (MOST // 2) + "Y: y"), ("/auth?" + "x" * MOST, "Y: y")],
    ids=["a long header", "many headers", "a long query"],
)
async def test_a_head_beyond_its_bound(connection: Wire, token: str, path: str, header: str) -> None:
    await connection.send(request("GET", path, token, header))
    assert is_refusal(await connection.answer(), *TOO_LARGE)
    assert await connection.closed()


async def test_a_head_within_its_bound(connection: Wire, token: str) -> None:
    await connection.send(request("GET", "/auth", token, "X-Long: " + "x" * (MOST - 1_000)))
    assert (await connection.answer()).status == 200


async def test_heads_among_large_bodies(connection: Wire, token: str) -> None:
    """If a packet contains the end of a head, a body and the start of the next head, the body does not count as part of
    the next head."""
    body = b" " * 2 * MOST
    stream = (request("POST", "/nowhere/at/all", token, f"Content-Length: {len(body)}") + body) * 6
    length = len(stream) // 6
    cuts = [0, *(length * number + 20 for number in range(6)), len(stream)]
    for first, last in pairwise(cuts):
        await connection.send(stream[first:last])
        await asyncio.sleep(SECONDS / 20)
    assert [(await connection.answer()).status for _ in range(6)] == [404] * 6


async def test_a_head_without_end(hub: Hub, connection: Wire, token: str) -> None:
    """It is refused while it arrives, and the rest is not stored."""
    head = request("GET", "/auth", token).removesuffix(b"\r\n")

    async def go_on() -> None:
        await connection.send(head)
        for number in range(ENDLESS // 1_000):
            await connection.send(b"X-%d: %s\r\n" % (number, b"x" * 1_000))

    sending = asyncio.create_task(go_on())
    assert is_refusal(await connection.answer(), *TOO_LARGE)
    await asyncio.gather(sending, return_exceptions=True)  # it may be cut off


@pytest.mark.parametrize("part", [b"G", b"GET /api/v1/auth HTTP/1.1\r\nHost: hub\r\nX-"])
async def test_a_head_that_does_not_arrive(connection: Wire, part: bytes) -> None:
    await connection.send(part)
    assert is_refusal(await connection.answer(), *TOO_SLOW)
    assert await connection.closed()


async def test_a_head_that_comes_drop_by_drop(connection: Wire, token: str) -> None:
    """Its time is counted from its first byte, even on a connection that was used before."""
    await connection.send(request("GET", "/auth", token))
    assert (await connection.answer()).status == 200

    async def drip() -> None:
        for byte in request("GET", "/auth", token):
            await connection.send(bytes([byte]))
            await asyncio.sleep(SECONDS / 5)

    dripping = asyncio.create_task(drip())
    assert is_refusal(await connection.answer(), *TOO_SLOW)
    await end(dripping)


async def test_a_connection_on_which_nothing_is_asked(connection: Wire) -> None:
    assert await connection.closed()


async def test_a_connection_on_which_nothing_more_is_asked(connection: Wire, token: str) -> None:
    await connection.send(request("GET", "/auth", token))
    assert (await connection.answer()).status == 200
    assert await connection.closed()


@pytest.mark.parametrize("before", [0, 1])
async def test_what_has_come_in_time_is_answered(hub: Hub, token: str, before: int) -> None:
    """It is answered even if the hub reads it late. If the hub closed the connection, the client would see a reset."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(wire(hub.process.port)) for _ in range(20)]
        for _ in range(before):  # all at once, since the time of the first one runs meanwhile
            await asyncio.gather(*[connection.send(request("GET", "/auth", token)) for connection in connections])
            answers = await asyncio.gather(*[connection.answer() for connection in connections])
            assert {answer.status for answer in answers} == {200}
        await asyncio.sleep(SECONDS / 10)
        process = hub.process.process
        process.send_signal(signal.SIGSTOP)
        try:
            for connection in connections:
                await connection.send(request("GET", "/auth", token))
            await asyncio.sleep(SECONDS)
        finally:
            process.send_signal(signal.SIGCONT)
        assert [(await connection.answer()).status for connection in connections] == [200] * len(connections)


async def test_connections_that_are_reset_are_forgotten(hub: Hub, token: str) -> None:
    """Connections are reset before, during and after an answer. No timer handles them later."""
    asked = request("GET", "/auth", token)
    for sent in (b"", asked[:20], asked, asked + asked[:20], asked + asked):
        async with wire(hub.process.port) as connection:
            if sent:
                await connection.send(sent)
            if sent.startswith(asked):
                assert (await connection.answer()).status == 200
            connection.reset()
    await asyncio.sleep(2 * SECONDS)
    assert not [record for record in hub.process.records() if record["level"] == "error"]


async def test_a_websocket_stays(hub: Hub) -> None:
    """Its head is complete, and it has its own heartbeat."""
    store = await hub.define()
    async with live(hub, hub.admin) as client:
        await asyncio.sleep(2 * SECONDS)
        assert (await client.subscribe(store))["ok"]


async def test_what_is_no_request_keeps_no_connection(connection: Wire, token: str) -> None:
    """Blank lines after an answer and the rest of an unread body do not keep the connection open."""
    await connection.send(request("POST", "/nowhere/at/all", token, "Content-Length: 1000000"))
    assert (await connection.answer()).status == 404

    async def drip() -> None:
        while True:
            await connection.send(b"\r\n")
            await asyncio.sleep(SECONDS / 5)

    dripping = asyncio.create_task(drip())
    assert await connection.closed()
    await end(dripping)


async def test_a_request_before_nonsense_is_answered(connection: Wire, token: str) -> None:
    """The nonsense itself is not answered, because the answer could be taken for that of the request."""
    await connection.send(request("GET", "/auth", token) + b"nonsense\r\n\r\n")
    assert (await connection.answer()).status == 200
    assert await connection.closed()


async def test_nonsense_within_a_body_is_refused_at_once(connection: Wire, token: str) -> None:
    await connection.send(request("POST", "/auth", token, "Transfer-Encoding: chunked") + b"nonsense\r\n")
    assert is_refusal(await connection.answer(), 400, "error_bad_request")
    assert await connection.closed()
