"""Connections that have not joined, and messages from unauthenticated clients, take few resources and keep no other
client out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.hostile.harness import unharmed
from tests.support.engines import sqlite_database
from tests.support.hub import PATIENCE, Hub, running_hub
from tests.support.live import Refused, close_code, credentials, frame_head, live, socket_url, websocket
from tests.support.standstill import no_standstill, read_metrics

pytestmark = pytest.mark.engine("sqlite")  # connections do not depend on the engine

ELSEWHERE = "127.0.0.2"
"""An address that is not a trusted proxy."""
PER_ADDRESS = 20
IN_ALL = 200
HANDSHAKES = 1_000


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    settings = {"live_max_connections": IN_ALL // 2, "live_max_connections_per_address": PER_ADDRESS}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        yield hub


def polling(hub: Hub, address: str) -> httpx.AsyncClient:
    """Return a client that polls from this address."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=hub.url, transport=transport, timeout=PATIENCE, headers=credentials(hub.admin))


POLL = "/socket.io/?EIO=4&transport=polling"


async def handshake(http: httpx.AsyncClient) -> str:
    """Open a polling session; return its id, or an empty string if it is refused."""
    answer = await http.get(POLL)
    return answer.text.split('"')[3] if answer.status_code == 200 else ""


async def is_open(http: httpx.AsyncClient, sid: str) -> bool:
    return (await http.post(f"{POLL}&sid={sid}", content="3")).status_code == 200


async def open_connections(hub: Hub) -> int:
    return int((await read_metrics(hub.url)).value("hub_live_connections"))


@pytest.mark.alone
async def test_handshakes_of_one_address_keep_nobody_out(hub: Hub) -> None:
    """They use only the places of that address: its oldest connection that has not joined is closed to make room."""
    async with unharmed(hub), polling(hub, ELSEWHERE) as http:
        before = await open_connections(hub)
        sids = [await handshake(http) for _ in range(HANDSHAKES)]
        assert "" not in sids
        assert await open_connections(hub) == before + PER_ADDRESS
        assert not await is_open(http, sids[-PER_ADDRESS - 1])
        assert await is_open(http, sids[-PER_ADDRESS])
        async with live(hub, hub.admin, local_addr=(ELSEWHERE, 0)), live(hub, hub.admin):
            pass
    metrics = await read_metrics(hub.url)
    refused = metrics.value("hub_limit_reached_total", limit="live_max_connections_per_address")
    assert refused == HANDSHAKES - PER_ADDRESS + 1


async def test_who_has_joined_makes_room_for_nobody(hub: Hub) -> None:
    """Joined connections stay. Beyond the limit of an address further ones are refused, but those of other addresses
    and trusted proxies are accepted."""
    async with AsyncExitStack() as stack, polling(hub, ELSEWHERE) as http:
        joined = [
            await stack.enter_async_context(live(hub, hub.admin, local_addr=(ELSEWHERE, 0))) for _ in range(PER_ADDRESS)
        ]
        assert (await http.get(POLL)).json() == {"code": 4, "message": "Too many connections"}
        with pytest.raises(Refused):
            async with live(hub, hub.admin, local_addr=(ELSEWHERE, 0)):
                pass
        for address in ("127.0.0.1", "127.0.0.3"):
            async with live(hub, hub.admin, local_addr=(address, 0)):
                pass
        for client in joined:
            assert (await client.ask("unsubscribe", {"channel": "x"}))["error"]["code"] == "404"
        async with polling(hub, "127.0.0.1") as proxied:
            for header in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1"):  # one network of 64 bits
                for _ in range(PER_ADDRESS):
                    proxied.headers["X-Forwarded-For"] = header
                    assert await handshake(proxied)
        assert await open_connections(hub) == 2 * PER_ADDRESS


async def test_all_places_taken_by_those_who_do_not_join(hub: Hub) -> None:
    """The oldest of them is closed to make room, whatever its address."""
    async with polling(hub, "127.0.0.1") as http:
        sids = [await handshake(http) for _ in range(IN_ALL)]
        assert await open_connections(hub) == IN_ALL
        async with live(hub, hub.admin, local_addr=(ELSEWHERE, 0)):
            assert await open_connections(hub) == IN_ALL
            assert not await is_open(http, sids[0])
            assert await is_open(http, sids[1])


