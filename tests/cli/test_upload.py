"""Retries of uploads: only requests that cannot write twice, only during short outages, and a limited number of
times."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import pytest

from hub.cli import upload as upload_module
from hub.cli.client import Client, Refused, Unreachable
from hub.cli.rows import Row
from hub.cli.tables import Refusal
from hub.cli.upload import MAX_TRIES, Upload

ROWS = [Row(number, b'{"n":%d}' % number) for number in (1, 2, 5)]
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that an upload would have made."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # Not of asyncio itself: background tasks of other tests sleep too.
    monkeypatch.setattr(upload_module, "asyncio", SimpleNamespace(sleep=sleep))
    return slept


def upload(handler: Handler, key: str | None) -> Upload:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://hub")
    return Upload(Client(http), "units", key, 1_000, lambda _: None)


def failing(times: int, failure: Handler) -> tuple[Handler, list[bytes]]:
    """Return a hub that fails so many times before it answers, and the list of bodies that it receives."""
    bodies: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return failure(request) if len(bodies) <= times else httpx.Response(200, json={})

    return handle, bodies


def away(_: httpx.Request) -> httpx.Response:
    return httpx.Response(503, json={"message": "Service Unavailable"})


def lost(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset", request=request)


@pytest.mark.parametrize("failure", [away, lost])
async def test_an_upsert_waits_for_the_hub(failure: Handler, pauses: list[float]) -> None:
    handler, bodies = failing(3, failure)
    sending = upload(handler, "n")
    await sending.send(ROWS)
    assert (sending.imported, sending.reached) == (3, 5)
    assert bodies == [b'[{"n":1},{"n":2},{"n":5}]'] * 4
    assert pauses == [0.5, 1, 2]


@pytest.mark.parametrize(("failure", "error"), [(away, Refused), (lost, Unreachable)])
async def test_an_upsert_does_not_wait_for_ever(failure: Handler, error: type[Exception], pauses: list[float]) -> None:
    handler, bodies = failing(100, failure)
    sending = upload(handler, "n")
    with pytest.raises(error):
        await sending.send(ROWS)
    assert len(bodies) == MAX_TRIES
    assert sum(pauses) < 20
    assert (sending.imported, sending.reached) == (0, 0)


@pytest.mark.parametrize(("failure", "error"), [(away, Refused), (lost, Unreachable)])
async def test_an_insert_is_never_sent_twice(failure: Handler, error: type[Exception], pauses: list[float]) -> None:
    handler, bodies = failing(1, failure)
    with pytest.raises(error):
        await upload(handler, None).send(ROWS)
    assert len(bodies) == 1
    assert pauses == []


@pytest.mark.parametrize("status", [401, 403, 404, 500, 507])
async def test_an_answer_that_is_not_about_rows_ends_the_upload(status: int) -> None:
    handler, bodies = failing(100, lambda _: httpx.Response(status, json={"message": "no"}))
    with pytest.raises(Refused, match="no"):
        await upload(handler, "n").send(ROWS)
    assert len(bodies) == 1


async def test_a_hub_that_keeps_no_serial_numbers_ends_the_upload() -> None:
    """An older one refuses the parameter. Its rows are not to blame."""
    answer = {"message": "Bad Request", "errors": {"keep": ["unknown parameter keep"]}}
    handler, bodies = failing(100, lambda _: httpx.Response(400, json=answer))
    sending = upload(handler, None)
    sending.params = {"keep": "serials"}
    with pytest.raises(Refused, match="unknown parameter keep"):
        await sending.send(ROWS)
    assert len(bodies) == 1


async def test_a_file_full_of_conflicts_costs_little() -> None:
    sent = 0

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += len(json.loads(request.content))
        return httpx.Response(409, json={"errors": {"0.n": ["Taken."]}})

    refused: list[Refusal] = []
    sending = upload(handle, None)
    sending.refuse = refused.extend
    rows = [Row(number, b"{}") for number in range(1, 1_001)]
    await sending.send(rows)
    assert [refusal.number for refusal in refused] == list(range(1, 1_001))
    assert sent < 3 * len(rows)


async def test_a_conflict_that_names_no_row_is_found_by_halving() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        conflict = b'{"n":2}' in request.content
        return httpx.Response(409, json={"errors": {"n": ["Taken."]}}) if conflict else httpx.Response(200, json={})

    refused: list[Refusal] = []
    sending = upload(handle, None)
    sending.refuse = refused.extend
    await sending.send(ROWS)
    assert refused == [Refusal(2, "n", "Taken.")]
    assert (sending.imported, sending.reached) == (2, 5)
