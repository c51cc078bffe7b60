"""Messages of joined clients that never become complete, or that wait, are counted and have a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.hostile.harness import resident
from tests.support.engines import sqlite_database
from tests.support.hub import PATIENCE, Client, Hub, eventually, running_hub
from tests.support.live import close_code, credentials, frame_head, live, socket_url, websocket
from tests.support.standstill import read_metrics
from tests.support.tasks import end

pytestmark = pytest.mark.engine("sqlite")  # connections do not depend on the engine

MOST = 8_000_000
SIZE = 800_000
CLIENTS = 40
BODY_TIMEOUT = 4
"""Seconds. A message takes a tenth of it: the rest is for a machine that stalls."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", max_buffered_bytes=MOST) as hub:
        yield hub


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", body_timeout=1) as hub:
        yield hub


async def joined(stack: AsyncExitStack, hub: Hub, version: int, user: Client) -> ClientConnection:
    opened = await stack.enter_async_context(
        websocket(socket_url(hub.url, version), additional_headers=credentials(user), close_timeout=0)
    )
    await opened.recv()
    if version == 4:
        await opened.send("40")
    assert str(await opened.recv()).startswith("40")
    return opened


async def one_frame(opened: ClientConnection) -> None:
    opened.transport.write(frame_head(0x01, 900_000) + b"4" * SIZE)


