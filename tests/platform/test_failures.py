"""Failures below the hub: an unavailable database, a full disk, a history that is gone."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.http.failures import FailureLog
from tests.platform.answers import good, refused
from tests.support import mongod
from tests.support.engines import mongo_database, sqlite_database
from tests.support.hub import Client, Hub, entity_of, environment, eventually, fetch, running_hub
from tests.support.program import HUB


async def ready(hub: Hub) -> httpx.Response:
    return await fetch(hub.url + "/health/ready")


def away(answer: httpx.Response) -> None:
    """Check a 503 with Retry-After, which does not name the cause."""
    refused(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    for inside in ("mongo", "pymongo", "Timeout", "Error", "127.0.0.1", "sqlite"):
        assert inside not in answer.text


@asynccontextmanager
async def hub_on_restartable_mongodb(folder: Path) -> AsyncIterator[tuple[mongod.Restartable, Hub]]:
    async with (
        mongod.restartable(folder / "mongod") as server,
        running_hub(mongo_database(server.url), folder / "hub") as hub,
    ):
        yield server, hub


@pytest.mark.engine("mongodb")
async def test_a_lost_mongodb_is_503_until_it_is_back(tmp_path: Path) -> None:
    """All calls and the readiness check are answered 503. The hub keeps running and recovers when the database
    returns."""
    async with hub_on_restartable_mongodb(tmp_path) as (server, hub):
        store = await hub.define()
        made = await hub.admin.make(store, n=1)
        start = (await hub.admin.get(f"/{store}")).headers["x-position"]
        await asyncio.to_thread(server.stop)
        await check_away(hub, store, made["_id"])
        await asyncio.to_thread(server.start_again)
        await eventually(lambda: is_ready(hub))
        assert await hub.admin.list(store) == [made]
        new = await hub.admin.make(store, n=2)
        changes = good(await hub.admin.get(f"/{store}?since={start}"))["changes"]
        assert [c["entity"] for c in changes] == [new]
        await eventually(lambda: follows(hub, store))


@pytest.mark.engine("mongodb")
async def test_a_database_that_is_away_is_a_line_in_the_log(tmp_path: Path) -> None:
    """The log has one line with the cause, a request and the number of others, not a traceback for each request."""
    async with hub_on_restartable_mongodb(tmp_path) as (server, hub):
        store = await hub.define()
        id = (await hub.admin.make(store, n=1))["_id"]
        await asyncio.to_thread(server.stop)
        requests = 40
        answers = await asyncio.gather(*(hub.admin.get(f"/{store}/{id}") for _ in range(requests)))
        assert {answer.status_code for answer in answers} == {503}
        lines = failures(hub)
        assert any("503: the database does not answer" in line for line in lines), hub.process.log[-3_000:]
        assert len(lines) < requests / 2
        assert any(f"request {answer.headers['x-request-id']} failed" in line for line in lines for answer in answers)
        assert "Traceback" not in hub.process.log


@pytest.mark.full
@pytest.mark.engine("mongodb")
async def test_a_long_list_that_loses_the_database_is_a_line_in_the_log(tmp_path: Path) -> None:
    """The answer is cut off, because its status was already sent."""
    async with hub_on_restartable_mongodb(tmp_path) as (server, hub):
        store = await hub.define()
        for _ in range(4):
            await hub.admin.make_all(store, [{"text": "x" * 20_000} for _ in range(500)])
        async with hub.admin.http.stream("GET", f"/{store}") as answer:
            await asyncio.to_thread(server.stop)
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in answer.aiter_raw():
                    pass
        await eventually(lambda: has_failed(hub))
        assert "Traceback" not in hub.process.log


async def has_failed(hub: Hub) -> bool:
    return bool(failures(hub))


def failures(hub: Hub) -> list[str]:
    """Return the log's messages on failed requests."""
    return [record["message"] for record in hub.process.records() if record["logger"] == "hub.failures"]


async def is_ready(hub: Hub) -> bool:
    return (await ready(hub)).status_code == 200


async def follows(hub: Hub, store: str) -> bool:
    """Return whether the hub's feed continues: its metrics count a change made after the failure."""
    text = (await fetch(hub.url + "/metrics")).text
    return f'hub_changes_total{{op="insert",store="{store}"}} 2.0' in text


async def check_away(hub: Hub, store: str, id: str) -> None:
    path = f"/{store}/{id}"
    calls = [
        hub.admin.get(path),
        hub.admin.get(f"/{store}"),
        hub.admin.get(f"/{store}?meta=true"),
        hub.admin.get(path + "/history"),
        hub.admin.post(f"/{store}", {"n": 2}),
        hub.admin.patch(path, {"n": 2}),
        hub.admin.delete(path),
        hub.client().post("/auth", {"login": "admin", "password": "x"}),
        hub.client("unknown token").get(path),
    ]
    for answer in await asyncio.gather(*calls):
        away(answer)
    assert (await ready(hub)).status_code == 503
    assert (await fetch(hub.url + "/health/live")).status_code == 200
    refused(await hub.admin.get("/no-such-store"), 404)


