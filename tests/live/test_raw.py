"""The documented wire protocol, frame by frame: mainly EIO=3 over a WebSocket, as old clients and mobile SDKs use
it."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.hub import PATIENCE, Client, Hub, StartHub
from tests.support.live import credentials, frame, live, socket_url, websocket

NO_FRAME = 0.1
"""Seconds without a frame that count as silence."""


async def test_a_documented_session(hub: Hub, user: Client, store: str) -> None:
    """The open packet, `40` without a request, `2` answered by `3` with the same data, a subscription with its events,
    and `41`, which ends the connection."""
    async with websocket(socket_url(hub.url, 3), additional_headers=credentials(user)) as socket:
        opened = await frame(socket)
        sid = json.loads(opened[1:])["sid"]
        assert opened == f'0{{"sid":"{sid}","upgrades":[],"pingInterval":25000,"pingTimeout":60000}}'
        assert await frame(socket) == "40"
        for ping, pong in (("2", "3"), ("2probe", "3probe"), ("2é😀", "3é😀")):
            await socket.send(ping)
            assert await frame(socket) == pong
        await socket.send(f'427["subscribe",{{"store":"{store}","snapshot":true}}]')
        answer = await frame(socket)
        assert answer.startswith("437[")
        [acknowledged] = json.loads(answer[3:])
        assert (acknowledged["ok"], acknowledged["entities"]) == (True, [])
        made = await user.make(store, name="é😀 مرحبا")
        event = await frame(socket)
        assert event.startswith('42["change",{"channel":"' + acknowledged["channel"] + '","op":"insert",')
        assert json.loads(event[2:])[1]["entity"] == made
        await socket.send("41")
        with pytest.raises(ConnectionClosed):
            await frame(socket)


async def test_the_open_packet_of_version_4(hub: Hub, user: Client) -> None:
    """It has exactly five members; `40` is sent only on request."""
    async with websocket(socket_url(hub.url, 4), additional_headers=credentials(user)) as socket:
        opened = json.loads((await frame(socket))[1:])
        assert {*opened} == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NO_FRAME):
                await socket.recv()
        await socket.send("40")
        assert (await frame(socket)).startswith('40{"sid":"')


@pytest.mark.parametrize(
    ("value", "text"), [('"\\ud83d"', "is not JSON"), ("1e400", "is not JSON"), ("99999999999999999999", "64 bits")]
)
async def test_values_that_rest_refuses_are_refused_by_an_acknowledgement(
    hub: Hub, user: Client, store: str, value: str, text: str
) -> None:
    """JavaScript's parser accepts half a surrogate pair and a number out of range. The connection stays open."""
    async with websocket(socket_url(hub.url, 3), additional_headers=credentials(user)) as socket:
        assert [(await frame(socket))[0], await frame(socket)] == ["0", "40"]
        await socket.send(f'421["subscribe",{{"store":"{store}","filter":{{"a":{value}}}}}]')
        [refusal] = json.loads((await frame(socket)).removeprefix("431"))
        assert (refusal["ok"], refusal["error"]["code"]) == (False, "400")
        assert text in json.dumps(refusal["error"]["errors"])
        await socket.send(f'422["subscribe",{{"store":"{store}"}}]')
        assert (await frame(socket)).startswith('432[{"ok":true,')


async def test_a_request_in_a_namespace_that_was_not_joined_is_not_carried_out(
    hub: Hub, user: Client, store: str
) -> None:
    async with websocket(socket_url(hub.url, 3), additional_headers=credentials(user)) as socket:
        assert [(await frame(socket))[0], await frame(socket)] == ["0", "40"]
        for packet in ("42/admin,1", "42/x?y=1,2", "423"):
            await socket.send(f'{packet}["subscribe",{{"store":"{store}"}}]')
        assert (await frame(socket)).startswith('433[{"ok":true,')


async def test_a_client_that_is_still_connecting_is_told_no_event(own_hub: StartHub) -> None:
    """At a shutdown a client without an answer to `40` receives no notice, because events come only after that answer.
    Connected clients receive it."""
    hub = await own_hub()
    async with (
        websocket(socket_url(hub.url, 4), additional_headers=credentials(hub.admin)) as early,
        live(hub, hub.admin) as connected,
    ):
        await frame(early)
        hub.process.process.send_signal(signal.SIGTERM)
        assert await connected.ending() == ["shutdown"]
        with pytest.raises(ConnectionClosed):
            await frame(early)


