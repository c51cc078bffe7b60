"""Socket.IO over real connections: both protocols on one endpoint, and the ends of connections."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol

from realtime.engineio import build_text_frame
from realtime.socketio import SocketIOServer
from tests.wire.serving import Served, eventually, read, serving, until_closed

BOTH_VERSIONS = pytest.mark.parametrize("version", [3, 4])


@asynccontextmanager
async def hub(**settings: Any) -> AsyncIterator[tuple[Served, SocketIOServer, list[Any]]]:
    """Run a server with the namespaces `/` and `/admin`, which accepts only the token `good`; yield it with its
    handlers' events."""
    heard: list[Any] = []
    server = SocketIOServer(**settings)

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        heard.append(("connect", sid, environ["REMOTE_ADDR"], auth))

    async def admin(sid: str, environ: Any, auth: Any) -> None:
        if (auth or {}).get("token") != "good":
            raise socketio.exceptions.ConnectionRefusedError("not you")

    async def echo(sid: str, *data: Any) -> tuple[Any, ...]:
        await server.emit("echo", data, to=sid)
        return data

    async def disconnect(sid: str, reason: str) -> None:
        heard.append(("disconnect", sid, reason))

    async def fail(sid: str) -> None:
        raise RuntimeError("on purpose")

    for event, handler in (("connect", connect), ("echo", echo), ("disconnect", disconnect), ("fail", fail)):
        server.on(event, handler)
    server.on("connect", admin, namespace="/admin")
    async with serving(server.eio, "/socket.io/") as served:
        yield served, server, heard


@asynccontextmanager
async def client(served: Served, version: int, **options: Any) -> AsyncIterator[tuple[ClientConnection, str]]:
    """Connect a client to `/`; yield it with the id of its Engine.IO session."""
    async with served.websocket(version, **options) as websocket:
        (opened,) = await read(websocket)
        if version == 4:
            await websocket.send("40")
        (answer,) = await read(websocket)
        assert str(answer).startswith("40")
        yield websocket, json.loads(opened[1:])["sid"]


async def asked(websocket: ClientConnection, *sent: str | bytes) -> str | bytes:
    for message in sent:
        await websocket.send(message)
    return (await read(websocket))[0]


async def test_protocol_4_connects_unasked_and_its_id_is_the_engines() -> None:
    async with hub() as (served, _, heard), client(served, 3) as (_, sid):
        assert heard == [("connect", sid, "127.0.0.1", None)]


async def test_protocol_4_connects_to_a_namespace_with_a_query() -> None:
    async with hub() as (served, server, _), client(served, 3) as (websocket, sid):
        assert await asked(websocket, "40/admin?token=good,") == "40/admin,"
        assert server.manager.eio_sid_from_sid(f"/admin#{sid}", "/admin") == sid
        assert await asked(websocket, "40", '42["echo"]') == '42["echo"]'


async def test_protocol_5_answers_with_an_id_of_its_own_and_nothing_else() -> None:
    async with hub() as (served, _, _), served.websocket(4) as websocket:
        (opened,) = await read(websocket)
        answer = await asked(websocket, '40{"token":"x"}')
        data = json.loads(str(answer)[2:])
        assert list(data) == ["sid"]
        assert data["sid"] not in str(opened)


@pytest.mark.parametrize(("version", "refusal"), [(3, '44/{0},"{1}"'), (4, '44/{0},{{"message":"{1}"}}')])
async def test_refusals_have_the_shape_of_the_protocol(version: int, refusal: str) -> None:
    async with hub() as (served, _, _), client(served, version) as (websocket, _):
        assert await asked(websocket, "40/admin,") == refusal.format("admin", "not you")
        assert await asked(websocket, "40/random,") == refusal.format("random", "Invalid namespace")


async def test_a_refusal_may_carry_data_in_protocol_5() -> None:
    async with hub() as (served, server, _):

        async def refuse(sid: str, environ: Any, auth: Any) -> None:
            raise socketio.exceptions.ConnectionRefusedError("no", {"code": 1})

        server.on("connect", refuse)
        async with served.websocket(4) as websocket:
            await read(websocket)
            assert await asked(websocket, "40") == '44{"message":"no","data":{"code":1}}'
        async with served.websocket(3) as websocket:
            assert (await read(websocket, 2))[1] == '44"no"'


