"""The transport of tests with very many requests (`tests/support/direct_http.py`)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.direct_http import DirectTransport
from tests.support.hub import PATIENCE, Client, Hub, StartHub


@pytest.fixture(scope="module")
async def hub(sqlite_hub: StartHub) -> Hub:
    return await sqlite_hub()


@pytest.fixture
async def direct(hub: Hub) -> AsyncIterator[Client]:
    """The administrator, over the transport."""
    client = Client(hub.url, dict(hub.admin.http.headers), hub.admin.user, DirectTransport(PATIENCE))
    yield client
    await client.close()


def shown(answer: httpx.Response) -> tuple[int, list[str], bytes]:
    """Return what does not differ between two answers to the same request."""
    return answer.status_code, sorted(answer.headers.keys()), answer.content


async def test_answers_are_those_that_httpx_gets(hub: Hub, direct: Client) -> None:
    """Short, refused, without a body, and longer than what arrives at once."""
    store = await hub.define()
    made = await direct.make_all(store, [{"name": "n" * 100}] * 5_000)
    assert len(made) == 5_000
    for path in (f"/{store}", f"/{store}?limit=1", f"/{store}?sort=", "/nothing"):
        assert shown(await direct.get(path)) == shown(await hub.admin.get(path))
    path = f"/{store}/{made[0]['_id']}"
    match = (await direct.get(path)).headers["etag"]
    same = await direct.get(path, if_none_match=match)
    assert shown(same) == shown(await hub.admin.get(path, if_none_match=match))
    assert same.status_code == 304


async def test_requests_at_once_get_their_own_answers(hub: Hub, direct: Client) -> None:
    store = await hub.define()
    made = await direct.make_all(store, [{"n": n} for n in range(50)])
    found = await asyncio.gather(*(direct.see(store, each["_id"]) for each in made))
    assert found == made


async def test_a_hub_that_is_gone_is_an_error_of_httpx(sqlite_hub: StartHub) -> None:
    hub = await sqlite_hub()
    async with httpx.AsyncClient(transport=DirectTransport(PATIENCE), base_url=hub.url) as http:
        assert (await http.get("/health/live")).status_code == 200
        await asyncio.to_thread(hub.process.stop, signal.SIGKILL)
        with pytest.raises(httpx.ConnectError):
            await http.get("/health/live")
