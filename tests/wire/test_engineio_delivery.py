"""Upgrades, shared frames, slow clients and the application's side of the Engine.IO server, over real connections."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, nullcontext
from math import inf
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime.engineio import CloseReason, Connection, EngineIOServer, build_text_frame
from realtime.engineio import server as server_module
from realtime.engineio.client_output import MOST_CORKED_BYTES
from realtime.engineio.inbox import Inbox
from realtime.engineio.packets import MESSAGE, Packet
from realtime.engineio.waiting_output import SMALL_OUTPUT, WaitingOutput
from tests.wire.echoing import Log, echo, first
from tests.wire.serving import WAYS, eventually, read, serving, soon, until_closed

BOTH_WAYS = pytest.mark.parametrize("way", WAYS)
BOTH_VERSIONS = pytest.mark.parametrize("version", [3, 4])


# Upgrade


async def probed(websocket: ClientConnection) -> None:
    await websocket.send("2probe")
    assert await read(websocket) == ["3probe"]


@BOTH_WAYS
@BOTH_VERSIONS
async def test_an_upgrade_loses_nothing_and_keeps_the_order(way: str, version: int) -> None:
    async with echo(way) as (served, heard, _):
        sid = await served.open(version)
        poll = asyncio.create_task(served.get(version, sid))
        await eventually(lambda: heard.connections[0].polling)
        async with served.websocket(version, sid) as websocket:
            await probed(websocket)
            assert (await poll).text == ("1:6" if version == 3 else "6")
            heard.connections[0].send("held 1")
            heard.connections[0].write_frame(build_text_frame("4held 2"), "4held 2")
            assert (await served.get(version, sid)).text == ("1:6" if version == 3 else "6")
            await websocket.send("5")
            await websocket.send("4after")
            assert await read(websocket, 3) == ["4held 1", "4held 2", "4after"]
            assert (heard.connections[0].transport, heard.gone) == ("websocket", [])
            assert (await served.get(version, sid)).json()["code"] == 3
            async with served.websocket(version, sid) as second:
                assert (await until_closed(second))[0] == []
            await websocket.send("4still")
            assert await read(websocket) == ["4still"]


@BOTH_WAYS
async def test_an_upgrade_that_is_not_completed_leaves_the_session_polling(way: str) -> None:
    async with echo(way, upgrade_timeout=1000) as (served, heard, _):
        sid = await served.open(4)
        async with served.websocket(4, sid) as websocket:
            await probed(websocket)
            heard.connections[0].send("held")
            await until_closed(websocket)
        assert (await served.get(4, sid)).text == "4held"


@BOTH_WAYS
@pytest.mark.parametrize("sent", ["abc", "4early", "2"])
async def test_nonsense_on_the_probed_websocket_leaves_the_session_polling(way: str, sent: str) -> None:
    async with echo(way) as (served, heard, _):
        sid = await served.open(4)
        async with served.websocket(4, sid) as websocket:
            await websocket.send(sent)
            await until_closed(websocket)
        async with served.websocket(4, sid) as websocket:
            await probed(websocket)
        heard.connections[0].send("kept")
        await eventually(lambda: not heard.connections[0].session.upgrading)
        assert (await served.get(4, sid)).text == "4kept"


# Frames for many


@BOTH_WAYS
@BOTH_VERSIONS
@pytest.mark.parametrize("corked", [False, True])
async def test_frames_keep_their_place_among_messages(way: str, version: int, corked: bool) -> None:
    async with echo(way) as (served, heard, server), served.websocket(version) as websocket:
        connection = await first(heard)
        frame = build_text_frame('42["é"]')
        with server.cork() if corked else nullcontext():
            for number in range(50):
                connection.send(str(number))
                connection.write_frame(frame, '42["é"]')
                connection.send(b"\x01")
        octets = b"\x04\x01" if version == 3 else b"\x01"
        expected = [part for number in range(50) for part in (f"4{number}", '42["é"]', octets)]
        assert (await read(websocket, 151))[1:] == expected


class Stalled:
    """A WebSocket and its transport, of which the client reads nothing."""

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)

    def get_write_buffer_size(self) -> int:
        return self.size

    def buffered(self) -> int:
        return self.size

    def close(self, *reason: Any) -> None:
        self.wire.close(*reason)


class Counted:
    """A transport that records the sizes of writes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.sizes: list[int] = []

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self.transport.write(data)


