"""Running the hub: health, metrics, logs, request ids, limits, other origins, slow clients, and a graceful stop."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stores.records import now_ms
from tests.platform.answers import good, refused
from tests.platform.raw import Wire, request, token_of, wire
from tests.support.engines import Database, sqlite_database
from tests.support.hub import (
    ADMIN_LOGIN,
    ADMIN_PASSWORD,
    LOG,
    PATIENCE,
    Client,
    Hub,
    entity_of,
    environment,
    eventually,
    fetch,
    running_hub,
    unique,
)
from tests.support.program import HUB, ROOT

PASSWORD = "open sesame 1"
TRUSTED = "https://portal.example.com"


@asynccontextmanager
async def beside(database: Database, folder: Path) -> AsyncIterator[Database]:
    """Yield another database: a file in `folder`, or one on the same server, dropped afterwards."""
    if database.kind == "sqlite":
        yield Database("sqlite", str(folder / "hub.db"))
        return
    parts = httpx.URL(database.location)
    fresh = Database("mongodb", str(parts.copy_with(path=f"{parts.path}_{secrets.token_hex(4)}")))
    yield fresh
    await fresh.drop()


@pytest.fixture(scope="module")
async def strict(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """A hub with tight limits, on its own database beside the shared one."""
    settings = {"login_attempts": 3, "login_window": 120, "body_timeout": 1, "trusted_origins": TRUSTED}
    folder = tmp_path_factory.mktemp("strict")
    async with beside(shared_database, folder) as database, running_hub(database, folder, **settings) as hub:
        yield hub


@pytest.fixture
async def spare(shared_database: Database, tmp_path: Path) -> AsyncIterator[Database]:
    """A new database for hubs that a test starts and stops itself."""
    async with beside(shared_database, tmp_path) as database:
        yield database


async def test_the_root_names_the_document(hub: Hub) -> None:
    """The hub prints this address when it starts, so people open it in a browser."""
    answer = await fetch(hub.url + "/")
    text = "This is a hub: its API begins at /api/v1, and /api/v1/openapi.json describes it."
    assert (answer.status_code, answer.json()["errors"]) == (404, {"path": [text]})
    assert (await fetch(hub.url + "/api/v1/openapi.json")).status_code == 200
    assert "errors" not in (await fetch(hub.url + "/index.html")).json()


async def test_the_hub_tells_its_health(hub: Hub) -> None:
    """Liveness and readiness are public."""
    live, ready = await fetch(hub.url + "/health/live"), await fetch(hub.url + "/health/ready")
    assert (live.status_code, live.json()) == (200, {"ok": True})
    assert (ready.status_code, ready.json()) == (200, {"ok": True})


@pytest.mark.gate("sqlite", "mongodb")
async def test_the_metrics_count(hub: Hub, user: Client, store: str) -> None:
    """They count requests by operation and status, their time, requests in progress, and changes of the feed."""

    async def samples() -> dict[tuple[str, ...], float]:
        answer = await fetch(hub.url + "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.text)
        return {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}

    before = await samples()
    for n in range(3):
        await user.make(store, n=n)
    await user.get(f"/{store}/x")

    async def counted() -> dict[tuple[str, ...], float] | None:
        now = await samples()
        return now if now.get(("hub_changes_total", "insert", store)) == 3 else None

    after = await eventually(counted)
    assert after is not None
    expected: dict[tuple[str, ...], int] = {
        ("hub_requests_total", "200", "create"): 3,
        ("hub_requests_total", "404", "get"): 1,
        ("hub_request_seconds_count", "create"): 3,
    }
    for name, more in expected.items():
        assert after[name] - before.get(name, 0) == more
    assert after[("hub_requests_in_progress",)] >= 1


async def test_the_metrics_tell_of_consumers_of_the_feed(hub: Hub) -> None:
    """They show the consumers' lag, and stopped consumers, of which there are none here."""
    answer = await fetch(hub.url + "/metrics")
    samples = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    assert "hub_consumer_lag_seconds" in samples
    assert samples["hub_consumer_stopped"] == []


