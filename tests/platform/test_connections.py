"""Connections of one process: pipelined requests take turns, and closed connections are freed."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from typing import Any

import pytest

from hub.http.answer import Answer
from hub.http.connections import TURNS, ConnectionLimits, Connections
from hub.http.scope import WHOLE_ANSWER
from hub.server.heads import HeadLimits
from hub.server.protocol import AT_ONCE, HubHttpProtocol
from stores.turns import SharedTurns
from tests.support.tasks import each_turn, reported_failures
from tests.wire.serving import PATIENCE, eventually, serving


def connections() -> Connections:
    return Connections(ConnectionLimits(), lambda _: False, lambda _: None)


async def test_a_turn_that_fails_holds_up_none_behind_it() -> None:
    taken: list[int] = []

    def fail() -> None:
        raise RuntimeError("a defect")

    turns = connections()
    with reported_failures() as failures:
        turns.in_turn(None, fail)
        for number in range(2 * TURNS):
            turns.in_turn(None, lambda number=number: taken.append(number))  # type: ignore[misc]
        for _ in range(4):
            await asyncio.sleep(0)
    assert taken == list(range(2 * TURNS))
    assert [str(failure["exception"]) for failure in failures] == ["a defect"]


async def test_some_turns_are_taken_at_a_time() -> None:
    """Other tasks of the loop run in between."""
    taken: list[int] = []
    turns = connections()
    for number in range(TURNS + 1):
        turns.in_turn(None, lambda number=number: taken.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert len(taken) == TURNS
    await asyncio.sleep(0)
    assert len(taken) == TURNS + 1


async def test_addresses_take_turns_by_turns() -> None:
    """An address with a thousand requests delays another address's request by one request, not by a thousand."""
    taken: list[str] = []
    turns = connections()
    many, one = turns.register("192.0.2.1"), turns.register("192.0.2.2")
    for _ in range(1_000):
        turns.in_turn(many, lambda: taken.append("many"))
    turns.in_turn(one, lambda: taken.append("one"))
    await asyncio.sleep(0)
    assert taken[:2] == ["many", "one"]


async def test_an_address_with_few_requests_waits_for_few_others_of_a_crowd() -> None:
    """A hundred addresses with many requests each delay it no more than a few would, and none of them starves."""
    taken: list[int] = []
    turns = connections()
    for number in range(100):
        peer = turns.register(f"192.0.2.{number}")
        for _ in range(50):
            turns.in_turn(peer, lambda number=number: taken.append(number))  # type: ignore[misc]
    few = turns.register("198.51.100.1")
    for _ in range(5):
        turns.in_turn(few, lambda: taken.append(-1))
    for _ in range(100 * 50 // TURNS + 2):
        await asyncio.sleep(0)
    assert len(taken) == 100 * 50 + 5
    assert taken[:220].count(-1) == 5
    assert set(taken[:250]) == {-1, *range(100)}


LARGE = b"x" * 1_000_000
GET = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\nhalf"


async def large_answer(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": WHOLE_ANSWER, "status": 200, "headers": [], "body": LARGE})


def http_protocols() -> int:
    return sum(type(each) is HubHttpProtocol for each in gc.get_objects())


def http(counted: Connections) -> Any:
    """Return a protocol for connections that share one `Connections`."""
    return partial(
        HubHttpProtocol,
        limits=HeadLimits(),
        connections=counted,
        write_timeout=30,
        websocket_path=b"/live",
        error_answer=lambda error, scope: Answer(status=400),
    )


@pytest.mark.parametrize(
    "sent", [b"", GET[:-2], GET, GET * 70, UPLOAD, b"nonsense\r\n\r\n"], ids=lambda sent: len(sent)
)
async def test_a_connection_that_has_ended_does_not_wait_for_the_garbage_collector(sent: bytes) -> None:
    """An idle hub runs no garbage collection, so the memory of thousands of connections would not be freed."""
    gc.collect()
    gc.disable()
    try:
        async with serving(large_answer, http=http(connections()), lifespan="off") as served:
            before = http_protocols()
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(sent)
            await eventually(lambda: http_protocols() > before, "a connection")
            await asyncio.sleep(0.1)  # time to parse and answer the request
            writer.transport.abort()
            await eventually(lambda: http_protocols() == before, "the end of the connection")
    finally:
        gc.enable()


async def test_a_body_that_came_while_the_client_did_not_read_is_taken_up_when_it_reads() -> None:
    """The interim answer may be the byte too many: then the body of a running request waits for the client to read."""
    running: list[HubHttpProtocol] = []

    class Watched(HubHttpProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            running.append(self)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        length = (b"content-length", b"%d" % len(body))
        await send({"type": WHOLE_ANSWER, "status": 200, "headers": [length], "body": body})

    make = http(connections())
    async with serving(echo, http=partial(Watched, **make.keywords), lifespan="off") as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(UPLOAD.replace(b"Content-Length: 100", b"Content-Length: 8\r\nExpect: 100-continue")[:-4])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        [protocol] = running
        protocol.pause_writing()
        writer.write(b"half")
        await eventually(lambda: protocol._buffered, "the first half")
        protocol.resume_writing()
        await eventually(lambda: not protocol._buffered, "its parsing")
        writer.write(b"full")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"halffull")).startswith(b"HTTP/1.1 200 ")
        writer.close()


class GivenTurns(SharedTurns):
    """Turns that are over when the test says so."""

    over = True

    def is_over(self) -> bool:
        super().is_over()  # called so that there is another turn
        return self.over


async def test_few_of_the_requests_that_waited_begin_in_one_turn() -> None:
    """This holds although many could be parsed in one turn: answering takes longer, and hundreds would block others."""
    counted = connections()
    turns = counted.turns = GivenTurns()
    most = begun = 0

    async def count(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await send({"type": WHOLE_ANSWER, "status": 200, "headers": [], "body": b""})

    def turn() -> None:
        nonlocal most, begun
        most, begun = max(most, begun), 0

    long_head = GET[:-2] + b"X-Padding: " + b"x" * AT_ONCE + b"\r\n\r\n"
    async with serving(count, http=http(counted), lifespan="off") as served:
        clients = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(200)]
        with each_turn(turn):
            for _, writer in clients:
                writer.write(long_head)
            await asyncio.sleep(0.1)  # time for all requests to arrive
            turns.over = False
            for reader, writer in clients:
                assert await reader.readuntil(b"\r\n\r\n")
                writer.close()
                await writer.wait_closed()
    assert 0 < most <= TURNS
