"""REST and live clients of every generation over TLS, through a real nginx with the configuration of
docs/deploying.md."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.live.node import GENERATIONS, WAYS, every_client
from tests.support import nginx
from tests.support.hub import API, PATIENCE, Hub, StartHub
from tests.support.live import PASSWORD, token_of
from tests.support.nginx import Nginx
from tests.wire import javascript

pytestmark = pytest.mark.needs("nginx")


@pytest.fixture(scope="module")
async def behind(sqlite_hub: StartHub) -> Hub:
    """A separate hub on SQLite, because the way between client and engine does not depend on the engine."""
    return await sqlite_hub()


@pytest.fixture(scope="module")
def proxy(behind: Hub, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nginx]:
    with nginx.running(tmp_path_factory.mktemp("proxy"), behind.process.port) as running:
        yield running  # type: ignore[misc]


@pytest.fixture(scope="module")
async def results(behind: Hub, proxy: Nginx) -> dict[str, str]:
    packages = await asyncio.to_thread(javascript.installed)
    return await every_client(packages, behind, proxy.url, NODE_EXTRA_CA_CERTS=str(proxy.certificate))


@pytest.mark.timeout(400)  # the first time the packages are installed
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_client_of_this_generation_sees_all(results: dict[str, str], generation: int, way: str) -> None:
    assert results[f"{generation} {way}"] == "ok"


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_python_socketio_sees_all(behind: Hub, proxy: Nginx, transport: str) -> None:
    store = await behind.define()
    await behind.admin.make_all(store, [{"n": n} for n in range(3)])
    command = [sys.executable, "-m", "tests.live.python_client", proxy.url, token_of(behind.admin), transport, store]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={"SSL_CERT_FILE": str(proxy.certificate), "PATH": ""}
    )
    try:
        assert process.stdout
        async with asyncio.timeout(PATIENCE):
            assert (await process.stdout.readline()).decode().split() == ["connected", transport]
            assert (await process.stdout.readline()).decode().strip() == "3"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def page(proxy: Nginx) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that sends the same headers as a browser's page of the hub's own origin."""
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    async with httpx.AsyncClient(base_url=proxy.url, verify=context, trust_env=False, timeout=PATIENCE) as http:
        http.headers["origin"] = proxy.url
        yield http


async def test_a_page_signs_in_with_a_cookie(behind: Hub, page: httpx.AsyncClient) -> None:
    """The hub knows the host name and the scheme that the browser uses."""
    user = await behind.as_user(password=PASSWORD)
    answer = await page.post(f"{API}/auth", json={"login": user.user["login"], "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-sid=")
    store = await behind.define()
    made = await page.post(f"{API}/{store}", json={"n": 1})
    assert made.json()["owner"] == user.id
    assert (await page.post(f"{API}/{store}", json={}, headers={"origin": "https://evil.example"})).status_code == 403
    bulk = await page.post(f"{API}/{store}", json=[{"text": "x" * 500_000}] * 8)
    assert len(bulk.json()["entities"]) == 8
    listed = await page.get(f"{API}/{store}?only=text&n[exists]=false")
    assert [entity["text"] for entity in listed.json()] == ["x" * 500_000] * 8


async def test_a_filter_as_long_as_the_hub_accepts_passes(behind: Hub, page: httpx.AsyncClient) -> None:
    store = await behind.define()
    await behind.admin.make_all(store, [{"n": 1}, {"n": 2}])
    page.headers["authorization"] = behind.admin.http.headers["Authorization"]
    filtered = f"{API}/{store}?n[in]=1," + ",".join(["1000000"] * 7_500)
    assert len(filtered) > 60_000
    assert [entity["n"] for entity in (await page.get(filtered)).json()] == [1]


async def test_the_metrics_stay_inside(page: httpx.AsyncClient) -> None:
    for path in ("/metrics", "//metrics", "/./metrics", "/%6detrics", "/metrics/", "/metrics?x"):
        # As it is: the client would take `//metrics` for a host, and leave `/./` out.
        answer = await page.get("/", extensions={"target": path.encode()})
        assert answer.status_code in (401, 403, 404), path
        assert "hub_requests" not in answer.text
    assert (await page.get("/health/ready")).json() == {"ok": True}


async def test_nobody_but_the_proxy_says_where_the_hub_is(behind: Hub, page: httpx.AsyncClient) -> None:
    """Proxy headers that a client sends do not reach the hub."""
    forged = {
        "Authorization": behind.admin.http.headers["Authorization"],
        "X-Forwarded-Prefix": "/x",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-For": "203.0.113.9",
    }
    document = await page.get(f"{API}/openapi.json", headers=forged)
    assert document.json()["servers"] == [{"url": "/"}]


OFFERS = ["h2c", "websocket", "WebSocket", "websocket, h2c", "h2c, websocket", "TLS/1.2"]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_request_within_a_body_does_not_arrive(behind: Hub, proxy: Nginx, offer: str, framing: str) -> None:
    """A body that looks like a request stays a body, whatever upgrade the head offers, and even if it arrives later."""
    store = await behind.define()
    made = await behind.admin.make(store)
    inner = (
        f"DELETE {API}/{store}/{made['_id']} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token_of(behind.admin)}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    size = f"Content-Length: {len(inner)}" if framing == "length" else "Transfer-Encoding: chunked"
    head = (
        f"POST {API}/{store} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: {offer}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "x" * 22 + "==\r\n"
        f"Authorization: Bearer {token_of(behind.admin)}\r\n{size}\r\n\r\n"
    ).encode()
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
    try:
        writer.write(head)
        await writer.drain()
        body = inner if framing == "length" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
        writer.write(body)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(PATIENCE):
            answers = await reader.read()
    finally:
        writer.close()
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 2, answers
    assert await behind.admin.see(store, made["_id"]) == made
    records = behind.process.records()
    assert not any(each.get("method") == "DELETE" and made["_id"] in each.get("path", "") for each in records)