@pytest.mark.parametrize("version", [3, 4])
async def test_a_request_without_acknowledgement_is_served(hub: Hub, user: Client, store: str, version: int) -> None:
    """`42["subscribe",…]` without an id has no answer, but its events arrive."""
    async with websocket(socket_url(hub.url, version), additional_headers=credentials(user)) as socket:
        await frame(socket)
        if version == 4:
            await socket.send("40")
        await frame(socket)
        await socket.send(f'42["subscribe",{{"store":"{store}"}}]')
        await socket.send('421["unsubscribe",{"channel":"none"}]')
        assert (await frame(socket)).startswith("431[")
        made = await user.make(store)
        assert made["_id"] in await frame(socket)


@pytest.mark.parametrize("nonsense", ["9", "4", "42", "42{}", "42[]", '42["subscribe"', "4" + "[" * 5_000])
async def test_nonsense_closes_only_its_sender(hub: Hub, user: Client, store: str, nonsense: str) -> None:
    """It leaves no traceback in the log."""
    async with live(hub, user) as bystander:
        async with websocket(socket_url(hub.url, 3), additional_headers=credentials(user)) as socket:
            await frame(socket)
            await frame(socket)
            await socket.send(nonsense)
            with pytest.raises(ConnectionClosed):
                await frame(socket)
        assert (await bystander.subscribe(store))["ok"] is True
    assert "Traceback" not in hub.process.log


@pytest.fixture(scope="module")
async def hasty(sqlite_hub: StartHub) -> Hub:
    """A hub with short timeouts, which do not depend on the engine."""
    settings = {"live_ping_interval": 1, "live_ping_timeout": 1, "live_connect_timeout": 1}
    return await sqlite_hub(**settings)


@pytest.mark.engine("sqlite")
async def test_heartbeats_decide_who_is_there(hasty: Hub) -> None:
    """With EIO=3 a connection ends after interval and timeout without a packet, with EIO=4 after an unanswered ping.
    Clients that answer stay connected."""
    hub = hasty
    began = time.monotonic()
    async with (
        live(hub, hub.admin) as faithful,
        websocket(socket_url(hub.url, 3), additional_headers=credentials(hub.admin)) as silent3,
        websocket(socket_url(hub.url, 4), additional_headers=credentials(hub.admin)) as silent4,
        websocket(socket_url(hub.url, 3), additional_headers=credentials(hub.admin)) as pinging,
    ):
        assert json.loads((await frame(silent3))[1:])["pingInterval"] == 1_000
        assert await frame(silent3) == "40"
        await frame(silent4)
        await silent4.send("40")
        await frame(silent4)
        assert await frame(silent4) == "2"
        closing = asyncio.gather(silent3.wait_closed(), silent4.wait_closed())
        while not closing.done() and time.monotonic() - began < PATIENCE:
            await pinging.send("2")
            await asyncio.wait((closing,), timeout=0.3)
        await closing
        elapsed = time.monotonic() - began
        assert 1.9 < elapsed < 6
        assert faithful.packets.count("2") >= 1
        assert (await faithful.ask("unsubscribe", {"channel": "x"}))["error"]["code"] == "404"
        await pinging.send("2last")
        heard = [await frame(pinging)]
        while heard[-1] != "3last":
            heard.append(await frame(pinging))


@pytest.mark.engine("sqlite")
async def test_who_never_connects_is_dropped(hasty: Hub) -> None:
    """With EIO=4 the hub soon closes a connection without CONNECT or without valid credentials."""
    address = socket_url(hasty.url, 4)
    async with websocket(address) as silent, websocket(address) as refused:
        await frame(silent)
        await frame(refused)
        await refused.send("40")
        assert await frame(refused) == '44{"message":"Unauthorized"}'
        for socket in (silent, refused):
            async with asyncio.timeout(PATIENCE):
                await socket.wait_closed()
