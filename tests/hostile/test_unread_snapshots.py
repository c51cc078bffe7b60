"""Snapshots whose clients do not read them are bounded for each user and in all, whatever the transport."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from hub.http.errors import describe
from realtime.unread import UnreadLists
from stores.errors import TooManyLists, Unavailable
from stores.long_lists import ListSlot, LongLists
from tests.hostile.harness import resident
from tests.support.engines import Database
from tests.support.hub import PATIENCE, Client, Hub, eventually, running_hub
from tests.support.live import credentials, live, socket_url, websocket
from tests.support.standstill import no_standstill, read_metrics

MOST = 4
UNREAD = 120
LARGE = [{"text": "x" * 900_000} for _ in range(3)]
SMALL_BUFFER = 4_096
MEMORY = 150_000_000
"""Bytes for the lists of this test that are read or made; UNREAD lists take twice as many."""


@pytest.fixture
async def hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", max_long_lists_per_user=MOST) as hub:
        yield hub


async def small_socket(hub: Hub) -> socket.socket:
    """Return a connection that takes little from the hub while nobody reads it."""
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", hub.process.port))
    return made


def packet(store: str) -> str:
    return f'420["subscribe",{{"store":"{store}","snapshot":true}}]'


@asynccontextmanager
async def over_websocket(hub: Hub, user: Client, store: str, version: int) -> AsyncIterator[None]:
    """Ask for a snapshot and read nothing."""
    address, headers = socket_url(hub.url, version), credentials(user)
    sock = await small_socket(hub)
    async with websocket(address, sock=sock, additional_headers=headers, close_timeout=0) as opened:
        await opened.recv()
        if version == 4:
            await opened.send("40")
        await opened.recv()
        opened.transport.pause_reading()
        await opened.send(packet(store))
        try:
            yield
        finally:
            opened.transport.abort()


@asynccontextmanager
async def over_polling(hub: Hub, user: Client, store: str, version: int) -> AsyncIterator[None]:
    """Ask for a snapshot, and for its poll, and read nothing."""
    address = f"/socket.io/?EIO={version}&transport=polling"
    async with httpx.AsyncClient(base_url=hub.url, timeout=PATIENCE, headers=credentials(user)) as http:
        text = (await http.get(address)).text
        address += "&sid=" + text.split('"sid":"')[1].split('"')[0]
        if version == 4:
            assert (await http.post(address, content="40")).text == "ok"
        assert "40" in (await http.get(address)).text
        asked = packet(store)
        body = asked if version == 4 else f"{len(asked)}:{asked}"
        assert (await http.post(address, content=body)).text == "ok"
    with await small_socket(hub) as sock:
        lines = [f"GET {address} HTTP/1.1", "Host: hub", *(f"{k}: {v}" for k, v in credentials(user).items()), "", ""]
        await asyncio.get_running_loop().sock_sendall(sock, "\r\n".join(lines).encode())
        yield


Way = Callable[[Hub, Client, str, int], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    ("way", "version"),
    [
        (over_websocket, 4),
        pytest.param(over_polling, 3, marks=pytest.mark.full),
        pytest.param(over_websocket, 3, marks=pytest.mark.full),
        pytest.param(over_polling, 4, marks=pytest.mark.full),
    ],
)
async def test_unread_snapshots_of_one_user_are_refused_to_him_alone(hub: Hub, way: Way, version: int) -> None:
    """They count with his long lists until they are read or their connection has ended."""
    user, other = await hub.as_user(), await hub.as_user()
    store = await hub.define()
    for client in (user, other):
        await client.make_all(store, LARGE)
    before = resident(hub.process.pid)
    async with no_standstill(hub.url), AsyncExitStack() as stack, live(hub, user) as own, live(hub, other) as foreign:
        await asyncio.gather(*(stack.enter_async_context(way(hub, user, store, version)) for _ in range(UNREAD)))
        await eventually(lambda: is_refused(user, store))
        answer = await own.subscribe(store, snapshot=True)
        assert answer["error"]["code"] == "429"
        assert "HUB_MAX_LONG_LISTS_PER_USER" in str(answer["error"]["errors"])
        assert (await own.subscribe(store))["ok"]
        assert len((await foreign.watch(store)).view) == 3
        assert len(await other.list(store)) == 3
        await eventually(lambda: takes_less(hub, before + MEMORY))
    metrics = await read_metrics(hub.url)
    assert metrics.value("hub_limit_reached_total", limit="max_long_lists_per_user") >= 2
    await eventually(lambda: gets_a_snapshot(hub, user, store))


async def takes_less(hub: Hub, most: int) -> bool:
    return resident(hub.process.pid) < most


async def is_refused(user: Client, store: str) -> bool:
    return (await user.get(f"/{store}")).status_code == 429


async def gets_a_snapshot(hub: Hub, user: Client, store: str) -> bool:
    async with live(hub, user) as client:
        return bool((await client.subscribe(store, snapshot=True))["ok"])


CLOSE_FRAME = bytes((0x88, 0x80 | 2)) + bytes(4) + (1_000).to_bytes(2, "big")
BAD_FRAME = bytes((0x83, 0x80)) + bytes(4)
"""One with a reserved opcode."""


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize("last", [CLOSE_FRAME, BAD_FRAME, b""])
async def test_a_client_that_leaves_without_reading_is_cut(hub: Hub, last: bytes) -> None:
    """Whether it closes the WebSocket, violates the protocol or only ends its side of the connection."""
    store = await hub.define()
    await hub.admin.make_all(store, LARGE)
    async with AsyncExitStack() as stack:
        sock = await small_socket(hub)
        headers = credentials(hub.admin)
        opened = await stack.enter_async_context(
            websocket(socket_url(hub.url, 3), sock=sock, additional_headers=headers, close_timeout=0)
        )
        stack.callback(opened.transport.abort)
        await opened.recv()
        await opened.recv()
        before = await connections(hub)
        opened.transport.pause_reading()
        await opened.send(packet(store))
        await eventually(lambda: has_arrived(sock, 1_000))
        if last:
            opened.transport.write(last)
        else:
            opened.transport.write_eof()
        await eventually(lambda: has_fewer_connections(hub, before))


async def has_arrived(sock: socket.socket, size: int) -> bool:
    """Return whether so many bytes can be read."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder) >= size