@BOTH_VERSIONS
async def test_events_acknowledgements_and_attachments(version: int) -> None:
    part = b"\x04\x01" if version == 3 else b"\x01"
    async with hub() as (served, _, _), client(served, version) as (websocket, _):
        await websocket.send('427["echo","é€😀",{"a":[1,null]}]')
        assert await read(websocket, 2) == ['42["echo","é€😀",{"a":[1,null]}]', '437["é€😀",{"a":[1,null]}]']
        await websocket.send('451-8["echo",{"_placeholder":true,"num":0}]')
        await websocket.send(part)
        placeholder = '{"_placeholder":true,"num":0}'
        assert await read(websocket, 4) == [f'451-["echo",{placeholder}]', part, f"461-8[{placeholder}]", part]


@BOTH_VERSIONS
async def test_the_server_may_ask_for_an_acknowledgement(version: int) -> None:
    answers: list[Any] = []
    async with hub() as (served, server, heard), client(served, version) as (websocket, _):
        await server.emit("question", to=heard[0][1], callback=lambda *data: answers.append(data))
        assert await read(websocket) == ['421["question"]']
        for acknowledgement in ('430["zero is nobody\'s"]', '439["unknown"]', "431[1,2]"):
            await websocket.send(acknowledgement)
        await eventually(lambda: answers == [(1, 2)])


async def test_one_frame_goes_to_clients_of_both_protocols_and_all_transports() -> None:
    async with hub() as (served, server, _), client(served, 3) as (old, _), client(served, 4) as (new, _):
        sid = await served.open(3)
        text = '42["change",{"name":"é"}]'
        for connection in server.eio.connections.values():
            connection.write_frame(build_text_frame(text), text)
        assert await read(old) == await read(new) == [text]
        assert (await served.get(3, sid)).text == '2:4030:42["change",{"name":"\\u00e9"}]'


async def test_the_connection_of_a_client() -> None:
    async with hub() as (served, server, heard), client(served, 4) as (_, eio_sid):
        connection = server.connection(heard[0][1])
        assert connection is not None
        assert (connection.sid, connection.version, connection.transport) == (eio_sid, 4, "websocket")
        assert server.connection("unknown") is None
        async with server.session(heard[0][1]) as session:
            session["user"] = 1
        assert await server.get_session(heard[0][1]) == {"user": 1}
        assert server.transport(heard[0][1]) == "websocket"
        assert server.get_environ(heard[0][1])["QUERY_STRING"] == "EIO=4&transport=websocket"
        assert "HTTP_HOST" in server.get_environ(heard[0][1])


@BOTH_VERSIONS
async def test_a_double_encoded_text_of_client_1_is_read_when_it_polls(version: int) -> None:
    twice = '42["echo","é"]'.encode().decode("latin-1") if version == 3 else '42["echo","é"]'
    async with hub() as (served, _, _):
        sid = await served.open(version)
        body = f"{len(twice)}:{twice}" if version == 3 else f"40\x1e{twice}"
        assert (await served.post(version, sid, body)).text == "ok"
        await eventually_text(served, version, sid, "\\u00e9" if version == 3 else "é")


async def eventually_text(served: Served, version: int, sid: str, text: str) -> None:
    for _ in range(3):
        if text in (await served.get(version, sid)).text:
            return
    raise AssertionError(f"{text} never came")


# Ends


@pytest.mark.parametrize(
    "packet",
    ["4abc", "42{}", "42[]", '42["connect"]', '42["disconnect"]', "42abc[1]", "43[1]", '44"x"', "47", "4", "40[]"],
)
@BOTH_VERSIONS
async def test_nonsense_closes_quietly(version: int, packet: str, caplog: pytest.LogCaptureFixture) -> None:
    async with hub() as (served, _, heard), client(served, version) as (websocket, _):
        await websocket.send(packet)
        assert (await until_closed(websocket))[1] == "parse error"
        await eventually(lambda: heard[-1][::2] == ("disconnect", "parse error"))
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "sent", [(b"\x04",), ('451-["x"]', '42["x"]'), ('451-["x",{"_placeholder":true,"num":3}]', b"\x04")]
)
async def test_attachments_that_do_not_fit_close(sent: tuple[str | bytes, ...]) -> None:
    async with hub() as (served, _, _), client(served, 3) as (websocket, _):
        for message in sent:
            await websocket.send(message)
        assert (await until_closed(websocket))[1] == "parse error"


async def test_attachments_are_bounded_together() -> None:
    async with hub(max_payload=1000) as (served, _, _), client(served, 4) as (websocket, _):
        await websocket.send('459-["x"]')
        for _ in range(3):
            await websocket.send(bytes(600))
        assert (await until_closed(websocket))[1] == "too large"


@pytest.mark.parametrize("packet", ['42["echo"]', "431[]", "41"])
async def test_a_packet_before_connect_closes(packet: str) -> None:
    async with hub() as (served, _, _), served.websocket(4) as websocket:
        await websocket.send(packet)
        assert (await until_closed(websocket))[1] == "not connected"