@pytest.mark.engine("mongodb")
async def test_a_mongodb_that_is_no_replica_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub does not start, and gives advice."""
    monkeypatch.delenv("HUB_TEST_MONGODB_URL", raising=False)
    server = await asyncio.to_thread(mongod.start, "--standalone")
    try:
        with pytest.raises(RuntimeError, match="replica set") as failure:
            async with running_hub(mongo_database(server.url), tmp_path):
                pass
        assert "Traceback" not in str(failure.value)
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.engine("sqlite")
async def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Writes are answered 507 or 503, and reads still work. Refused writes appear in no list and no delta, and with
    free space writes work again."""
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub") as hub:
        store = await hub.define(unique=["code"])
        made = await hub.admin.make(store, code="a", n=1)
        start = (await hub.admin.get(f"/{store}")).headers["x-position"]
        with room(hub, tmp_path, 100_000):
            answers = list(await asyncio.gather(*(write(hub.admin, store) for _ in range(5))))
            answers.append(await hub.admin.post(f"/{store}", [{"code": "a", "n": 2}, big()], {"upsert": "code"}))
            for answer in answers:
                refused(answer, 507 if answer.status_code == 507 else 503)
            assert await hub.admin.list(store) == [made]
            assert good(await hub.admin.get(f"/{store}?since={start}"))["changes"] == []
        assert await hub.admin.list(store) == [made]
        changed = entity_of(await hub.admin.patch(f"/{store}/{made['_id']}", {"n": 2}))
        assert changed["_rev"] == 2
        assert (await write(hub.admin, store)).status_code == 200
        assert len(good(await hub.admin.get(f"/{store}?since={start}"))["changes"]) == 11
        assert "the disk is full" in hub.process.log
        assert "Traceback" not in hub.process.log


def test_a_defect_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    scope = {"method": "GET", "raw_path": b"/api/v1/units", "hub.request_id": b"abc"}
    log = FailureLog()
    for _ in range(2):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            log.note(scope, error)
    records = [record for record in caplog.records if record.name.startswith("hub.")]
    assert [record.getMessage() for record in records] == 2 * ["request abc failed: GET /api/v1/units"]
    assert all(record.exc_info for record in records)


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize("bytes_of_a_file", [0, 5_000, 40_000])
async def test_a_start_without_room_on_the_disk_says_so(tmp_path: Path, bytes_of_a_file: int) -> None:
    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    settings = environment(sqlite_database(tmp_path), tmp_path / "hub", {})
    process = await asyncio.to_thread(
        lambda: subprocess.run(
            [*HUB, "serve"], env=settings, cwd=tmp_path, capture_output=True, text=True, preexec_fn=fill, timeout=30
        )
    )
    assert process.returncode == 1
    assert not process.stdout
    [line] = process.stderr.splitlines()
    assert line.startswith(f"hub: cannot write to {tmp_path}")
    assert line.endswith("there is no room left on its disk")


def big() -> dict[str, Any]:
    return {"text": "x" * 500_000}


async def write(client: Client, store: str) -> httpx.Response:
    return await client.post(f"/{store}", [{"n": 5}] * 9 + [big()])


@contextmanager
def room(hub: Hub, folder: Path, more: int) -> Iterator[None]:
    """Limit the hub's files, while the block runs, to the size of the largest one plus `more` bytes."""
    most = max(file.stat().st_size for file in folder.glob("hub.db*")) + more
    before = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.engine("sqlite")
async def test_a_second_hub_on_one_file_is_refused(tmp_path: Path) -> None:
    """Its error names the process that has the file, and the first hub is not affected."""
    database = sqlite_database(tmp_path)
    async with running_hub(database, tmp_path / "one") as hub:
        with pytest.raises(RuntimeError, match=f"another hub .*{hub.process.pid}"):
            async with running_hub(database, tmp_path / "two"):
                pass
        assert (await ready(hub)).status_code == 200


@pytest.mark.engine("sqlite")
async def test_a_position_older_than_the_history_asks_for_a_fresh_start(tmp_path: Path) -> None:
    """The feed keeps a number of megabytes: an older position is answered 410, a later one works, and the history of
    entities stays."""
    settings = {"feed_retention_mb": 1, "sweep_interval": 1}
    async with running_hub(sqlite_database(tmp_path), tmp_path / "hub", **settings) as hub:
        store = await hub.define()
        made = await hub.admin.make(store, n=1)
        old = (await hub.admin.get(f"/{store}")).headers["x-position"]
        for _ in range(3):
            await hub.admin.make(store, text="x" * 900_000)

        async def gone() -> bool:
            return (await hub.admin.get(f"/{store}?since={old}")).status_code == 410

        await eventually(gone)
        refused(await hub.admin.get(f"/{store}?since={old}"), 410)
        new = (await hub.admin.get(f"/{store}?limit=0")).headers["x-position"]
        assert good(await hub.admin.get(f"/{store}?since={new}"))["changes"] == []
        entries = good(await hub.admin.get(f"/{store}/{made['_id']}/history"))["history"]
        assert [(e["op"], e["changes"]["n"]["new"]) for e in entries] == [("insert", 1)]