async def connections(hub: Hub) -> float:
    return (await read_metrics(hub.url)).value("hub_connections")


async def has_fewer_connections(hub: Hub, than: float) -> bool:
    return await connections(hub) < than


async def test_snapshots_that_are_read_wait_for_each_other(hub: Hub) -> None:
    """Many clients of one user, such as after a restart, all get theirs."""
    user = await hub.as_user()
    store = await hub.define()
    await user.make_all(store, LARGE)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(live(hub, user)) for _ in range(3 * MOST)]
        views = await asyncio.gather(*(client.watch(store) for client in clients))
    assert [len(watch.view) for watch in views] == [3] * len(clients)


async def test_unread_lists_of_all_users_have_a_limit_in_bytes() -> None:
    """A list beyond it is refused, and leaves its bytes and its place to others. Short lists are not counted."""
    unread = UnreadLists(LongLists(1), 1_000)
    short, long, further = (unread.begin(user) for user in ("a", "a", "b"))
    short.grow(2_000)
    long.enter()
    long.grow(900)
    further.enter()
    with pytest.raises(Unavailable) as refusal:
        further.grow(200)
    assert "MOST_UNREAD_BYTES" in str(describe(refusal.value).errors)
    further.end()
    long.grow(100)
    long.end()
    assert unread.bytes == 0
    unread.begin("a").enter_at_once()


async def test_one_user_leaves_bytes_to_others() -> None:
    unread = UnreadLists(LongLists(2), 1_000, 500)
    first, second, other = (unread.begin(user) for user in ("a", "a", "b"))
    for each in (first, second, other):
        each.enter()
    first.grow(400)
    with pytest.raises(Unavailable) as refusal:
        second.grow(200)
    assert "MOST_UNREAD_BYTES_PER_USER" in str(describe(refusal.value).errors)
    second.end()
    other.grow(500)
    first.grow(100)
    for each in (first, other):
        each.end()
    assert unread.bytes == 0


async def entered(slot: ListSlot, patience: float) -> None:
    if (waiting := slot.enter(patience)) is not None:
        await waiting


async def test_a_place_goes_to_the_list_that_has_waited_longest() -> None:
    slots = LongLists(1)
    first, *others = (slots.slot("a") for _ in range(4))
    assert first.enter() is None
    with pytest.raises(TooManyLists):
        await entered(others[0], 0.001)
    waiting = [asyncio.create_task(entered(other, PATIENCE)) for other in others]
    await asyncio.sleep(0)
    waiting[0].cancel()
    first.leave()
    await waiting[1]
    assert [each.is_taken for each in (first, *others)] == [False, False, True, False]
    others[1].leave()
    await waiting[2]
    others[2].leave()
    assert first.enter() is None


@pytest.mark.parametrize("limit", ["MOST_STREAMS", "sqlite_log_mb"])
def test_a_refused_long_list_names_its_limit(limit: str) -> None:
    error = Unavailable("long lists").at(limit)
    assert limit.upper() in str(describe(error).errors["query"])
