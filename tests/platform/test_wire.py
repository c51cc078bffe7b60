"""HTTP/1.1 as bytes: the hub's own server protocol answers in the right order, on the right connections."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from hub.http.call import Call
from hub.http.errors import ClientGone
from hub.http.scope import WHOLE_ANSWER
from hub.server.cycle import HubCycle
from tests.platform.raw import request, token_of, wire
from tests.support.hub import Client, Hub
from tests.support.tasks import reported_failures


@pytest.fixture
def token(user: Client) -> str:
    return token_of(user.http.headers)


async def test_requests_in_one_packet_are_answered_in_order(hub: Hub, user: Client, store: str, token: str) -> None:
    """Each request, with or without a body, gets its own answer."""
    first, second = [await user.make(store, n=n) for n in (1, 2)]
    write = request("PATCH", f"/{store}/{first['_id']}", token, "Content-Length: 7") + b'{"n":9}'
    reads = [request("GET", f"/{store}/{entity['_id']}", token) for entity in (second, first)]
    async with wire(hub.process.port) as connection:
        await connection.send(b"".join([reads[0], write, reads[1]]))
        answers = [await connection.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [(answer.json()["_id"], answer.json()["n"]) for answer in answers] == [
        (second["_id"], 2),
        (first["_id"], 9),
        (first["_id"], 9),
    ]


async def test_a_body_in_pieces_is_one_body(hub: Hub, user: Client, store: str, token: str) -> None:
    """It may arrive with the head, after it, or in small pieces."""
    body = b'{"n":12345}'
    head = request("POST", f"/{store}", token, f"Content-Length: {len(body)}")
    async with wire(hub.process.port) as connection:
        for cut in (0, 1, len(body) - 1, len(body)):
            await connection.send(head + body[:cut])
            await user.get("/auth")  # after this answer the hub has read the first part
            await connection.send(body[cut:])
            assert (await connection.answer()).json()["n"] == 12345


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_connection_ends_when_the_caller_says_so(hub: Hub, user: Client, token: str, version: str) -> None:
    """It ends after `Connection: close` and, by default, after an HTTP/1.0 request."""
    asked = request("GET", "/auth", token, *(["Connection: close"] if version == "1.1" else []))
    async with wire(hub.process.port) as connection:
        await connection.send(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await connection.closed()


async def test_head_is_get_without_the_body(hub: Hub, user: Client, store: str, token: str) -> None:
    """The headers are the same, and the next answer follows directly."""
    path = f"/{store}/{(await user.make(store, n=1))['_id']}"
    async with wire(hub.process.port) as connection:
        await connection.send(request("HEAD", path, token) + request("GET", path, token))
        status, headers = await connection.head()
        answer = await connection.answer()
    assert status == answer.status == 200
    of_the_moment = {"date", "x-request-id"}
    assert {k: v for k, v in headers.items() if k not in of_the_moment} == {
        k: v for k, v in answer.headers.items() if k not in of_the_moment
    }


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: sid=x", b"a\nb", b"a\rb"])
async def test_no_header_carries_a_line_break(value: bytes) -> None:
    """Such an answer is not written, because it could be read as two answers."""
    written: list[bytes] = []
    with pytest.raises(RuntimeError):
        await cycle_into(written).send(
            {"type": WHOLE_ANSWER, "status": 200, "headers": [(b"location", value)], "body": b""}
        )
    assert written == []


async def test_a_request_that_waits_for_something_cancelled_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    """It is an error of the hub and logged as one. Only a request that is cancelled itself ends without an answer."""

    async def app(*_: Any) -> None:
        shared = asyncio.get_running_loop().create_future()
        shared.cancel()
        await shared

    written: list[bytes] = []
    await cycle_into(written).run_asgi(app)
    assert b"".join(written).startswith(b"HTTP/1.1 500 ")
    assert "CancelledError" in caplog.text


async def test_work_for_a_client_that_has_gone_ends_first() -> None:
    """Only then the request ends, and an error of the work is not reported by the event loop."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)
            raise ValueError

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with reported_failures() as failures:
        with pytest.raises(ClientGone):
            await Call({}, receive).while_connected(work())
        assert ended
        gc.collect()
    assert failures == []


def cycle_into(written: list[bytes]) -> HubCycle:
    """Return a cycle that appends its answer to `written`."""
    transport: Any = SimpleNamespace(
        write=written.append, is_closing=lambda: False, close=lambda: None, abort=lambda: None
    )
    flow: Any = SimpleNamespace(write_paused=False)
    cycle = HubCycle(
        scope={"method": "GET", "http_version": "1.1"},  # type: ignore[typeddict-item]
        transport=transport,
        flow=flow,
        logger=logging.getLogger("uvicorn.error"),
        access_logger=logging.getLogger("uvicorn.access"),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    cycle.on_begun = lambda: None
    return cycle


async def test_an_expected_continue_is_given(hub: Hub, user: Client, store: str, token: str) -> None:
    """With `Expect: 100-continue` the interim response comes first, then the body is read."""
    body = b'{"n":1}'
    head = request("POST", f"/{store}", token, f"Content-Length: {len(body)}", "Expect: 100-continue")
    async with wire(hub.process.port) as connection:
        await connection.send(head)
        assert (await connection.head())[0] == 100
        await connection.send(body)
        assert (await connection.answer()).json()["n"] == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_client_of_http_1_0_gets_no_chunks(
    hub: Hub, user: Client, store: str, token: str, method: str, coding: str
) -> None:
    """The end of the connection ends a list of unknown length."""
    await user.make_all(store, [{"n": n, "text": "x" * 1_000} for n in range(300)])
    asked = request(method, f"/{store}?limit=300", token, f"Accept-Encoding: {coding}")
    async with wire(hub.process.port) as connection:
        await connection.send(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
        status, headers = await connection.head()
        body = await connection.reader.read()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    if method == "HEAD":
        assert body == b""
        return
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    assert [entity["n"] for entity in json.loads(body)] == list(range(300))


async def test_a_client_may_end_its_side_behind_its_requests(hub: Hub, user: Client, store: str, token: str) -> None:
    """All requests are answered, then the hub closes its side too."""
    create = request("POST", f"/{store}", token, "Content-Length: 7") + b'{"n":1}'
    async with wire(hub.process.port) as connection:
        await connection.send(create * 5 + request("GET", "/auth", token)[:20])
        connection.writer.write_eof()
        answers = [await connection.answer() for _ in range(5)]
        assert await connection.closed()
    assert [answer.status for answer in answers] == [200] * 5
    assert len(await user.list(store)) == 5
