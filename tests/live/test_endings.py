"""Ends of connections: the close code and the notice tell every client whether to reconnect."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from hub.settings import Settings
from tests.support.engines import Database
from tests.support.hub import PATIENCE, Client, Hub, StartHub, entity_of, eventually, running_hub
from tests.support.live import credentials, frame, small_window, socket_url, websocket
from tests.support.ports import free_port
from tests.support.standstill import read_metrics

pytestmark = pytest.mark.engine("sqlite")  # sending to clients does not depend on the engine

MOST_BUFFERED = 100_000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    """A hub with short timeouts."""
    settings = {"live_ping_interval": 1, "live_ping_timeout": 1, "live_max_buffered": MOST_BUFFERED}
    return await sqlite_hub(**settings)


async def closing(socket: ClientConnection) -> tuple[int, str]:
    """Read until the hub closes the connection, without answering pings; return the close code and the last packet."""
    last = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                last = str(await socket.recv())
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006, last


async def revoke(hub: Hub, socket: ClientConnection, token: str) -> None:
    entity_of(await hub.admin.delete(f"/tokens/{token}"))


async def expire(hub: Hub, socket: ClientConnection, token: str) -> None:
    soon = int(time.time() * 1000) + 800  # the hub refuses what is past when the request arrives
    entity_of(await hub.admin.patch(f"/tokens/{token}", {"expires": soon}))


async def stay_silent(hub: Hub, socket: ClientConnection, token: str) -> None:
    pass


async def talk_nonsense(hub: Hub, socket: ClientConnection, token: str) -> None:
    await socket.send("nonsense")


async def send_much(hub: Hub, socket: ClientConnection, token: str) -> None:
    await socket.send("4" + "x" * 1_000_001)


async def leave(hub: Hub, socket: ClientConnection, token: str) -> None:
    await socket.send("41")


@pytest.mark.parametrize(
    ("act", "code", "notice"),
    [
        (revoke, 1008, "revoked"),
        (expire, 1008, "expired"),
        (stay_silent, 1001, None),
        (talk_nonsense, 1002, None),
        (send_much, 1009, None),
        (leave, 1000, None),
    ],
)
async def test_each_reason_has_its_close_code(
    hub: Hub, act: Callable[[Hub, ClientConnection, str], Awaitable[None]], code: int, notice: str | None
) -> None:
    """Code 1008 means that the credentials are no longer valid, and the notice says whether revoked or expired."""
    user = await hub.as_user()
    [token] = await hub.admin.list("tokens", {"user": user.id})
    async with websocket(socket_url(hub.url, 3), additional_headers=credentials(user)) as socket:
        await frame(socket)
        assert await frame(socket) == "40"
        await act(hub, socket, token["_id"])
        closed, last = await closing(socket)
    assert closed == code
    if notice:
        assert last == f'42["notice",{{"kind":"{notice}"}}]'


async def test_a_restart_and_an_overload_invite_to_come_back(own_hub: StartHub) -> None:
    """The code is 1012 at a shutdown and 1013 for a client that does not keep up."""
    hub = await own_hub(live_max_buffered=MOST_BUFFERED, live_ping_timeout=2)
    store = await hub.define()
    headers = {"additional_headers": credentials(hub.admin)}
    async with (
        websocket(socket_url(hub.url, 3), **headers) as socket,
        websocket(socket_url(hub.url, 3), **headers, sock=await small_window(hub)) as slow,
    ):
        for each in (socket, slow):
            await frame(each)
            await frame(each)
        await slow.send(f'420["subscribe",{{"store":"{store}"}}]')
        await frame(slow)
        slow.transport.pause_reading()

        async def is_cut() -> bool:
            await hub.admin.make_all(store, [{"text": "x" * 20_000}] * 20)
            return (await read_metrics(hub.url)).value("hub_live_lagging_total") == 1

        await eventually(is_cut)
        slow.transport.resume_reading()
        assert await closing(slow) == (1013, '42["notice",{"kind":"lagging"}]')
        hub.process.process.send_signal(signal.SIGTERM)
        assert await closing(socket) == (1012, '42["notice",{"kind":"shutdown"}]')


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_python_socketio_comes_back_after_a_restart(database: Database, tmp_path: Path, transport: str) -> None:
    """The Python client does not reconnect after a close packet, so the hub ends a poll without one."""
    async with AsyncExitStack() as stack:
        port = free_port()
        hub = await stack.enter_async_context(running_hub(database, tmp_path / "hub", port=port))
        heard = await stack.enter_async_context(python_client(hub, transport))
        assert await heard() == f"connected {transport}"
        await asyncio.to_thread(hub.process.stop)
        assert await heard() == "notice shutdown"
        await stack.enter_async_context(running_hub(database, tmp_path / "hub", port=port))
        assert await heard() == f"connected {transport}"


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_python_socketio_hears_that_it_is_revoked(own_hub: StartHub, transport: str) -> None:
    hub = await own_hub()
    user = await hub.as_user()
    [token] = await hub.admin.list("tokens", {"user": user.id})
    async with python_client(hub, transport, client=user) as heard:
        assert await heard() == f"connected {transport}"
        entity_of(await hub.admin.delete(f"/tokens/{token['_id']}"))
        assert await heard() == "notice revoked"


@asynccontextmanager
async def python_client(
    hub: Hub, *arguments: str, client: Client | None = None
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Run python-socketio's client as a separate process, by default as the administrator; the yielded function returns
    its next line of output."""
    token = credentials(client or hub.admin)["Authorization"].removeprefix("Bearer ")
    command = (sys.executable, "-m", "tests.live.python_client", hub.url, token, *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    output = process.stdout

    async def line() -> str:
        async with asyncio.timeout(PATIENCE):
            return (await output.readline()).decode().strip()

    try:
        yield line
    finally:
        process.kill()
        await process.wait()


async def test_python_socketio_takes_the_largest_snapshot(own_hub: StartHub) -> None:
    """With the defaults on both sides it fits into one message; a larger one is refused and the connection stays."""
    hub = await own_hub()
    fitting, beyond = await hub.define(), await hub.define()
    text = "x" * 100_000
    await hub.admin.make_all(fitting, [{"text": text}] * 31)
    await hub.admin.make_all(beyond, [{"text": text}] * 32)
    for store, heard in ((fitting, "31"), (beyond, "{'code': '400'")):
        async with python_client(hub, "websocket", store) as line:
            assert await line() == "connected websocket"
            assert (await line()).startswith(heard)


async def test_python_socketio_receives_the_event_of_the_largest_entity(own_hub: StartHub) -> None:
    """An event too large for a client would disconnect it again whenever it resumes."""
    hub = await own_hub()
    store = await hub.define()
    most = Settings.model_fields["max_entity_bytes"].default
    id = (await hub.admin.make(store, {"text": "x" * 900_000}))["_id"]
    async with python_client(hub, "websocket", store) as line:
        assert await line() == "connected websocket"
        assert await line() == "1"
        size = 0
        while (room := most - len(orjson.dumps(await hub.admin.see(store, id))) - len(',"text00":""')) > 0:
            answer = await hub.admin.patch(f"/{store}/{id}", {f"text{room // 100_000:02}": "x" * min(room, 900_000)})
            assert answer.status_code == 200, answer.text
            kind, length = (await line()).split()
            assert kind == "change"
            size = int(length)
        assert size > most


async def test_python_socketio_receives_the_largest_entity_shared_with_many(own_hub: StartHub) -> None:
    """System fields do not count as the entity's size, and are part of the event."""
    hub = await own_hub()
    store = await hub.define()
    users = [user["_id"] for user in await hub.admin.make_all("users", [{"login": f"u{n}"} for n in range(10_000)])]
    most = Settings.model_fields["max_entity_bytes"].default
    id = (await hub.admin.make(store, {"n": 0}))["_id"]
    async with python_client(hub, "websocket", store) as line:
        assert await line() == "connected websocket"
        assert await line() == "1"
        left = most - 1_000
        for number in range(5):
            part, left = {f"text{number}": "x" * min(left, 900_000)}, max(left - 900_000, 0)
            assert (await hub.admin.patch(f"/{store}/{id}", part)).status_code == 200
            assert (await line()).startswith("change ")
        assert (await hub.admin.put(f"/{store}/{id}/access", {"access": users})).status_code == 200
        kind, size = (await line()).split()
        assert kind == "change"
        assert int(size) > most + 25 * len(users)


async def test_python_socketio_receives_a_change_of_very_many_fields(own_hub: StartHub) -> None:
    """`changed` would name thousands of removed fields beside the new entity."""
    hub = await own_hub()
    store = await hub.define()
    names = [[f"{part}-{number:0190}" for number in range(4_500)] for part in range(4)]
    id = (await hub.admin.make(store, {"n": 0}))["_id"]
    async with python_client(hub, "websocket", store) as line:
        assert await line() == "connected websocket"
        assert await line() == "1"
        for some in names[:3]:
            assert (await hub.admin.patch(f"/{store}/{id}", dict.fromkeys(some, 1))).status_code == 200
            assert (await line()).startswith("change ")
        assert (await hub.admin.put(f"/{store}/{id}", dict.fromkeys(names[3], 1))).status_code == 200
        kind, size = (await line()).split()
        assert kind == "change"
        assert int(size) < 1_000_000
        assert (await hub.admin.patch(f"/{store}/{id}", {"n": 1})).status_code == 200
        assert (await line()).startswith("change ")


@pytest.mark.parametrize("asked", ["[7]", '["{}"]', '["subscribe",{{"store":"users","filter":{{"a.${}":1}}}}]'])
async def test_an_error_quotes_only_the_beginning_of_a_long_text(hub: Hub, asked: str) -> None:
    async with websocket(socket_url(hub.url, 3), additional_headers=credentials(hub.admin)) as socket:
        await frame(socket)
        await frame(socket)
        await socket.send("420" + asked.format("\x7f" * 900_000))
        answer = await frame(socket)
        assert answer.startswith('430[{"ok":false,"error":{"code":"400"')
        assert len(answer) < 1_000_000


@pytest.mark.parametrize("version", [3, 4])
async def test_a_pause_of_the_process_costs_no_client_its_connection(hub: Hub, version: int) -> None:
    """The hub reads messages that arrived during the pause before it checks the heartbeat timeout."""
    async with websocket(socket_url(hub.url, version), additional_headers=credentials(hub.admin)) as socket:
        await frame(socket)
        if version == 4:
            await socket.send("40")
            await frame(socket)
            while await frame(socket) != "2":
                pass
        else:
            assert await frame(socket) == "40"
        await paused(hub, socket.send("3" if version == 4 else "2"))
        await socket.send('421["unsubscribe",{"channel":"none"}]')
        answer = await frame(socket)
        while not answer.startswith("431["):
            if answer == "2":
                await socket.send("3")
            answer = await frame(socket)


async def test_a_pause_of_the_process_costs_no_client_that_polls_its_connection(hub: Hub) -> None:
    """Its answer to a ping is a separate request, which waits to be read."""
    address = f"{hub.url}/socket.io/?EIO=4&transport=polling"
    async with httpx.AsyncClient(trust_env=False, headers=credentials(hub.admin), timeout=PATIENCE) as http:
        sid = (await http.get(address)).text.split('"')[3]
        address += f"&sid={sid}"
        assert (await http.post(address, content="40")).text == "ok"
        while "2" not in (await http.get(address)).text.split("\x1e"):
            pass
        answering: list[asyncio.Task[httpx.Response]] = []

        async def answer() -> None:
            answering.append(asyncio.create_task(http.post(address, content="3")))

        await paused(hub, answer())
        assert (await answering[0]).text == "ok"
        assert (await http.get(address)).status_code == 200


async def paused(hub: Hub, meanwhile: Awaitable[None]) -> None:
    """Suspend the hub's process for longer than its timeouts, and await `meanwhile` during the pause."""
    hub.process.process.send_signal(signal.SIGSTOP)
    try:
        await meanwhile
        await asyncio.sleep(2.5)
    finally:
        hub.process.process.send_signal(signal.SIGCONT)