async def test_every_answer_has_a_request_id_and_is_for_its_caller_alone(hub: Hub, user: Client, store: str) -> None:
    """The caller's id is used if it is one word, otherwise a new one. This includes errors, 304 and health checks."""
    made = await user.make(store)
    path = f"/{store}/{made['_id']}"
    answers = [
        await user.get(path),
        await user.get(path, if_none_match="*"),
        await user.get("/nowhere"),
        await user.request("PUT", f"/{store}"),
        await hub.client().get(path),
        await fetch(hub.url + "/health/live"),
        await fetch(hub.url + "/nowhere"),
        await user.get(path, x_request_id="two words"),
        await user.get(path, x_request_id="x" * 101),
    ]
    assert len({a.headers["x-request-id"] for a in answers}) == len(answers)
    for answer in answers:
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await user.get(path, x_request_id="abc-123")).headers["x-request-id"] == "abc-123"
    several = [("X-Request-Id", "two words"), ("X-Request-Id", "abc-123"), ("X-Request-Id", "b")]
    assert (await user.http.get(path, headers=several)).headers["x-request-id"] == "abc-123"


async def test_what_is_outside_the_api_is_404_too(hub: Hub) -> None:
    """The answer has the same envelope."""
    for path in ("/nowhere", "/api", "/api/v2/units", "/api/v1x", "/..", "/health/dead", "/x%0Ay"):
        refused(await fetch(hub.url + path), 404)


async def test_the_api_document_lists_every_call(hub: Hub, store: str) -> None:
    """It is an OpenAPI 3 document with the paths of the API."""
    document = good(await hub.admin.get("/openapi.json"))
    assert document["openapi"].startswith("3.")
    assert "/api/v1/auth" in document["paths"]


async def test_the_log_is_json_without_secrets(hub: Hub, store: str) -> None:
    """It has one object per line and request, without password, token, cookie, body or query string."""
    user = await hub.as_user(password=PASSWORD)
    session = await hub.as_session(user.user["login"], PASSWORD)
    token = await hub.token_of(user.user["login"], PASSWORD)
    id = unique("request")
    await session.get(f"/{store}?name=confidential", x_request_id=id)
    await user.post(f"/{store}", {"title": "confidential"})
    await hub.client(token).get(f"/{store}")
    await hub.client("wrong-" + token).get(f"/{store}")
    await hub.client().post("/auth", {"login": user.user["login"], "password": "confidential"})
    await user.send("POST", f"/{store}", b'{"confidential')

    async def logged() -> list[dict[str, Any]]:
        return [record for record in hub.process.records() if record.get("request_id") == id]

    [line] = await eventually(logged)
    assert line.items() >= {"method": "GET", "path": f"/api/v1/{store}", "status": 200, "level": "info"}.items()
    assert line.keys() >= {"time", "level", "logger", "message", "ms"}
    log = hub.process.log
    hidden = [PASSWORD, token, token_of(user.http.headers), session.http.cookies["sid"], "confidential", "argon2"]
    for secret in [*hidden, hub.database.location.partition("?")[2] or "no query"]:
        assert secret not in log, secret[:8]


async def test_what_callers_do_wrong_is_no_error_of_the_hub(hub: Hub, user: Client, store: str) -> None:
    """304, 400, 401, 404, 405, 409, 410, 412 and 413 leave only their access line in the log."""
    path = f"/{store}/{(await user.make(store, code='a'))['_id']}"
    start = len(hub.process.log)
    statuses = [
        (await user.get(path, if_none_match="*")).status_code,
        (await user.post(f"/{store}", {"$a": 1})).status_code,
        (await hub.client().get(path)).status_code,
        (await user.get(path + "0")).status_code,
        (await user.request("PUT", f"/{store}")).status_code,
        (await user.post(f"/{store}", {"code": "a"})).status_code,
        (await user.get(f"/{store}?since=x")).status_code,
        (await user.patch(path, {}, if_match='"9"')).status_code,
        (await user.send("POST", f"/{store}", b" " * 2_000_000)).status_code,
    ]
    assert statuses == [304, 400, 401, 404, 405, 409, 410, 412, 413]
    await fetch(hub.url + "/health/live", x_request_id="the-end")
    await eventually(lambda: _log_until(hub, start, "the-end"))
    records = hub.process.records(start)
    assert {record["level"] for record in records} == {"info"}
    assert all("exception" not in record for record in records)