async def counted(server: EngineIOServer, text: str, number: int) -> tuple[list[str | bytes], list[int]]:
    """Send a client so many frames while corked; return the messages that it received and the sizes of the writes."""
    async with serving(server) as served, served.websocket(4, max_size=None) as websocket:
        await read(websocket)
        (connection,) = server.connections.values()
        assert connection._raw is not None
        connection._raw = transport = Counted(connection._raw)  # type: ignore[assignment]
        frame = build_text_frame(text)
        with server.cork(), server.cork():
            for _ in range(number):
                connection.write_frame(frame, text)
        return await read(websocket, number), transport.sizes


async def test_frames_for_many_leave_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run in between, and what is sent to a client meanwhile comes behind its frames."""
    monkeypatch.setattr(server_module, "UNCORKED_AT_ONCE", 1)
    frame, direct = build_text_frame("42[1]"), build_text_frame("42[2]")
    async with echo() as (served, heard, server), AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(served.websocket(4)) for _ in range(4)]
        await eventually(lambda: len(heard.connections) == 4)
        first_one, *others = heard.connections
        with server.cork():
            for connection in heard.connections:
                connection.write_frame(frame, "42[1]")
        assert [connection._corked for connection in heard.connections] == [None, [frame], [frame], [frame]]
        others[0].write_frame(direct, "42[2]")
        others[1].send("3")
        with server.cork():
            others[2].write_frame(direct, "42[2]")
        first_one.send("3")
        messages = [(await read(socket, 3))[1:] for socket in sockets]
        assert messages == [["42[1]", "43"], ["42[1]", "42[2]"], ["42[1]", "43"], ["42[1]", "42[2]"]]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_what_waits_for_the_clients_of_one_owner_is_bounded(transport: str) -> None:
    """Beyond that, clients with much waiting have no room, whatever their own bound. Others still have."""
    text = "42" + "x" * 50_000
    frame = build_text_frame(text)
    size = 3 * SMALL_OUTPUT
    async with echo(max_buffered_bytes=10_000_000) as (served, heard, server), AsyncExitStack() as stack:
        server.waiting = WaitingOutput(10 * size, size)
        for _ in range(4):
            if transport == "polling":
                await served.open(4)
            else:
                await stack.enter_async_context(served.websocket(4))
        await eventually(lambda: len(heard.connections) == 4)
        *greedy, other = heard.connections
        for connection in greedy:
            connection.owner = "greedy"
            if transport == "websocket":
                connection._raw = connection._wire = Stalled(connection._wire)  # type: ignore[assignment, arg-type]
        taken = 0
        for connection in greedy:
            while connection.offer(frame, text):
                taken += 1
            assert not connection.has_room
        assert size < taken * len(text) < size + 3 * SMALL_OUTPUT + 4 * len(text)
        assert other.has_room
        assert other.offer(frame, text)
        for connection in greedy[:2]:
            connection.close()
        assert greedy[2].offer(frame, text)
        greedy[2].close()
        assert (server.waiting._total, server.waiting._of_owner) == (0, {})


async def test_a_polling_client_without_a_place_for_an_event_has_no_room() -> None:
    """Otherwise whoever waits for room would find some, and offer the event again and again."""
    async with echo(max_queued_packets=10) as (served, heard, _):
        await served.open(4)
        connection = await first(heard)
        taken = 0
        while connection.has_room:
            assert connection.offer(b"", "42[]")
            taken += 1
        assert taken == 5
        assert not connection.offer(b"", "42[]")


@BOTH_WAYS
async def test_a_late_poll_of_a_session_that_has_ended_is_refused(way: str) -> None:
    """Its body was on its way when the session ended, and another poll has fetched the last packet."""
    async with echo(way) as (served, heard, _):
        sid = await served.open(4)
        path = served.query(EIO=4, transport="polling", sid=sid)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
        polls = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
        for _, writer in polls:
            writer.write(head.encode())
        connection = await first(heard)
        await served.get(3)  # the server has read the two heads by now
        await served.post(4, sid, "1")
        assert connection.closed
        answers = []
        for reader, writer in polls:
            writer.write(b"x")
            answers.append(await soon(reader.readuntil(b"}" if answers else b"6")))
            writer.close()
        assert b"200 OK" in answers[0]
        assert b"400 Bad Request" in answers[1]
        assert answers[1].endswith(b'"code":1,"message":"Session ID unknown"}')


async def test_frames_that_come_together_leave_in_one_write() -> None:
    messages, sizes = await counted(EngineIOServer(), "42[]", 100)
    assert messages == ["42[]"] * 100
    assert sizes == [100 * len(build_text_frame("42[]"))]


async def test_what_is_corked_for_one_client_is_bounded() -> None:
    text = "4" + "x" * 10_000
    messages, sizes = await counted(EngineIOServer(), text, 50)
    assert messages == [text] * 50
    assert len(sizes) > 1
    assert max(sizes) < MOST_CORKED_BYTES + 2 * len(text)


async def test_a_client_that_is_closed_while_frames_are_corked_gets_them_first() -> None:
    async with (
        echo(farewell=lambda connection, reason: f"4{reason}") as (served, heard, server),
        served.websocket(4) as websocket,
    ):
        connection = await first(heard)
        with server.cork():
            connection.write_frame(build_text_frame("42[]"), "42[]")
            connection.close()
            connection.write_frame(build_text_frame("4late"), "4late")
        messages, _ = await until_closed(websocket)
        assert messages[1:] == ["42[]", "4server disconnect"]


async def test_a_frame_reaches_a_client_that_polls() -> None:
    async with echo() as (served, heard, _):
        sid = await served.open(4)
        heard.connections[0].write_frame(build_text_frame("42[]"), "42[]")
        assert (await served.get(4, sid)).text == "42[]"


@BOTH_WAYS
async def test_a_client_that_does_not_read_is_dropped_as_lagging_and_delays_nobody(way: str) -> None:
    text = "4" + "x" * 100_000
    frame = build_text_frame(text)
    settings = {"max_buffered_bytes": 500_000, "farewell": lambda connection, reason: f"4{reason}"}
    async with echo(way, **settings) as (served, heard, _), served.websocket(4) as quick:
        async with served.websocket(4, max_queue=1, max_size=None) as slow:
            await eventually(lambda: len(heard.connections) == 2)
            for number in range(400):
                if heard.gone:
                    break
                heard.connections[number % 2].write_frame(frame, text)
                assert all(connection.buffered < 1_000_000 for connection in heard.connections)
                if number % 2 == 0:
                    await read(quick)
                await asyncio.sleep(0)
            assert heard.gone == [CloseReason.LAGGING]
            assert heard.connections[1].closed is CloseReason.LAGGING
            slow.transport.abort()
        heard.connections[0].send("on")
        messages = [await soon(quick.recv())]
        while messages[-1] != "4on":
            messages.append(await soon(quick.recv()))


@BOTH_WAYS
async def test_a_close_may_have_last_words(way: str) -> None:
    async with (
        echo(way, farewell=lambda connection, reason: f"4{reason}") as (served, heard, _),
        served.websocket(4) as websocket,
    ):
        (await first(heard)).close(CloseReason.SHUTDOWN)
        messages, reason = await until_closed(websocket)
        assert (messages[1:], reason) == (["4shutdown"], "shutdown")


@pytest.mark.parametrize("reason", [CloseReason.SHUTDOWN, CloseReason.LAGGING])
async def test_a_close_may_have_last_words_for_a_poll(reason: CloseReason) -> None:
    async with echo(farewell=lambda connection, reason: f"4{reason}") as (served, heard, server):
        sid = await served.open(4)
        heard.connections[0].send("before")
        heard.connections[0].close(reason)
        assert (await served.get(4, sid)).text == f"4before\x1e4{reason}"
        assert (await served.get(4, sid)).json()["code"] == 1
        assert (heard.gone, server.connections) == ([reason], {})


async def test_pings_of_a_client_that_reads_nothing_do_not_pile_up() -> None:
    """This holds for Engine.IO's pings, whose answers repeat their data, and for the WebSocket's own."""
    async with echo(max_buffered_bytes=100_000) as (served, heard, _), served.websocket(3) as websocket:
        connection = await first(heard)
        websocket.transport.pause_reading()
        most = 0
        for _ in range(2_000):
            await soon(websocket.send("2" + "x" * 50_000))
            most = max(most, connection.buffered)
            if heard.gone:
                break
        assert (heard.gone, most < 500_000) == ([CloseReason.LAGGING], True)
    async with echo(max_buffered_bytes=100_000) as (served, heard, _), served.websocket(3) as websocket:
        connection = await first(heard)
        transport = connection._raw
        assert transport is not None
        websocket.transport.pause_reading()
        for number in range(80_000):
            await soon(websocket.ping(f"{number:0125}"))
        assert transport.get_write_buffer_size() < 600_000  # the bound, plus the input of one read


# The application


async def test_an_idle_websocket_costs_no_task_through_the_transport() -> None:
    def serving_tasks() -> int:
        return sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())

    async with echo() as (served, heard, server):
        async with served.websocket(4) as websocket:
            await read(websocket)
            await eventually(lambda: serving_tasks() == 0)
            assert len(server.connections) == 1
        await eventually(lambda: heard.gone == [CloseReason.TRANSPORT_CLOSE])


async def test_frames_are_not_compressed() -> None:
    async with echo() as (served, _, _):
        url = f"ws://127.0.0.1:{served.port}{served.query(EIO=4, transport='websocket')}"
        async with connect(url, compression="deflate") as websocket:
            assert websocket.protocol.extensions == []


@pytest.mark.parametrize(("verdict", "message"), [(False, "Forbidden"), ("not you", "not you")])
async def test_the_application_may_refuse(verdict: bool | str, message: str) -> None:
    async with echo(on_connect=lambda connection: verdict) as (served, heard, server):
        response = await served.get(4)
        assert (response.status_code, response.json()) == (403, {"code": 4, "message": message})
        with pytest.raises(InvalidStatus) as caught:
            async with served.websocket(4):
                pass
        assert json.loads(caught.value.response.body or b"")["code"] == 4
        assert (heard.connections, server.connections) == ([], {})


@BOTH_WAYS
async def test_one_clients_messages_are_handled_one_after_the_other_and_its_end_last(way: str) -> None:
    heard: list[str | bytes] = []
    gone = asyncio.Event()

    async def slowly(connection: Connection, data: str | bytes) -> None:
        heard.append(f"begin {data!r}")
        await asyncio.sleep(0.001)
        heard.append(f"end {data!r}")

    async def leave(connection: Connection, reason: CloseReason) -> None:
        heard.append(reason)
        gone.set()

    server = EngineIOServer(slowly, on_disconnect=leave, max_inbox=4)
    async with serving(server, way=way) as served:
        async with served.websocket(4) as websocket:
            for number in range(20):
                await websocket.send(f"4{number}")
        await soon(gone.wait())
    expected = [f"{phase} '{number}'" for number in range(20) for phase in ("begin", "end")]
    assert heard == [*expected, CloseReason.TRANSPORT_CLOSE]


@BOTH_WAYS
async def test_a_client_that_floods_is_not_read(way: str) -> None:
    release = asyncio.Event()
    handled: list[str | bytes] = []

    async def stuck(connection: Connection, data: str | bytes) -> None:
        await release.wait()
        handled.append(data)

    server = EngineIOServer(stuck, max_inbox=4)
    async with serving(server, way=way) as served, served.websocket(4) as websocket:

        async def flood() -> None:
            for number in range(2_000):
                await websocket.send(f"4{number:0500}")

        sending = asyncio.create_task(flood())
        await asyncio.wait([sending], timeout=0.5)  # the system may not take all of it
        (connection,) = server.connections.values()
        await eventually(lambda: len(connection._inbox or ()) >= 4)
        await asyncio.sleep(0.05)
        assert len(connection._inbox or ()) < 600  # one read of 256 KiB may hold that many
        release.set()
        await sending
        await eventually(lambda: len(handled) == 2_000)


@pytest.mark.parametrize("late", ["message", "packet"])
async def test_only_what_is_unfinished_gets_more_time_while_the_application_works(late: str) -> None:
    """An overdue message gets its full time again. The other deadline stays off."""
    release = asyncio.Event()

    async def wait(connection: Connection, data: str | bytes) -> None:
        await release.wait()

    async with echo(on_message=wait, body_timeout=50) as (served, heard, _), served.websocket(4) as websocket:
        connection = await first(heard)
        await websocket.send("4begin")
        await eventually(lambda: connection._inbox is not None)
        if late == "message":
            connection.message_unfinished(True)
        else:
            connection.packet_begun()
        before = (connection._message_due, connection._packet_due)
        await eventually(lambda: min(connection._message_due, connection._packet_due) > min(before))
        assert max(connection._message_due, connection._packet_due) == inf
        connection.message_unfinished(False)
        connection.packet_ended()
        release.set()


async def test_an_unfinished_message_gets_its_full_time_after_a_pause() -> None:
    release = asyncio.Event()

    async def wait(connection: Connection, data: str | bytes) -> None:
        await release.wait()

    async with echo(on_message=wait, max_inbox=1) as (served, heard, _), served.websocket(4):
        connection = await first(heard)
        connection.message_unfinished(True)
        before = connection._message_due
        for _ in range(2):
            connection.receive(Packet(MESSAGE, "x"))
        release.set()
        await eventually(lambda: connection._inbox is None)
        assert connection._message_due > before


async def test_room_for_a_large_answer_stays_when_a_small_one_follows() -> None:
    async with echo(max_buffered_bytes=1_000) as (served, heard, _):
        await served.open(4)
        connection = await first(heard)
        connection.make_room(100_000)
        connection.send("x" * 100_000)
        connection.make_room(10)
        connection.send("x" * 10)
        assert connection.closed is None
        connection.make_room(0)
        connection.send("x")
        assert connection.closed is CloseReason.LAGGING


async def test_an_open_client_is_not_waited_for_as_one_that_has_ended() -> None:
    async with echo() as (served, heard, _):
        await served.open(4)
        connection = await first(heard)
        connection.answering = 100_000
        await soon(connection.emptied())


async def test_the_messages_that_wait_are_counted_in_bytes() -> None:
    release = asyncio.Event()
    handled: list[object] = []

    async def stuck() -> None:
        await release.wait()

    inbox = Inbox(stuck(), handled.append, lambda: None)
    inbox.put("€" * 200)
    assert inbox.is_full(10, 599)
    assert not inbox.is_full(10, 600)
    inbox.put(b"\xff" * 100)
    assert inbox.is_full(10, 699)
    assert not inbox.is_full(10, 700)
    release.set()
    await soon(inbox.done())
    assert len(handled) == 2
    assert not inbox.is_full(10, 0)


@BOTH_VERSIONS
async def test_nothing_waits_for_a_polling_client_that_has_closed_its_session(version: int) -> None:
    """An application that still refers to the connection does not keep its messages in memory."""
    async with echo(max_buffered_bytes=1_000_000) as (served, heard, _):
        sid = await served.open(version)
        connection = await first(heard)
        for _ in range(10):
            connection.send("x" * 50_000)
        await served.post(version, sid, "1" if version == 4 else "1:1")
        assert heard.gone == [CloseReason.CLIENT_DISCONNECT]
        assert (connection.armed, connection.session.queued, connection.buffered) == (None, 1, 0)


async def test_a_failing_application_is_logged_and_the_client_stays(caplog: pytest.LogCaptureFixture) -> None:
    def fail(connection: Connection, data: str | bytes) -> None:
        if data == "fail":
            raise ValueError("on purpose")
        connection.send(data)

    async with serving(EngineIOServer(fail)) as served, served.websocket(4) as websocket:
        await websocket.send("4fail")
        await websocket.send("4go on")
        assert (await read(websocket, 2))[1] == "4go on"
    assert "on purpose" in caplog.text


async def test_a_cancellation_of_what_a_handler_waits_for_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The messages behind it are handled, and so is the client's disconnect."""

    async def wait(connection: Connection, data: str | bytes) -> None:
        if data == "wait":
            shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(shared.cancel)
            await shared
        connection.send(data)

    async with echo(on_message=wait) as (served, heard, _):
        async with served.websocket(4) as websocket:
            await websocket.send("4wait")
            await websocket.send("4go on")
            assert (await read(websocket, 2))[1] == "4go on"
        await eventually(lambda: heard.gone)
    assert "the application was cancelled" in caplog.text


