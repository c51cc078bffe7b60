"""Bulk changes with costly filters leave the writes of others alone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.hostile.harness import check_log
from tests.support.engines import Database
from tests.support.hub import Client, Hub, eventually, running_hub
from tests.support.standstill import read_metrics

COSTLY = {"filter": json.dumps({"$or": [{"arr": {"$elemMatch": {"x": {"$gt": 10**6 + n}}}} for n in range(480)]})}
"""A filter without a match, which takes several times as long on the entities of `fill` as a read may take."""
ATTACKERS = 12
GRACE = 1
READ_TIMEOUT = 3


@pytest.fixture
async def hub(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", read_timeout=READ_TIMEOUT, max_slow_reads_per_user=2) as hub:
        yield hub


@pytest.fixture
async def patient(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub in which a read may take a minute."""
    async with running_hub(database, tmp_path / "hub", read_timeout=60, shutdown_grace=GRACE) as hub:
        yield hub


async def fill(store: str, client: Client) -> None:
    """Create large entities."""
    for _ in range(4):
        await client.make_all(store, [{"arr": [{"x": n, "y": "zzzzz"} for n in range(9_000)]} for _ in range(8)])


async def change(client: Client, store: str, method: str) -> httpx.Response:
    body = {"json": {"q": 1}} if method == "PATCH" else {}
    return await client.http.request(method, f"/{store}", params=COSTLY, timeout=120, **body)


@pytest.mark.parametrize("method", ["PATCH", pytest.param("DELETE", marks=pytest.mark.full)])
async def test_bulk_changes_with_costly_filters_hold_up_no_write(hub: Hub, method: str) -> None:
    """They are refused for taking too long. Meanwhile another user writes, to one entity and in bulk."""
    store, other = await hub.define(), await hub.define()
    attacker, user = await hub.as_user(), await hub.as_user()
    await fill(store, attacker)
    attack = asyncio.gather(*(change(attacker, store, method) for _ in range(ATTACKERS)))
    number, began = 0, time.monotonic()
    while not attack.done():
        number += 1
        made = await user.make(other, {"n": number})
        answer = await user.patch(f"/{other}", {"changed": number}, {"n": str(number)})
        assert answer.json()["count"] == 1, answer.text
        assert (await user.see(other, made["_id"]))["changed"] == number
    # There are hundreds. If each write waited for a costly search, there would be two or three.
    assert number > 2 * (time.monotonic() - began) / READ_TIMEOUT
    for answer in await attack:
        assert answer.status_code == 503, answer.text
        assert list(answer.json()["errors"]) in (["query"], ["body"]), answer.text


def matching(terms: int) -> dict[str, str]:
    """Return a filter that every entity of `fill` matches. To find that out takes seconds for 100 terms."""
    return {"filter": json.dumps({"$nor": [{"arr": {"$elemMatch": {"x": {"$gt": 10**6 + n}}}} for n in range(terms)]})}


async def test_a_bulk_change_whose_client_has_gone_is_given_up(patient: Hub) -> None:
    """It changes nothing, and the request ends long before the change would."""
    store = await patient.define()
    await fill(store, patient.admin)
    asked = patient.admin.http.patch(f"/{store}", params=matching(480), json={"q": 1})
    request = asyncio.create_task(asked)
    await eventually(lambda: is_idle(patient, but_for=1))
    request.cancel()
    await eventually(lambda: is_idle(patient))
    assert await patient.admin.list(store, {"q": "1"}) == []


@pytest.mark.gate("mongodb")  # which finds the entities sooner
async def test_a_client_that_has_ended_its_sending_side_only_is_answered(patient: Hub) -> None:
    """The hub finds out that it still reads, by interim answers."""
    store = await patient.define()
    await fill(store, patient.admin)
    request = patient.admin.http.build_request("PATCH", f"/{store}", params=matching(100), json={"q": 1})
    lines = [f"PATCH {request.url.raw_path.decode()} HTTP/1.1", *(f"{n}: {v}" for n, v in request.headers.items())]
    reader, writer = await asyncio.open_connection("127.0.0.1", patient.process.port)
    writer.write("\r\n".join([*lines, "", ""]).encode() + request.content)
    writer.write_eof()
    answers = (await asyncio.wait_for(reader.read(), 60)).split(b"HTTP/1.1 ")[1:]
    writer.close()
    assert {answer[:3] for answer in answers[:-1]} <= {b"100"}
    assert answers[-1][:3] == b"200", answers[-1]
    assert json.loads(answers[-1].partition(b"\r\n\r\n")[2])["count"] == 32


async def is_idle(hub: Hub, but_for: int = 0) -> bool:
    """Return whether there are `but_for` requests beside the one for the metrics."""
    return (await read_metrics(hub.url)).value("hub_requests_in_progress") == 1 + but_for


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize("method", [pytest.param("PATCH", marks=pytest.mark.full), "DELETE"])
async def test_a_stop_does_not_wait_for_costly_filters(patient: Hub, method: str) -> None:
    """Whether they wait or run, for a reader or for the writer: after its grace period the hub ends."""
    store = await patient.define()
    users = [await patient.as_user() for _ in range(3)]
    for user in users:
        await fill(store, user)
    attack = [asyncio.create_task(change(user, store, method)) for user in users for _ in range(ATTACKERS)]
    reads = [asyncio.create_task(user.http.get(f"/{store}", params=COSTLY, timeout=120)) for user in users]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    assert await asyncio.to_thread(patient.process.stop) == 0
    assert time.monotonic() - began < GRACE + 20  # one search takes longer: 50 s on two cores
    outcomes = await asyncio.gather(*attack, *reads, return_exceptions=True)
    assert all(isinstance(outcome, httpx.HTTPError) or outcome.status_code == 503 for outcome in outcomes)
    check_log(patient.process.log, ())
