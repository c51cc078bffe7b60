"""The PocketBase of the comparison enforces its rules, and answers what the benchmark expects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from benchmarks import deliveries
from benchmarks.data import READINGS, WRITES, body
from benchmarks.peers import BULK, BULK_CREATE, CREATE, FILTERED, LIST, READ, SORTED, Subject
from benchmarks.pocketbase import Account, creations, records, running_pocketbase
from benchmarks.processes import Cores

pytestmark = [
    pytest.mark.full,
    pytest.mark.engine("sqlite"),
    pytest.mark.timeout(400),
]  # the first time it is installed

ENTITIES = 1_500


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Subject, Account]]:
    with running_pocketbase(Cores(), ENTITIES) as found:
        yield found


@pytest.fixture
def subject(running: tuple[Subject, Account]) -> Subject:
    return running[0]


@pytest.fixture
def visitor(running: tuple[Subject, Account]) -> Iterator[httpx.Client]:
    """A client of another user."""
    with running[1].client() as client:
        yield client


@pytest.fixture
def http(subject: Subject) -> Iterator[httpx.Client]:
    """A client without credentials."""
    host, port = subject.address
    with httpx.Client(base_url=f"http://{host}:{port}/", trust_env=False, timeout=30) as client:
        yield client


def send(http: httpx.Client, request: bytes) -> httpx.Response:
    """Send a request of the benchmark."""
    head, _, content = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split()
    return http.request(method, path, headers=dict(line.split(": ", 1) for line in lines), content=content)


@pytest.mark.parametrize(("operation", "length", "order"), [(LIST, 100, ""), (FILTERED, 3, ""), (SORTED, 3, "value")])
def test_a_list_holds_what_its_user_owns(
    subject: Subject, http: httpx.Client, visitor: httpx.Client, operation: str, length: int, order: str
) -> None:
    """It has the records that the benchmark expects, in order. The lists of another user and of nobody are empty."""
    request = subject.requests[operation][0]
    items = send(http, request).raise_for_status().json()["items"]
    assert len(items) == length
    found = [each[order or "serial"] for each in items]
    assert found == sorted(found, reverse=operation == SORTED)
    if operation != LIST:
        assert {each["station"] for each in items} == {"station-0000"}
    assert body(items[0]["serial"]).items() <= items[0].items()
    path = request.split()[1].decode()
    assert http.get(path).json()["items"] == visitor.get(path).json()["items"] == []


def test_a_record_is_read_by_its_owner_alone(subject: Subject, http: httpx.Client, visitor: httpx.Client) -> None:
    request = subject.requests[READ][0]
    path = request.split()[1].decode()
    assert send(http, request).json()["id"] == path.rpartition("/")[2]
    assert (http.get(path).status_code, visitor.get(path).status_code) == (404, 404)


def test_what_is_created_is_checked_one_by_one(subject: Subject, http: httpx.Client, visitor: httpx.Client) -> None:
    """A record of somebody else is refused, and a batch with one is refused as a whole."""
    created = send(http, subject.requests[CREATE][0]).raise_for_status().json()
    others = {key: created[key] for key in (*body(0), "owner")}

    def count() -> Any:
        listed = subject.requests[LIST][0].replace(READINGS.encode(), WRITES.encode())
        return send(http, listed.replace(b"skipTotal=1", b"skipTotal=0")).json()["totalItems"]

    before = count()
    for path, content in (records(WRITES), others), ("api/batch", creations([others], WRITES)):
        assert (visitor.post(path, json=content).status_code, http.post(path, json=content).status_code) == (400, 400)
    assert count() == before
    answer = send(http, subject.requests[BULK_CREATE][0]).raise_for_status()
    assert [each["status"] for each in orjson.loads(answer.content)] == [200] * BULK
    assert count() == before + BULK


async def test_every_client_receives_every_change(subject: Subject) -> None:
    assert subject.live is not None
    await deliveries.join(subject.live, 0.0)
    run = await deliveries.deliver(subject.live, 40)
    assert (run.faults, run.deliveries) == ([], 40 * deliveries.LIVE_CLIENTS)
    subject.live.pool.leave()