async def test_a_packet_for_a_namespace_that_was_not_joined_is_not_carried_out() -> None:
    """The connection is closed in protocol 5. In protocol 4 the packet is ignored, as in Socket.IO 2."""
    async with hub() as (served, _, _), client(served, 4) as (websocket, _):
        await websocket.send('42/elsewhere,1["echo","x"]')
        assert (await until_closed(websocket))[1] == "not connected"
    async with hub() as (served, _, _), client(served, 3) as (websocket, _):
        assert await asked(websocket, '42/elsewhere,1["echo","x"]', '42["echo","y"]') == '42["echo","y"]'


async def test_a_client_that_never_connects_is_closed_though_it_answers_pings() -> None:
    async with hub(connect_timeout=150, ping_interval=40) as (served, _, heard), served.websocket(4) as websocket:

        async def answer() -> None:
            async for message in websocket:
                if message == "2":
                    await websocket.send("3")

        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(answer(), 5)
        assert (websocket.close_reason, heard) == ("not connected", [])


@BOTH_VERSIONS
async def test_a_refused_client_is_closed_after_a_while(version: int) -> None:
    async with hub(connect_timeout=100, namespaces=["/nothing"]) as (served, server, _):
        server.handlers.clear()
        async with served.websocket(version) as websocket:
            await read(websocket)
            if version == 4:
                await websocket.send("40")
            messages, reason = await until_closed(websocket)
        assert (str(messages[0])[:2], reason) == ("44", "not connected")
        assert (server.environ, server.eio.connections) == ({}, {})


async def test_a_client_that_left_its_last_namespace_is_closed_after_a_while() -> None:
    async with hub(connect_timeout=100) as (served, _, heard), client(served, 4) as (websocket, _):
        await websocket.send("41")
        assert (await until_closed(websocket))[1] == "not connected"
        assert [what[0] for what in heard] == ["connect", "disconnect"]


async def test_leaving_the_main_namespace_ends_a_connection_of_protocol_4() -> None:
    async with hub() as (served, _, heard), client(served, 3) as (websocket, sid):
        await websocket.send("41")
        assert (await until_closed(websocket))[1] == "client disconnect"
        assert heard[1:] == [("disconnect", sid, "client disconnect")]


@BOTH_VERSIONS
async def test_the_server_may_disconnect(version: int) -> None:
    async with hub() as (served, server, heard), client(served, version) as (websocket, _):
        await server.disconnect(heard[0][1])
        assert await read(websocket) == ["41"]
        assert heard[1][::2] == ("disconnect", "server disconnect")


async def test_a_handler_that_fails_is_logged_and_the_client_stays(caplog: pytest.LogCaptureFixture) -> None:
    async with hub() as (served, _, _), client(served, 4) as (websocket, _):
        assert await asked(websocket, '42["fail"]', '42["echo",1]') == '42["echo",1]'
    assert "on purpose" in caplog.text


async def test_a_connect_handler_that_fails_refuses_and_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with hub() as (served, server, _):

        async def fail(sid: str, environ: Any, auth: Any) -> None:
            raise RuntimeError("on purpose")

        server.on("connect", fail)
        async with served.websocket(4) as websocket:
            await read(websocket)
            assert await asked(websocket, "40") == '44{"message":"Internal error"}'
            assert server.manager.rooms == {}
    assert "on purpose" in caplog.text


@BOTH_VERSIONS
async def test_what_was_cut_off_does_not_wait_for_the_garbage_collector(version: int) -> None:
    """Otherwise a high rate of connections would fill the memory between two garbage collections."""
    gc.collect()
    gc.disable()
    try:
        async with hub() as (served, server, _):
            before = protocols()
            for _ in range(5):
                async with client(served, version) as (websocket, _):
                    websocket.transport.abort()
                await eventually(lambda: not server.eio.connections)
            await eventually(lambda: protocols() == before)
    finally:
        gc.enable()


def protocols() -> int:
    """Return the number of the server's WebSocket protocols in memory."""
    return sum(type(each) is ServerProtocol for each in gc.get_objects())


@BOTH_VERSIONS
async def test_nothing_is_kept_of_a_client_that_has_gone(version: int) -> None:
    async with hub() as (served, server, heard):
        async with client(served, version) as (websocket, _):
            await asked(websocket, "40/random", '451-["x",{"_placeholder":true,"num":0}]')
        await eventually(lambda: len(heard) == 2)
        kept = (server.environ, server.eio.connections, server.manager.rooms, server._binary_packet)
        assert kept == ({}, {}, {}, {})
        assert (server.manager.pending_connect, server.manager.callbacks) == ({}, {})
        assert server.manager._rooms_of == {}