async def test_a_connect_handler_that_fails_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(connection: Connection) -> bool:
        raise ValueError("on purpose")

    async with serving(EngineIOServer(on_connect=fail)) as served:
        assert (await served.get(4)).status_code == 403
    assert "on purpose" in caplog.text


@BOTH_WAYS
async def test_a_shutdown_closes_everyone_with_its_name(way: str) -> None:
    async with echo(way) as (served, heard, server), served.websocket(4) as websocket:
        await read(websocket)
        sid = await served.open(4)
        poll = asyncio.create_task(served.get(4, sid))
        await eventually(lambda: len(heard.connections) == 2 and heard.connections[1].polling)
        await server.shutdown()
        assert (await poll).text == "6"  # no close packet, after which python-engineio's client would not reconnect
        assert (await until_closed(websocket))[1] == "shutdown"
        assert heard.gone == [CloseReason.SHUTDOWN] * 2


async def test_during_a_shutdown_clients_are_told_to_come_back() -> None:
    """Clients connect again after 503, and give up after 403."""
    async with echo() as (served, _, server):
        await server.shutdown()
        assert (await served.get(4)).status_code == 503
        with pytest.raises(InvalidStatus, match="503"):
            async with served.websocket(4):
                pass


async def test_a_shutdown_does_not_wait_for_work_without_end() -> None:
    """The application may wait for a database that never answers. Its work is cancelled."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(connection: Connection, data: str | bytes) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with echo(on_message=work) as (served, heard, server), served.websocket(4) as websocket:
        await websocket.send("4work")
        await soon(begun.wait())
        await soon(server.shutdown(patience=0.01))
        assert (await until_closed(websocket))[1] == "shutdown"
        await soon(ended.wait())
        assert heard.gone == []


async def test_the_end_of_the_server_reaches_clients() -> None:
    heard = Log()
    async with AsyncExitStack() as stack:
        async with serving(EngineIOServer(heard.on_message, on_disconnect=heard.on_disconnect)) as served:
            websocket = await stack.enter_async_context(served.websocket(4))
            await read(websocket)
        with pytest.raises(ConnectionClosed):
            await soon(websocket.recv())
    assert heard.gone == [CloseReason.TRANSPORT_CLOSE]


async def test_other_paths_are_not_its_own() -> None:
    async with echo() as (served, _, _):
        assert (await served.http.get("/other/?EIO=4&transport=polling")).status_code == 400
        assert (await served.http.get("/engine.io?EIO=4&transport=polling")).status_code == 200
