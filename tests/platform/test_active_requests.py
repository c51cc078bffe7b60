"""Active requests have limits: in all, of one address and of one user."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hub.http.active import ActiveRequest, ActiveRequests
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.connections import ConnectionLimits, Connections
from hub.http.errors import Overloaded
from hub.http.middleware import RequestMiddleware
from hub.http.origins import Origins
from hub.http.scope import PEER
from hub.metrics import Metrics
from tests.platform.raw import request, token_of, wire
from tests.support.engines import Database
from tests.support.hub import running_hub
from tests.support.standstill import limit_reached
from tests.support.tasks import end

MOST = 8
PROXY = "192.0.2.99"
SCOPE = {"type": "http", "path": "/api/v1/x", "method": "DELETE", "headers": [], "query_string": b""}


def connections() -> Connections:
    return Connections(ConnectionLimits(), lambda address: address == PROXY, lambda _: None)


def reached(request: ActiveRequest) -> str:
    try:
        request.check()
    except Overloaded as error:
        return error.limit_name
    return ""


def test_one_address_has_a_share() -> None:
    """Requests of other addresses are admitted beside it, and its own again when some of them have ended."""
    counted, every = connections(), ActiveRequests(MOST)
    peer, other = counted.register("192.0.2.1"), counted.register("192.0.2.2")
    its = [ActiveRequest(every, peer) for _ in range(MOST // 2)]
    assert [reached(each) for each in its] == [""] * len(its)
    further = ActiveRequest(every, peer)
    assert reached(further) == "REQUESTS_SHARE"
    further.end()
    assert reached(ActiveRequest(every, other)) == ""
    its[0].pause()  # it waits for its client
    assert reached(ActiveRequest(every, peer)) == ""


def test_a_trusted_proxy_has_no_share_but_its_users_have() -> None:
    every, proxy = ActiveRequests(MOST), connections().register(PROXY)
    for _ in range(MOST // 2):
        ActiveRequest(every, proxy).authenticated("user")
    further = ActiveRequest(every, proxy)
    assert reached(further) == ""
    with pytest.raises(Overloaded) as refused:
        further.authenticated("user")
    assert refused.value.limit_name == "REQUESTS_SHARE"
    further.end()
    other = ActiveRequest(every, proxy)
    other.authenticated("other")
    assert reached(other) == ""


def test_a_request_counts_for_its_address_though_its_connection_has_ended() -> None:
    counted, every = connections(), ActiveRequests(MOST)
    peer = counted.register("192.0.2.1")
    its = [ActiveRequest(every, peer) for _ in range(MOST // 2)]
    counted.unregister(peer)
    again = counted.register("192.0.2.1")
    further = ActiveRequest(every, again)
    assert reached(further) == "REQUESTS_SHARE"
    counted.unregister(again)
    for each in [*its, further]:
        each.end()


def test_what_has_ended_is_counted_no_longer() -> None:
    every, peer = ActiveRequests(MOST), connections().register("192.0.2.1")
    one = ActiveRequest(every, peer)
    one.authenticated("user")
    one.authenticated("user")  # its rights have changed, and it is authorised again
    one.pause()
    one.resume()
    one.end()
    assert every.running == set()


@pytest.mark.engine("sqlite")  # requests are counted above the engine
async def test_one_user_keeps_no_other_user_out(database: Database, tmp_path: Path) -> None:
    """All requests come from one trusted proxy. The refusals name the limit."""
    async with running_hub(database, tmp_path, max_requests=MOST) as hub, AsyncExitStack() as stack:
        store = await hub.define()
        users = [hub.admin] * 3 * MOST + [await hub.as_user()] * 2
        connections = [await stack.enter_async_context(wire(hub.process.port)) for _ in users]
        hub.process.process.send_signal(signal.SIGSTOP)  # so that it reads all requests at once
        for connection, user in zip(connections, users, strict=True):
            create = request("POST", f"/{store}", token_of(user.http.headers), "Content-Length: 7")
            await connection.send(create + b'{"n":1}')
        hub.process.process.send_signal(signal.SIGCONT)
        answers = [await connection.answer() for connection in connections]
        assert [answer.status for answer in answers[-2:]] == [200, 200]
        refused = [answer for answer in answers if answer.status == 503]
        assert refused
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1
            assert "REQUESTS_SHARE" in answer.json()["errors"]["request"][0]
        assert await limit_reached(hub, "REQUESTS_SHARE") == len(refused)
        assert len(await hub.admin.list(store)) == len(answers) - len(refused)


App = Callable[[Any, Any, Any], Awaitable[None]]


def middleware(app: App, most: int) -> RequestMiddleware:
    def unavailable(error: Exception, scope: Any) -> Answer:
        return Answer(status=503)

    return RequestMiddleware(app, Metrics(), most, "/live", Origins((), ()), Any, unavailable)  # type: ignore[arg-type]


async def test_work_beside_a_body_that_nobody_needs_is_active() -> None:
    """It counts while the body is held back, and it is not broken off when the body comes and the hub is busy."""
    begun, done, body = asyncio.Event(), asyncio.Event(), asyncio.Event()
    sent: list[Any] = []

    async def work() -> None:
        begun.set()
        await done.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Call(scope, receive).while_connected(work())
        await Answer(b"done").send(scope, send)

    async def receive() -> Any:
        if body.is_set():
            await asyncio.Event().wait()
        await body.wait()
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    every = middleware(app, 1)
    running = asyncio.create_task(every({**SCOPE}, receive, send))
    await begun.wait()
    await asyncio.sleep(0)
    assert len(every.active.running) == 1
    busy = ActiveRequest(every.active, None)
    body.set()
    for _ in range(5):
        await asyncio.sleep(0)
    done.set()
    await running
    busy.end()
    assert sent[0]["status"] == 200
    assert every.active.running == set()
    await end(running)


@pytest.mark.parametrize(("path", "status"), [("/api/v1/x", 503), ("/health/live", 200), ("/metrics", 200)])
async def test_the_operator_sees_a_hub_that_is_busy(path: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Answer(b"done").send(scope, send)

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    every, peer = middleware(app, 2), connections().register("192.0.2.1")
    busy = [ActiveRequest(every.active, peer) for _ in range(2)]
    await every({**SCOPE, "path": path, PEER: peer}, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == status
    assert len(every.active.running) == len(busy)
