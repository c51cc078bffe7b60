"""Clients that do not read their answers, or hold idle connections, do not affect other clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.serve import allow_connections
from tests.hostile.harness import LONGEST_TURN, MEMORY_FACTOR, resident, unharmed
from tests.hostile.many_connections import (
    ADDRESSES,
    MANY_ADDRESSES,
    MANY_MEMORY,
    MANY_TURN,
    fewer_than,
    more_than,
    send_all,
    sockets,
    wire_from,
)
from tests.platform.raw import RawAnswer, Wire, request, token_of, wire
from tests.support.engines import Database
from tests.support.hub import PATIENCE, Client, Hub, StartHub, eventually, running_hub
from tests.support.standstill import limit_reached, read_metrics
from tests.support.tasks import end

pytestmark = pytest.mark.engine("sqlite")  # the attack is on the connection, not on the engine

OPENAPI = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: hub\r\n\r\n"
SMALL = b"GET /health/live HTTP/1.1\r\nHost: hub\r\n\r\n"
QUICK = {"write_timeout": 1, "keep_alive_timeout": 1}


@pytest.mark.alone
@pytest.mark.parametrize(
    ("count", "longest_turn", "memory"),
    [(1_000, LONGEST_TURN, MEMORY_FACTOR), pytest.param(5_000, MANY_TURN, MANY_MEMORY, marks=pytest.mark.full)],
)
async def test_pipelined_requests_whose_answers_nobody_reads(
    hub: Hub, count: int, longest_turn: float, memory: float
) -> None:
    """Thousands of connections request a large answer 70 times: other clients are not affected, not even when all
    disconnect."""
    allow_connections()
    async with unharmed(hub, longest_turn=longest_turn, memory=memory):
        async with sockets(hub, count, *MANY_ADDRESSES) as attackers:
            await send_all(attackers, OPENAPI * 70)
            await eventually(lambda: more_than(hub, count))
            await asyncio.sleep(1)
        await eventually(lambda: fewer_than(hub, 200))


async def large_list(hub: Hub) -> str:
    """Create a store whose list of 3 MB is streamed."""
    store = await hub.define()
    for _ in range(3):
        await hub.admin.make_all(store, [{"text": "x" * 1_000} for _ in range(1_000)])
    return store


@asynccontextmanager
async def unread(hub: Hub, kind: str) -> AsyncIterator[None]:
    """Open connections that do not read the answers that they requested."""
    token = token_of(hub.admin.http.headers)
    asked = {
        "pipelined": OPENAPI * 70,
        "small answers": SMALL * 3_000,
        "some answers, then rest": OPENAPI * 5,
        "the last answer of its connection": OPENAPI * 4 + OPENAPI.replace(b"Host", b"Connection: close\r\nHost"),
        "nonsense behind it": OPENAPI * 8 + b"nonsense\r\n\r\n",
        "heads only": SMALL.replace(b"GET", b"HEAD") * 3_000,
    }
    if kind == "a long list":
        data = request("GET", f"/{await large_list(hub)}?limit=10000", token)
    else:
        data = asked.get(kind, OPENAPI * 70)
    async with sockets(hub, 20, "127.0.0.2") as clients:
        await send_all(clients, data)
        if kind == "half-closed":
            for one in clients:
                one.shutdown(socket.SHUT_WR)
        readers = [asyncio.create_task(sip(one)) for one in clients] if kind == "sipped" else []
        try:
            yield
        finally:
            await end(*readers)


async def sip(one: socket.socket) -> None:
    """Read one byte every 0.2 s."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(one, 1):  # noqa: ASYNC110 (a slow client)
        await asyncio.sleep(0.2)


KINDS = [
    "pipelined",
    "small answers",
    "heads only",
    "a long list",
    "some answers, then rest",
    "half-closed",
    "the last answer of its connection",
    "nonsense behind it",
    "sipped",
]


@pytest.fixture(scope="module")
async def quick(sqlite_hub: StartHub) -> Hub:
    """A hub with timeouts of one second."""
    return await sqlite_hub(**QUICK)