async def _log_until(hub: Hub, start: int, word: str) -> str:
    log = hub.process.log[start:]
    return log if word in log and log.endswith("\n") else ""


async def test_logins_are_limited_per_login_and_address(strict: Hub) -> None:
    """The fourth attempt is answered 429 with Retry-After, right or wrong, for a cookie or a token; other logins are
    not affected."""
    user, other = await strict.as_user(password=PASSWORD), await strict.as_user(password=PASSWORD)
    client = strict.client()
    wrong = {"login": user.user["login"], "password": "wrong password"}
    for path in ("/auth", "/auth/token", "/auth"):
        refused(await client.post(path, wrong), 401)
    for path in ("/auth", "/auth/token"):
        for password in ("wrong password", PASSWORD):
            answer = await client.post(path, wrong | {"password": password})
            refused(answer, 429)
            assert 1 <= int(answer.headers["retry-after"]) <= 120
    nobody = {"login": unique("nobody"), "password": "wrong password"}
    assert [(await client.post("/auth", nobody)).status_code for _ in range(4)] == [401, 401, 401, 429]
    good(await client.post("/auth", {"login": other.user["login"], "password": PASSWORD}))
    good(await user.get("/auth"))


async def test_a_right_password_clears_the_count(strict: Hub) -> None:
    """Repeatedly two mistakes and a success are no attack; concurrent guesses are counted all the same."""
    user = await strict.as_user(password=PASSWORD)
    client, login = strict.client(), user.user["login"]
    for password in ("wrong", "wrong", PASSWORD) * 2:
        status = (await client.post("/auth", {"login": login, "password": password})).status_code
        assert status == (200 if password == PASSWORD else 401)
    guesses = [client.post("/auth", {"login": login, "password": f"wrong {n}"}) for n in range(10)]
    statuses = sorted(a.status_code for a in await asyncio.gather(*guesses))
    assert statuses == [401] * 3 + [429] * 7


@pytest.fixture(scope="module")
async def session(strict: Hub) -> Client:
    """A user signed in with a cookie."""
    user = await strict.as_user(password=PASSWORD)
    return await strict.as_session(user.user["login"], PASSWORD)


@pytest.fixture(scope="module")
async def target(strict: Hub) -> str:
    return await strict.define(unique=["code"])


FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example.com"},
    {"Origin": "null"},
    {"Origin": "https://portal.example.com.evil.example.com"},
    {"Origin": "http://portal.example.com"},
    {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "nonsense"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_cookie_from_another_sites_page_writes_nothing(
    strict: Hub, session: Client, target: str, headers: dict[str, str]
) -> None:
    """Every unsafe method is answered 403; reads are allowed. A bearer token is accepted from any page."""
    made = await session.make(target, n=1)
    one = f"/{target}/{made['_id']}"
    for method, path in (
        ("POST", f"/{target}"),
        ("PATCH", one),
        ("PUT", one),
        ("PUT", one + "/access"),
        ("DELETE", one),
        ("PATCH", f"/{target}?n=1"),
        ("DELETE", f"/{target}?n=1"),
        ("DELETE", "/auth"),
    ):
        errors = refused(await session.request(method, path, json={}, headers=headers), 403, "Origin")
        assert "HUB_TRUSTED_ORIGINS" in str(errors)
    assert await session.see(target, made["_id"]) == made
    assert (await session.request("GET", one, headers=headers)).status_code == 200
    bearer = await strict.with_token(session.user)
    assert (await bearer.request("PATCH", one, json={"n": 2}, headers=headers)).status_code == 200
    both = {**headers, "Authorization": f"Bearer {token_of(bearer.http.headers)}"}
    assert (await session.request("PATCH", one, json={"n": 3}, headers=both)).status_code == 200


async def test_a_cookie_from_our_own_or_a_trusted_page_writes(strict: Hub, session: Client, target: str) -> None:
    """Accepted are the same origin, clients other than browsers, and the origins in the settings."""
    for headers in (
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": strict.url},
        {"Origin": strict.url, "Sec-Fetch-Site": "same-origin"},
        {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site"},
    ):
        assert (await session.request("POST", f"/{target}", json={}, headers=headers)).status_code == 200, headers


async def test_another_site_cannot_sign_its_visitors_in(strict: Hub) -> None:
    """A cross-site sign-in sets no cookie."""
    user = await strict.as_user(password=PASSWORD)
    login = {"login": user.user["login"], "password": PASSWORD}
    answer = await strict.client().request("POST", "/auth", json=login, headers={"Sec-Fetch-Site": "cross-site"})
    refused(answer, 403, "Origin")
    assert "set-cookie" not in answer.headers


async def test_a_trusted_page_may_ask(strict: Hub, session: Client, target: str) -> None:
    """A preflight allows credentials for an origin in the settings; for other origins it succeeds without them."""
    preflight = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    passed = await strict.client().request("OPTIONS", f"/{target}", headers={"Origin": TRUSTED, **preflight})
    assert passed.status_code == 200
    assert passed.headers["access-control-allow-origin"] == TRUSTED
    assert passed.headers["access-control-allow-credentials"] == "true"
    answer = await session.request("GET", f"/{target}", headers={"Origin": TRUSTED})
    assert answer.headers["access-control-allow-origin"] == TRUSTED
    assert "X-Position" in answer.headers["access-control-expose-headers"]
    stranger = {"Origin": "https://evil.example.com"}
    refused_one = await strict.client().request("OPTIONS", f"/{target}", headers={**stranger, **preflight})
    for other in (refused_one, await session.request("GET", f"/{target}", headers=stranger)):
        assert other.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in other.headers


async def test_the_hub_may_open_as_many_files_as_the_system_allows(spare: Database, tmp_path: Path) -> None:
    """It raises the usual soft limit to the hard limit when it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, before[1] - 1), before[1]))
    try:
        async with running_hub(spare, tmp_path / "hub") as hub:
            assert resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.engine("sqlite")
async def test_few_open_files_are_for_connections_and_long_lists(tmp_path: Path) -> None:
    """The hub logs the number of connections that it has files for, and accepts them. Long lists without a file are
    answered 503."""
    folder = tmp_path / "hub"
    process = await asyncio.to_thread(start_with_few_files, sqlite_database(tmp_path), folder)
    try:
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).decode().split()[4]
        assert "there is room for 40 connections" in (folder / LOG).read_text()
        admin = Client(url)
        signed_in = await admin.post("/auth/token", {"login": ADMIN_LOGIN, "password": ADMIN_PASSWORD})
        admin.http.headers["authorization"] = f"Bearer {signed_in.json()['token']}"
        await admin.make("stores", name="notes")
        await admin.make_all("notes", [{"text": "x" * 4_000} for _ in range(2_000)])
        async with AsyncExitStack() as stack:
            lists = [await stack.enter_async_context(wire(int(url.rpartition(":")[2]))) for _ in range(30)]
            for one in lists:
                await one.send(request("GET", "/notes", token_of(admin.http.headers)))
            assert {(await one.head())[0] for one in lists} == {200, 503}
        await admin.close()
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate)
    assert "Traceback" not in (folder / LOG).read_text()


def start_with_few_files(database: Database, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    command = ["sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *HUB, "serve"]
    settings = environment(database, folder, {})
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(command, env=settings, cwd=folder, stdout=subprocess.PIPE, stderr=log)


async def test_too_many_requests_at_once_are_turned_away(spare: Database, tmp_path: Path) -> None:
    """Beyond the limit the answer is 503 with Retry-After. The liveness check still succeeds, and afterwards requests
    work again."""
    async with running_hub(spare, tmp_path, max_requests=4) as hub, AsyncExitStack() as stack:
        store = await hub.define()
        connections = [await stack.enter_async_context(wire(hub.process.port)) for _ in range(12)]
        hub.process.process.send_signal(signal.SIGSTOP)  # so that it reads all requests at once
        for connection in connections:
            create = request("POST", f"/{store}", token_of(hub.admin.http.headers), "Content-Length: 7")
            await connection.send(create + b'{"n":1}')
        hub.process.process.send_signal(signal.SIGCONT)
        answers = [await connection.answer() for connection in connections]
        turned_away = [answer for answer in answers if answer.status == 503]
        assert turned_away
        for answer in turned_away:
            assert answer.json()["tags"] == ["error_service_unavailable"]
            assert int(answer.headers["retry-after"]) >= 1
        assert (await fetch(hub.url + "/health/live")).status_code == 200
        assert len(await hub.admin.list(store)) == len(answers) - len(turned_away) >= 2


async def test_a_request_that_waits_for_its_client_keeps_nobody_out(spare: Database, tmp_path: Path) -> None:
    """The limit counts requests in progress, not those whose bodies have not arrived yet."""
    async with running_hub(spare, tmp_path, max_requests=1) as hub:
        store = await hub.define()
        async with wire(hub.process.port) as one, wire(hub.process.port) as two:
            await begin(one, hub.admin, store, 7)
            await begin(two, hub.admin, store, 7)
            assert await hub.admin.list(store) == []
            for connection in (one, two):
                await connection.send(b'{"n":1}')
                assert (await connection.answer()).status == 200
        assert len(await hub.admin.list(store)) == 2


async def test_a_slow_body_is_not_waited_for(strict: Hub, target: str) -> None:
    """The answer is 408 after the timeout; nothing is written, and other requests are not delayed."""
    client = await strict.as_user()
    started = now_ms()
    async with wire(strict.process.port) as slow:
        await slow.send(request("POST", f"/{target}", token_of(client.http.headers), "Content-Length: 100"))
        await slow.send(b'{"n":')
        assert await client.list(target) == []
        answer = await slow.answer()
        assert answer.status == 408
        assert answer.json() == {
            "success": False,
            "code": "408",
            "message": "Request Timeout",
            "tags": ["error_request_timeout"],
        }
        assert answer.headers["x-request-id"]
        await slow.closed()
    assert 900 <= now_ms() - started < 20_000
    assert await client.list(target) == []


async def test_a_caller_who_hangs_up_leaves_nothing(strict: Hub, target: str) -> None:
    """A disconnection in the middle of a body leaves no entity and no traceback in the log."""
    client = await strict.as_user()
    for _ in range(5):
        async with wire(strict.process.port) as connection:
            head = request("POST", f"/{target}", token_of(client.http.headers), "Content-Length: 100", EXPECT)
            await connection.send(head)
            assert (await connection.head())[0] == 100
            await connection.send(b'{"n":')
    assert await client.list(target) == []
    assert "Traceback" not in strict.process.log


EXPECT = "Expect: 100-continue"
"""The hub answers ``100 Continue`` when it begins to read the body, so a test knows that the request is in progress."""


async def begin(connection: Wire, client: Client, store: str, length: int) -> None:
    """Send the head of a POST and wait until the hub reads its body."""
    head = request("POST", f"/{store}", token_of(client.http.headers), f"Content-Length: {length}", EXPECT)
    await connection.send(head)
    assert (await connection.head())[0] == 100


async def refuses(port: int) -> bool:
    try:
        async with wire(port):
            return False
    except ConnectionRefusedError:
        return True


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_stop_lets_a_running_request_finish(spare: Database, tmp_path: Path) -> None:
    """After SIGTERM the hub accepts no connections. Running requests are answered, and stored for the next start."""
    async with running_hub(spare, tmp_path) as hub:
        store = await hub.define()
        async with wire(hub.process.port) as connection:
            await begin(connection, hub.admin, store, 7)
            hub.process.process.send_signal(signal.SIGTERM)
            await eventually(lambda: refuses(hub.process.port))
            assert hub.process.process.poll() is None
            await connection.send(b'{"n":1}')
            answer = await connection.answer()
            assert (answer.status, answer.json()["n"]) == (200, 1)
        assert await asyncio.to_thread(hub.process.wait) == 0
        assert "Traceback" not in hub.process.log
        assert not (tmp_path / "hub.json").exists()
    async with running_hub(spare, tmp_path) as hub:
        assert [e["n"] for e in await hub.admin.list(store)] == [1]


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_stop_does_not_wait_forever(spare: Database, tmp_path: Path) -> None:
    """A request that does not end is cut off after the timeout."""
    async with running_hub(spare, tmp_path, shutdown_grace=1) as hub:
        store = await hub.define()
        async with wire(hub.process.port) as connection:
            await begin(connection, hub.admin, store, 7)
            started = now_ms()
            await asyncio.to_thread(hub.process.stop)
            assert 900 <= now_ms() - started < 15_000


def test_a_stop_ends_the_process_although_something_does_not_end(tmp_path: Path) -> None:
    settings = {"HUB_DATA_DIR": str(tmp_path), "HUB_PORT": "0", "HUB_SHUTDOWN_GRACE": "1"}
    command = [sys.executable, "-m", "tests.programs.stuck_hub"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        while "hub is live" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the hub does not end" in errors


@pytest.mark.gate("sqlite", "mongodb")
async def test_what_was_answered_survives_a_kill(spare: Database, tmp_path: Path) -> None:
    """After SIGKILL during writes every acknowledged entity exists completely, and so does its change."""
    async with running_hub(spare, tmp_path) as hub:
        store = await hub.define()
        start = (await hub.admin.get(f"/{store}")).headers["x-position"]
        answered: list[str] = []
        writers = [asyncio.create_task(keep_writing(hub.admin, store, answered)) for _ in range(8)]
        await eventually(lambda: _at_least(answered, 60))
        await asyncio.to_thread(hub.process.stop, signal.SIGKILL)
        await asyncio.gather(*writers)
    async with running_hub(spare, tmp_path) as hub:
        entities = {e["_id"] for e in await hub.admin.list(store)}
        assert set(answered) <= entities
        changes = good(await hub.admin.get(f"/{store}?since={start}"))["changes"]
        assert {c["_id"] for c in changes} == entities
        assert [c["_rev"] for c in changes] == [1] * len(entities)


async def _at_least(found: list[str], count: int) -> bool:
    return len(found) >= count


async def keep_writing(client: Client, store: str, answered: list[str]) -> None:
    """Create entities until the hub has stopped, and collect the ids of acknowledged ones in `answered`."""
    while True:
        try:
            answered.append(entity_of(await client.post(f"/{store}", {"n": 1}))["_id"])
        except httpx.TransportError:
            return


async def test_settings_that_cannot_be_are_refused(spare: Database, tmp_path: Path) -> None:
    """The hub does not start, and gives the reason in one line, without a traceback."""
    for settings in ({"port": "70000"}, {"database_url": "redis://localhost"}):
        with pytest.raises(RuntimeError) as failure:
            async with running_hub(spare, tmp_path, **settings):
                pass
        assert "Traceback" not in str(failure.value)
        assert "did not start" in str(failure.value)