async def test_where_nobody_more_can_join_a_client_is_told_and_closed(tmp_path: Path) -> None:
    settings = {"live_max_connections": 1}
    async with (
        running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub,
        live(hub, hub.admin),
        websocket(socket_url(hub.url, 4), additional_headers=credentials(hub.admin)) as socket,
    ):
        await socket.recv()
        await socket.send("40")
        assert await socket.recv() == '44{"message":"Too many connections"}'
        assert await close_code(socket) == 1013


async def unfinished(socket: ClientConnection) -> None:
    socket.transport.write(frame_head(0x81, 900_000) + b"4" * 800_000)


async def fragmented(socket: ClientConnection) -> None:
    piece = bytes((0x00, 0x80 | 126)) + (8_000).to_bytes(2, "big") + bytes(4) + b"4" * 8_000
    socket.transport.write(bytes((0x01, 0x80 | 1)) + bytes(4) + b"4" + piece * 3)


async def whole(socket: ClientConnection) -> None:
    await socket.send("4" * 20_000)


async def attached(socket: ClientConnection) -> None:
    await socket.send('451-["subscribe",{"_placeholder":true,"num":0}]')


@pytest.mark.parametrize(("send", "code"), [(unfinished, 1009), (fragmented, 1009), (whole, 1009), (attached, 1002)])
async def test_before_joining_messages_are_small(
    hub: Hub, send: Callable[[ClientConnection], Awaitable[None]], code: int
) -> None:
    """A larger message is refused as soon as the head of its frame arrives, even if the frame never ends."""
    async with websocket(socket_url(hub.url, 4)) as socket:
        await socket.recv()
        await send(socket)
        assert await close_code(socket) == code


async def test_before_joining_posts_are_small_and_after_it_they_need_not_be(hub: Hub) -> None:
    async with polling(hub, "127.0.0.1") as http:
        address = f"{POLL}&sid={await handshake(http)}"
        large = '421["unsubscribe",{"channel":"' + "x" * 500_000 + '"}]'
        assert (await http.post(address, content=large)).status_code == 413
        assert (await http.post(address, content="40")).text == "ok"
        await http.get(address)
        assert (await http.post(address, content=large)).text == "ok"
        assert (await http.get(address)).text.startswith("431[")
    async with live(hub, hub.admin) as client:
        answer = await client.ask("unsubscribe", {"channel": "x" * 500_000})
        assert answer["error"]["code"] == "404"


@pytest.mark.parametrize("packet", ["3", "6", '42["unknown"]'])
async def test_very_many_packets_in_one_post_are_taken_in_turns(hub: Hub, packet: str) -> None:
    async with polling(hub, "127.0.0.1") as http:
        address = f"{POLL}&sid={await handshake(http)}"
        assert (await http.post(address, content="40")).text == "ok"
        await http.get(address)
        async with no_standstill(hub.url):
            many = "\x1e".join([packet] * (990_000 // (len(packet) + 1)))
            assert (await http.post(address, content=many)).text == "ok"
        assert await is_open(http, address.rpartition("=")[2])


async def test_many_tiny_fragments_take_no_more_than_their_message(hub: Hub) -> None:
    async with websocket(socket_url(hub.url, 4), additional_headers=credentials(hub.admin)) as socket:
        await socket.recv()
        await socket.send("40")
        await socket.recv()
        socket.transport.write(bytes((0x01, 0x80)) + bytes(4))
        for _ in range(20):
            socket.transport.write((bytes((0x00, 0x80)) + bytes(4)) * 10_000)
            await asyncio.sleep(0)
        text = b'421["unsubscribe",{"channel":"x"}]'
        socket.transport.write(bytes((0x80, 0x80 | len(text))) + bytes(4) + text)
        async with asyncio.timeout(PATIENCE):
            answer = ""
            while not answer.startswith("431["):
                answer = str(await socket.recv())