@pytest.mark.parametrize("kind", KINDS)
async def test_who_does_not_read_is_cut_off(quick: Hub, kind: str) -> None:
    """The hub closes and forgets the connection, whatever was requested, while the client still keeps it open."""
    await eventually(lambda: fewer_than(quick, 10))
    before = await limit_reached(quick, "write_timeout")
    async with unread(quick, kind):
        await eventually(lambda: more_than(quick, 19))
        await eventually(lambda: fewer_than(quick, 10))
    assert await limit_reached(quick, "write_timeout") > before
    assert "Traceback" not in quick.process.log


async def test_who_reads_slowly_is_waited_for(quick: Hub) -> None:
    """The whole answer may take longer than `write_timeout`, which is the time within which some of it must be read."""
    async with sockets(quick, 1, "127.0.0.2") as [one]:
        loop, count = asyncio.get_running_loop(), 0
        await loop.sock_sendall(one, OPENAPI * 8 + OPENAPI.replace(b"Host", b"Connection: close\r\nHost"))
        async with asyncio.timeout(PATIENCE):
            while data := await loop.sock_recv(one, 16_384):
                count += len(data)
                await asyncio.sleep(0.1)
    assert count > 9 * 40_000


async def test_requests_behind_each_other_are_all_answered(hub: Hub) -> None:
    """Several thousand pipelined requests, some with bodies, are answered in order."""
    store, token = await hub.define(), token_of(hub.admin.http.headers)
    bodies = [b'{"n":%d}' % number for number in range(0, 600, 3)]
    creates = [request("POST", f"/{store}", token, f"Content-Length: {len(body)}") + body for body in bodies]
    chunked = request("PUT", "/nowhere/at/all/here", token, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"
    async with wire(hub.process.port) as connection:
        sending = asyncio.create_task(connection.send(b"".join(create + SMALL * 10 + chunked for create in creates)))
        for body in bodies:
            assert (await connection.answer()).json()["n"] == int(body[5:-1])
            for _ in range(10):
                assert (await connection.answer()).json() == {"ok": True}
            assert (await connection.answer()).status == 404
        await sending


@pytest.mark.alone
async def test_requests_behind_each_other_take_no_memory(hub: Hub) -> None:
    """Some three thousand requests of each of 200 connections wait as unparsed bytes."""
    async with unharmed(hub):
        before = resident(hub.process.pid)
        async with sockets(hub, 200, *ADDRESSES) as attackers:
            senders = [asyncio.create_task(send_all([one], SMALL * 6_000)) for one in attackers]
            await asyncio.sleep(2)
            assert resident(hub.process.pid) - before < 150 * 2**20
            await end(*senders)


LARGE = 3
"""Entities of so many megabytes, and so many connections that request one, whose answers would take 300 MB."""
MANY = 100


async def large_entity(user: Client, store: str) -> str:
    """Return the path of an entity whose answer is never streamed."""
    path = f"/{store}/{(await user.make(store))['_id']}"
    for number in range(LARGE):
        assert (await user.patch(path, {f"text{number}": "x" * 1_000_000})).status_code == 200
    return path


async def read(hub: Hub, user: Client, path: str) -> RawAnswer:
    """GET the path, uncompressed."""
    async with wire(hub.process.port) as connection:
        await connection.send(request("GET", path, token_of(user.http.headers)))
        return await connection.answer()


async def test_large_answers_that_nobody_reads_have_a_limit_together(hub: Hub) -> None:
    """Further ones to the same user are refused, from whatever address. Small ones, and those to other users, are not.
    When the clients have gone, there is room again."""
    store, limit = await hub.define(), "MOST_UNREAD_ANSWER_BYTES_EACH"
    user, other = await hub.as_user(), await hub.as_user()
    path, others = await large_entity(user, store), await large_entity(other, store)
    before = resident(hub.process.pid)
    async with sockets(hub, MANY, "127.0.0.2", "127.0.0.3") as attackers:
        await send_all(attackers, request("GET", path, token_of(user.http.headers)))
        await eventually(lambda: limit_reached(hub, limit))
        refused = await read(hub, user, path)
        assert (refused.status, [*refused.json()["errors"]]) == (503, ["answer"])
        assert limit in refused.json()["errors"]["answer"][0]
        assert int(refused.headers["retry-after"]) >= 1
        assert (await read(hub, user, "/auth")).status == 200
        assert (await read(hub, other, others)).status == 200
        assert resident(hub.process.pid) - before < 200 * 2**20
    await eventually(lambda: fewer_than(hub, MANY // 2))
    assert (await read(hub, user, path)).status == 200
    assert "Traceback" not in hub.process.log


async def written(hub: Hub, user: Client, method: str, path: str, body: bytes) -> RawAnswer:
    async with wire(hub.process.port) as connection:
        head = request(method, path, token_of(user.http.headers), f"Content-Length: {len(body)}")
        await connection.send(head + body)
        return await connection.answer()


@asynccontextmanager
async def without_room(hub: Hub, user: Client, asked: list[bytes]) -> AsyncIterator[None]:
    """Send these requests, the ones with the largest answers first, on connections that do not read, until the user has
    no room for more."""
    loop = asyncio.get_running_loop()
    async with sockets(hub, len(asked), "127.0.0.2", "127.0.0.3") as attackers:
        for one, data in zip(attackers, asked, strict=True):
            await loop.sock_sendall(one, data)
        await eventually(lambda: limit_reached(hub, "MOST_UNREAD_ANSWER_BYTES_EACH"))
        await settled(hub)
        yield


async def settled(hub: Hub) -> None:
    """Wait until every request has been answered or waits for its client."""

    async def is_idle() -> bool:
        return (await read_metrics(hub.url)).value("hub_requests_in_progress") <= 1

    await eventually(is_idle)


def brief(answer: RawAnswer) -> dict[str, Any]:
    assert (answer.status, answer.headers["preference-applied"]) == (200, "return=minimal"), answer
    parsed: dict[str, Any] = answer.json()
    return parsed


async def test_a_write_is_answered_though_there_is_no_room(hub: Hub) -> None:
    """It has been made, so the answer has ids and revisions only, instead of an error."""
    store, user = await hub.define(), await hub.as_user()
    path, old = await large_entity(user, store), await large_entity(user, store)
    less = [await user.make(store, {"text": "x" * size}) for size in (900_000, 300_000, 100_000)]
    paths = [path] * MANY + [f"/{store}/{each['_id']}" for each in less for _ in range(10)]
    async with without_room(hub, user, [request("GET", each, token_of(user.http.headers)) for each in paths]):
        text = "y" * 900_000
        made = brief(await written(hub, user, "POST", f"/{store}", b'{"text":"%s"}' % text.encode()))
        assert made == {"success": True, "_id": made["_id"], "_rev": 1}
        changed = brief(await written(hub, user, "PATCH", path, b'{"n":1}'))
        assert changed["_id"] == path.rpartition("/")[2]
        replaced = brief(await written(hub, user, "PUT", path, b'{"text":"%s"}' % text.encode()))
        assert replaced["_rev"] == changed["_rev"] + 1
        several = brief(await written(hub, user, "POST", f"/{store}", b"[" + b",".join([b'{"n":2}'] * 3_500) + b"]"))
        assert len({each["_id"] for each in several["entities"] if each["_rev"] == 1}) == 3_500
        assert brief(await written(hub, user, "DELETE", old, b""))["_id"] == old.rpartition("/")[2]
        assert (await read(hub, user, path)).status == 503
    await eventually(lambda: fewer_than(hub, MANY // 2))
    assert (await user.see(store, made["_id"]))["text"] == text
    assert len(await user.list(store, {"n": 2, "limit": 10_000})) == 3_500
    assert (await user.get(old)).status_code == 404


@pytest.mark.alone
async def test_arrays_that_nobody_reads_count_as_unread(hub: Hub) -> None:
    """Their answers are sent in pieces, and all of them are in memory. The system takes up to 4 MB of each."""
    store, user = await hub.define(), await hub.as_user()
    body = b"[" + b",".join([b'{"text":"%s"}' % (b"x" * 8_000)] * 1_000) + b"]"
    token = token_of(user.http.headers)
    asked = request("POST", f"/{store}", token, f"Content-Length: {len(body)}") + body
    async with without_room(hub, user, [asked] * 30):
        several = brief(await written(hub, user, "POST", f"/{store}", body))
        assert len(several["entities"]) == 1_000
    await eventually(lambda: fewer_than(hub, 15))
    assert "preference-applied" not in (await written(hub, user, "POST", f"/{store}", body)).headers


@pytest.fixture
async def narrow(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub that accepts five connections per address and forty in all."""
    bounds = {"max_connections_per_address": 5, "max_connections": 40}
    async with running_hub(database, tmp_path / "hub", **bounds) as hub:
        yield hub


async def ask(connection: Wire) -> RawAnswer:
    await connection.send(SMALL)
    return await connection.answer()


async def test_connections_of_an_address_have_a_limit(narrow: Hub) -> None:
    """Further ones are answered 503; other addresses and existing connections are not affected."""
    async with AsyncExitStack() as stack:
        first = [await stack.enter_async_context(wire_from(narrow, "127.0.0.2")) for _ in range(5)]
        for connection in first:
            assert (await ask(connection)).status == 200
        async with wire_from(narrow, "127.0.0.2") as further:
            answer = await ask(further)
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert answer.json()["tags"] == ["error_service_unavailable"]
            assert "connection" in answer.json()["errors"]
            assert int(answer.headers["retry-after"]) >= 1
            assert await further.closed()
        async with wire_from(narrow, "127.0.0.3") as other:
            assert (await ask(other)).status == 200
        assert (await ask(first[0])).status == 200
        assert await limit_reached(narrow, "max_connections_per_address") == 1
    await eventually(lambda: fewer_than(narrow, 5))
    async with wire_from(narrow, "127.0.0.2") as again:
        assert (await ask(again)).status == 200


async def test_websockets_count_as_connections(narrow: Hub) -> None:
    head = (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: hub\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with AsyncExitStack() as stack:
        for _ in range(5):
            connection = await stack.enter_async_context(wire_from(narrow, "127.0.0.2"))
            await connection.send(head.encode())
            assert (await connection.head())[0] == 101
        async with wire_from(narrow, "127.0.0.2") as further:
            assert (await ask(further)).status == 503
    await eventually(lambda: fewer_than(narrow, 5))


async def test_a_trusted_proxy_may_have_more_connections(narrow: Hub) -> None:
    """A proxy serves many clients."""
    async with AsyncExitStack() as stack:
        for _ in range(12):
            connection = await stack.enter_async_context(wire(narrow.process.port))
            assert (await ask(connection)).status == 200


async def test_connections_have_a_limit_in_all(narrow: Hub) -> None:
    """Further ones are closed; when the others have ended, new ones are accepted."""
    addresses = [f"127.0.1.{number}" for number in range(1, 21)]
    async with sockets(narrow, 60, *addresses):
        await eventually(lambda: hung_up_on(narrow, addresses[0]))
    await eventually(lambda: answered(narrow, "127.0.0.2"))


async def hung_up_on(narrow: Hub, address: str) -> bool:
    """Return whether a new connection is closed without an answer."""
    async with wire_from(narrow, address) as further:
        try:
            await further.send(SMALL)
            return await further.reader.read(1) == b""
        except ConnectionError:
            return True


async def answered(narrow: Hub, address: str) -> bool:
    """Return whether a new connection is answered. A full hub closes it, so its metrics cannot be read either."""
    async with wire_from(narrow, address) as again:
        try:
            return (await ask(again)).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


@pytest.mark.alone
async def test_bodies_that_do_not_arrive_keep_nobody_out(hub: Hub) -> None:
    """There are more of them than requests may run at once."""
    store = await hub.define()
    head = request("POST", f"/{store}", token_of(hub.admin.http.headers), "Content-Length: 100")
    async with unharmed(hub), sockets(hub, 1_100, *ADDRESSES) as attackers:
        await send_all(attackers, head + b'{"n":')
        await asyncio.sleep(1)
        for byte in b"12345":
            await send_all(attackers, bytes([byte]))
        await asyncio.sleep(1)


@pytest.mark.alone
async def test_connections_that_are_idle_keep_nobody_out(hub: Hub) -> None:
    async with unharmed(hub):
        async with sockets(hub, 2_000, *ADDRESSES):
            await asyncio.sleep(2)
        async with sockets(hub, 2_000, *ADDRESSES) as attackers:
            await send_all(attackers, SMALL[:-2])
            await asyncio.sleep(2)