async def fragments(opened: ClientConnection) -> None:
    piece = bytes((0x00, 0x80 | 126)) + (8_000).to_bytes(2, "big") + bytes(4) + b"4" * 8_000
    opened.transport.write(bytes((0x01, 0x80 | 1)) + bytes(4) + b"4" + piece * (SIZE // 8_000))


async def attachment(opened: ClientConnection) -> None:
    await opened.send('452-["subscribe",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    await opened.send(b"\x04" + b"x" * 1_000)


Send = Callable[[ClientConnection], Awaitable[None]]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("send", [one_frame, fragments])
async def test_unfinished_messages_count_as_buffered(hub: Hub, send: Send, version: int) -> None:
    """Beyond the limit their connections are closed, and those of others are not."""
    user = await hub.as_user()
    async with AsyncExitStack() as stack, live(hub, hub.admin) as other:
        opened = [await joined(stack, hub, version, user) for _ in range(CLIENTS)]
        before = resident(hub.process.pid)
        for each in opened:
            await send(each)
        await eventually(lambda: fewer_than(MOST // SIZE + 1, opened))
        assert await reached(hub, "max_buffered_bytes", CLIENTS - MOST // SIZE)
        assert 1013 in [each.close_code for each in opened]
        assert resident(hub.process.pid) - before < 2 * MOST
        assert (await other.ask("unsubscribe", {"channel": "x"}))["error"]["code"] == "404"
        assert not await fewer_than(MOST // SIZE // 2, opened)
    await eventually(lambda: takes_a_body(hub))


@pytest.mark.parametrize("version", [3, 4])
async def test_a_little_input_is_taken_beyond_the_limit(tmp_path: Path, version: int) -> None:
    """Others who fill the hub's buffers close no connection that holds little itself."""
    async with (
        running_hub(sqlite_database(tmp_path), tmp_path / "hub", max_buffered_bytes=10_000) as hub,
        AsyncExitStack() as stack,
    ):
        opened = await joined(stack, hub, version, hub.admin)
        text = f'421["unsubscribe",{{"channel":"{"x" * 12_000}"}}]'.encode()
        frame = bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2, "big") + bytes(4) + text
        opened.transport.write(frame[:-1])
        await hub.admin.get("/auth")  # after this answer the hub has read what was sent before
        opened.transport.write(frame[-1:])
        await answered(opened, 1)
        await one_frame(opened)
        assert await close_code(opened) == 1013
        assert await reached(hub, "max_buffered_bytes")


async def fewer_than(most: int, connections: list[ClientConnection]) -> bool:
    """Return whether fewer than `most` of the connections are open."""
    return sum(each.close_code is None for each in connections) < most


async def takes_a_body(hub: Hub) -> bool:
    """Return whether the places of the closed connections are free again."""
    answer = await hub.admin.send("POST", "/nowhere", b" " * 900_000)
    return answer.status_code == 404


async def reached(hub: Hub, limit: str, times: int = 1) -> bool:
    return (await read_metrics(hub.url)).value("hub_limit_reached_total", limit=limit) >= times


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("send", [one_frame, fragments, attachment])
async def test_a_message_must_arrive_in_time(quick: Hub, send: Send, version: int) -> None:
    async with AsyncExitStack() as stack:
        opened = await joined(stack, quick, version, quick.admin)
        await send(opened)
        assert await close_code(opened) == 1001
    assert await reached(quick, "body_timeout")


@pytest.mark.parametrize("version", [3, 4])
async def test_attachments_that_are_polled_must_arrive_in_time(quick: Hub, version: int) -> None:
    address = f"/socket.io/?EIO={version}&transport=polling"
    async with httpx.AsyncClient(base_url=quick.url, timeout=PATIENCE, headers=credentials(quick.admin)) as http:
        address += "&sid=" + (await http.get(address)).text.split('"sid":"')[1].split('"')[0]
        if version == 4:
            assert (await http.post(address, content="40")).text == "ok"
        await http.get(address)
        asked = '451-["subscribe",{"_placeholder":true,"num":0}]'
        body = asked if version == 4 else f"{len(asked)}:{asked}"
        assert (await http.post(address, content=body)).text == "ok"
        await http.get(address)
        await eventually(lambda: reached(quick, "body_timeout"))
        assert (await http.post(address, content="3" if version == 4 else "1:2")).status_code == 400


async def test_a_message_that_is_slow_but_in_time_is_answered(tmp_path: Path) -> None:
    """Each message has its own time, and a control frame in two pieces is no message."""
    async with (
        running_hub(sqlite_database(tmp_path), tmp_path / "hub", body_timeout=BODY_TIMEOUT) as hub,
        AsyncExitStack() as stack,
    ):
        await asyncio.gather(*[send_slowly(await joined(stack, hub, version, hub.admin)) for version in (3, 4)])


async def send_slowly(opened: ClientConnection) -> None:
    """Send messages that together take longer than one may, then send nothing for as long, and one more."""
    for number in range(4):
        text = f'42{number}["unsubscribe",{{"channel":"x"}}]'.encode()
        data = bytes((0x81, 0x80 | len(text))) + bytes(4) + text
        ping = bytes((0x89, 0x80 | 4)) + bytes(4) + b"ping"
        for piece in (data[:-1], data[-1:] + ping[:3], ping[3:]):
            opened.transport.write(piece)
            await asyncio.sleep(BODY_TIMEOUT / 10)
        await answered(opened, number)
    await asyncio.sleep(BODY_TIMEOUT * 1.2)
    await opened.send('429["unsubscribe",{"channel":"x"}]')
    await answered(opened, 9)


async def answered(opened: ClientConnection, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while not str(await opened.recv()).startswith(f"43{number}["):
            pass


@pytest.mark.parametrize("rest", [0, 1])
async def test_large_attachments_are_refused(hub: Hub, rest: int) -> None:
    """Whether or not one is left to come."""
    async with AsyncExitStack() as stack:
        opened = await joined(stack, hub, 4, hub.admin)
        placeholders = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(1 + rest))
        await opened.send(f'45{1 + rest}-["subscribe",{placeholders}]')
        await opened.send(b"x" * 100_000)
        assert await close_code(opened) == 1009


@pytest.mark.parametrize("version", [3, 4])
async def test_messages_behind_one_that_waits_count_as_buffered(hub: Hub, version: int) -> None:
    """A client that does not read gets its next message handled later. Until then it waits, and is not parsed."""
    user = await hub.as_user()
    store = await hub.define()
    await user.make_all(store, [{"text": "x" * 900_000} for _ in range(3)])
    ask = f'421["subscribe",{{"store":"{store}","snapshot":true}}]'
    large = '422["unsubscribe",{"channel":[' + ",".join(["[]"] * (SIZE // 3)) + "]}]"
    async with AsyncExitStack() as stack:
        opened = [await joined(stack, hub, version, user) for _ in range(CLIENTS)]
        before = resident(hub.process.pid)
        for each in opened:
            each.transport.pause_reading()
            for text in (ask, large, large):
                sending = asyncio.create_task(each.send(text))
                stack.push_async_callback(end, sending)
        await eventually(lambda: reached(hub, "max_buffered_bytes"))
        await eventually(lambda: grown_less(hub, before + 350_000_000))
        for each in opened:
            each.transport.abort()


async def grown_less(hub: Hub, most: int) -> bool:
    return resident(hub.process.pid) < most
