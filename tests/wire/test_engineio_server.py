"""Sessions, polling and malformed packets of the Engine.IO server, over real connections."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from realtime.engineio import CloseReason
from tests.wire.echoing import echo, first
from tests.wire.serving import PATIENCE, WAYS, eventually, read, until_closed

BOTH_WAYS = pytest.mark.parametrize("way", WAYS)
BOTH_VERSIONS = pytest.mark.parametrize("version", [3, 4])


# Sessions


@BOTH_WAYS
async def test_a_session_of_version_3_over_a_websocket(way: str) -> None:
    async with echo(way) as (served, _, _), served.websocket(3) as websocket:
        (opened,) = await read(websocket)
        assert isinstance(opened, str)
        data = json.loads(opened[1:])
        assert len(data.pop("sid")) == 20
        assert data == {"upgrades": [], "pingInterval": 25_000, "pingTimeout": 60_000}
        for sent, answer in (("2", "3"), ("2probe", "3probe"), ("4é€😀", "4é€😀"), (b"\x04\x01\x02", b"\x04\x01\x02")):
            await websocket.send(sent)
            assert await read(websocket) == [answer]


@BOTH_WAYS
async def test_a_session_of_version_4_over_a_websocket(way: str) -> None:
    async with echo(way, ping_interval=50) as (served, heard, _), served.websocket(4) as websocket:
        assert len(json.loads((await read(websocket))[0][1:])) == 5
        assert await read(websocket) == ["2"]
        for sent in ("3", "4é€😀", b"\x01\x02"):
            await websocket.send(sent)
        assert [m for m in await read(websocket, 3) if m != "2"][:2] == ["4é€😀", b"\x01\x02"]
        assert (await first(heard)).remote == "127.0.0.1"


@BOTH_WAYS
@BOTH_VERSIONS
async def test_a_silent_client_is_dropped_after_interval_and_timeout(way: str, version: int) -> None:
    started = asyncio.get_running_loop().time()
    async with echo(way, ping_interval=100, ping_timeout=100) as (served, heard, server):
        async with served.websocket(version) as websocket:
            messages, reason = await until_closed(websocket)
        assert 0.19 <= asyncio.get_running_loop().time() - started < 2
        assert (messages[1:], reason) == ([] if version == 3 else ["2"], "ping timeout")
        assert heard.gone == [CloseReason.PING_TIMEOUT]
        assert server.connections == {}


async def test_a_silent_client_that_polls_is_forgotten() -> None:
    async with echo(ping_interval=20, ping_timeout=20) as (served, heard, server):
        await served.open(4)
        await eventually(lambda: heard.gone)
        assert (heard.gone, server.connections) == ([CloseReason.PING_TIMEOUT], {})


# Polling


@BOTH_VERSIONS
async def test_polling_waits_for_messages(version: int) -> None:
    async with echo() as (served, heard, _):
        sid = await served.open(version)
        poll = asyncio.create_task(served.get(version, sid))
        await eventually(lambda: heard.connections and heard.connections[0].polling)
        heard.connections[0].send("é€😀")
        response = await poll
        assert response.text == ("5:4é€😀" if version == 3 else "4é€😀")
        assert response.headers["content-type"] == "text/plain; charset=UTF-8"
        assert response.headers["cache-control"] == "no-store"


async def test_a_post_may_bring_any_number_of_packets() -> None:
    async with echo() as (served, heard, _):
        sid = await served.open(4)
        assert (await served.post(4, sid, "\x1e".join(f"4{n}" for n in range(500)))).text == "ok"
        assert heard.messages == [str(n) for n in range(500)]


async def test_a_post_beyond_the_bound_is_too_large_and_the_session_lives() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"4" * 10

    async with echo(max_payload=100) as (served, heard, _):
        sid = await served.open(4)
        assert (await served.post(4, sid, "4" * 101)).status_code == 413
        query = served.query(EIO=4, transport="polling", sid=sid)
        assert (await served.http.post(query, content=chunks())).status_code == 413
        assert (await served.post(4, sid, "4x")).status_code == 200
        assert heard.messages == ["x"]


@pytest.mark.parametrize("method", [pytest.param("GET", marks=pytest.mark.full), "POST"])
async def test_a_body_that_does_not_arrive_is_not_waited_for(method: str) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(PATIENCE)
        yield b""

    async with echo(body_timeout=100) as (served, heard, _):
        query = served.query(EIO=4, transport="polling", sid=await served.open(4))
        answer = await served.http.request(method, query, content=nothing())
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
        assert heard.gone == ([CloseReason.TRANSPORT_ERROR] if method == "POST" else [])


@BOTH_VERSIONS
async def test_connections_have_a_bound(version: int) -> None:
    """A client beyond it is refused, with any transport, until another client leaves."""
    async with echo(max_connections=2) as (served, _, server):
        await served.open(version)
        async with served.websocket(version):
            answer = await served.get(version)
            assert (answer.status_code, answer.json()["message"]) == (403, "Too many connections")
            with pytest.raises(InvalidStatus):
                await served.websocket(version).__aenter__()
        await eventually(lambda: len(server.connections) == 1)
        await served.open(version)


async def test_octets_and_jsonp_of_version_3() -> None:
    async with echo() as (served, heard, _):
        sid = await served.open(3)
        kind = {"content-type": "application/octet-stream"}
        assert (await served.post(3, sid, b"\x01\x03\xff\x04\x01\x02", kind)).text == "ok"
        assert (await served.get(3, sid)).content == b"\x01\x03\xff\x04\x01\x02"
        opened = await served.get(3, j="7")
        assert opened.headers["content-type"] == "text/javascript; charset=UTF-8"
        script = json.loads(opened.text.removeprefix("___eio[7](").removesuffix(");"))
        sid = json.loads(script[script.index("{") :])["sid"]
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await served.post(3, sid, "d=4%3A4a%5Cnb", form, j="7")).text == "ok"
        assert (await served.get(3, sid, j="7")).text == '___eio[7]("4:4a\\nb");'
        assert heard.messages == [b"\x01\x02", "a\nb"]


@pytest.mark.parametrize(
    ("fields", "method", "status", "code"),
    [
        ({"EIO": 4}, "GET", 400, 0),
        ({"EIO": 4, "transport": "polling", "sid": "unknown"}, "GET", 400, 1),
        ({"EIO": 4, "transport": "polling"}, "PUT", 400, 2),
        ({"EIO": 4, "transport": "websocket"}, "GET", 400, 3),
        ({"EIO": 4, "transport": "polling"}, "OPTIONS", 204, None),
        ({"transport": "polling"}, "GET", 400, 5),
    ],
)
async def test_wrong_requests_are_answered_with_their_code(
    fields: dict[str, Any], method: str, status: int, code: int | None
) -> None:
    async with echo() as (served, _, _):
        response = await served.http.request(method, served.query(**fields))
        assert response.status_code == status
        assert code is None or response.json()["code"] == code


async def test_a_session_keeps_its_version() -> None:
    async with echo() as (served, _, _):
        assert (await served.get(3, await served.open(4))).json()["code"] == 3


async def test_pages_of_other_origins_are_refused_and_allowed_ones_may_read() -> None:
    origin = {"origin": "https://app.example"}
    async with echo() as (served, _, _):
        response = await served.http.get(served.query(EIO=4, transport="polling"), headers=origin)
        assert (response.status_code, response.json()["code"]) == (403, 4)
        with pytest.raises(InvalidStatus, match="403"):
            async with served.websocket(4, additional_headers=origin):
                pass
    async with echo(cors_origins=("https://app.example",)) as (served, _, _):
        response = await served.http.get(served.query(EIO=4, transport="polling"), headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        async with served.websocket(4, additional_headers=origin) as websocket:
            await read(websocket)


async def test_two_posts_at_once_end_the_session() -> None:
    release = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"4"
        await release.wait()
        yield b"x"

    async with echo() as (served, heard, server):
        sid = await served.open(4)
        query = served.query(EIO=4, transport="polling", sid=sid)
        slow = asyncio.create_task(served.http.post(query, content=slowly()))
        await eventually(lambda: server.connections[sid].posting)
        assert (await served.post(4, sid, "4x")).json()["code"] == 3
        assert (await served.get(4, sid)).json()["code"] == 1
        release.set()
        await slow
        assert heard.gone == [CloseReason.TRANSPORT_ERROR]


@BOTH_VERSIONS
async def test_two_polls_at_once_end_the_session(version: int) -> None:
    async with echo() as (served, heard, _):
        sid = await served.open(version)
        poll = asyncio.create_task(served.get(version, sid))
        await eventually(lambda: heard.connections and heard.connections[0].polling)
        assert (await served.get(version, sid)).json()["code"] == 3
        assert (await poll).text == ("1:1" if version == 3 else "1")
        assert (await served.get(version, sid)).json()["code"] == 1


async def test_an_aborted_poll_ends_the_session() -> None:
    async with echo() as (served, heard, server):
        sid = await served.open(4)
        async with httpx.AsyncClient(base_url=served.http.base_url, verify=False) as other:
            poll = asyncio.create_task(other.get(served.query(EIO=4, transport="polling", sid=sid)))
            await eventually(lambda: heard.connections and heard.connections[0].polling)
            poll.cancel()
        await eventually(lambda: heard.gone)
        assert (heard.gone, server.connections) == ([CloseReason.TRANSPORT_ERROR], {})


@pytest.mark.parametrize("turns", range(5))
async def test_a_message_while_a_poll_is_aborted_harms_nobody(turns: int) -> None:
    """This holds in every turn of the event loop between the end of the request and the end of the session."""
    async with echo() as (served, heard, server):
        sid = await served.open(4)
        events = asyncio.Queue[dict[str, Any]]()
        answers: list[Any] = []

        async def answered(event: Any) -> None:
            answers.append(event)

        query = served.query(EIO=4, transport="polling", sid=sid).partition("?")[2].encode()
        scope = {"type": "http", "method": "GET", "path": served.path, "query_string": query, "headers": []}
        poll = asyncio.create_task(server(scope, events.get, answered))
        events.put_nowait({"type": "http.request"})
        await eventually(lambda: heard.connections[0].polling)
        events.put_nowait({"type": "http.disconnect"})
        for _ in range(turns):
            await asyncio.sleep(0)
        heard.connections[0].send("late")
        await poll
        outcome = answers[1]["body"], heard.gone, len(server.connections)
        delivered, lost = (b"4late", [], 1), (b"", [CloseReason.TRANSPORT_ERROR], 0)
        assert outcome in ([delivered] if turns == 0 else [lost] if turns == 4 else [delivered, lost])


@BOTH_VERSIONS
async def test_a_poll_is_told_that_the_server_closes(version: int) -> None:
    async with echo() as (served, heard, server):
        sid = await served.open(version)
        heard.connections[0].send("last")
        heard.connections[0].close()
        assert heard.gone == [CloseReason.SERVER_DISCONNECT]
        assert (await served.post(version, sid, "4:4too" if version == 3 else "4too")).text == "ok"
        assert (await served.get(version, sid)).text == ("5:4last" if version == 3 else "4last")
        heard.connections[0].send("late")
        assert (await served.post(version, sid, "4:4too" if version == 3 else "4too")).text == "ok"
        assert (await served.get(version, sid)).text == ("1:1" if version == 3 else "1")
        assert (await served.get(version, sid)).json()["code"] == 1
        assert (await served.post(version, sid, "4:4too" if version == 3 else "4too")).json()["code"] == 1
        assert (heard.messages, server.connections) == ([], {})


@BOTH_VERSIONS
@pytest.mark.parametrize("polls", [0, 1])
async def test_who_does_not_poll_again_after_the_servers_close_is_forgotten(version: int, polls: int) -> None:
    async with echo(ping_interval=300, ping_timeout=200) as (served, heard, server):
        sid = await served.open(version)
        heard.connections[0].send("last")
        heard.connections[0].close()
        for _ in range(polls):
            await served.get(version, sid)
        assert server.connections
        await eventually(lambda: not server.connections)


async def test_a_shutdown_does_not_wait_for_the_poll_of_a_client_that_was_closed() -> None:
    async with echo(farewell=lambda connection, reason: f"4{reason}") as (served, heard, server):
        sid = await served.open(4)
        heard.connections[0].close(CloseReason.REVOKED)
        assert (await served.get(4, sid)).text == "4revoked"
        await server.shutdown()
        assert (heard.gone, server.connections) == ([CloseReason.REVOKED], {})


# Malformed


@pytest.mark.parametrize(("version", "body"), [(3, "abc"), (3, "5:4"), (4, "abc"), (4, "4a\x1e"), (4, b"4\xff")])
async def test_a_malformed_post_ends_the_session_quietly(
    version: int, body: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo() as (served, heard, server):
        sid = await served.open(version)
        assert (await served.post(version, sid, body)).json()["code"] == 3
        assert (await served.get(version, sid)).json()["code"] == 1
        assert (heard.gone, server.connections) == ([CloseReason.PARSE_ERROR], {})
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@BOTH_WAYS
@pytest.mark.parametrize(("version", "frame"), [(3, "abc"), (3, b"\x09"), (3, ""), (4, "abc"), (4, "2"), (3, "3")])
async def test_a_malformed_frame_closes_quietly(
    way: str, version: int, frame: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with echo(way) as (served, heard, _), served.websocket(version) as websocket:
        await websocket.send(frame)
        assert (await until_closed(websocket))[1] == "parse error"
        assert heard.gone == [CloseReason.PARSE_ERROR]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@BOTH_WAYS
@pytest.mark.parametrize("text", ["4" * 101, "4" + "é" * 50, "4" + "😀" * 25], ids=["ascii", "two bytes", "four bytes"])
async def test_a_frame_beyond_the_bound_closes(way: str, text: str) -> None:
    """The bound is in bytes, whatever the characters."""
    async with echo(way, max_payload=100) as (served, heard, _), served.websocket(4) as websocket:
        await websocket.send(text[:-1])
        assert (await read(websocket, 2))[1] == text[:-1]
        await websocket.send(text)
        reasons = {"access": "frame with 101 bytes exceeds limit of 100 bytes", "plain": "too large"}
        assert (await until_closed(websocket))[1] == reasons[way]  # the hub's protocol refuses by the frame's head
        await eventually(lambda: heard.gone == [CloseReason.TOO_LARGE])
        assert heard.messages == [text[1:-1]]
