"""Slow reads leave database connections and processor time to other requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.hostile.harness import P99, percentile, unharmed
from tests.support.engines import Database
from tests.support.hub import Client, Hub, fetch, running_hub

ENTITIES = 6_000
SLOW = {"limit": "10", "filter": json.dumps({"$or": [{"text": {"$contains": f"zz{n}"}} for n in range(300)]})}
"""A query without a match that takes some tenths of a second."""
ATTACKERS = 150


@pytest.fixture
async def narrow(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub with few database connections and a short wait for them."""
    options = "maxPoolSize=60&minPoolSize=50&waitQueueTimeoutMS=3000"
    location = f"{database.location}{'&' if '?' in database.location else '?'}{options}"
    async with running_hub(replace(database, location=location), tmp_path / "hub", read_timeout=5) as hub:
        yield hub


@pytest.mark.alone
@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.engine("mongodb")
async def test_many_slow_reads_leave_room_for_others(narrow: Hub) -> None:
    """They are answered, or refused for taking too long; no other request is refused."""
    store, other = await narrow.define(), await narrow.define()
    for _ in range(ENTITIES // 1_000):
        await narrow.admin.make_all(store, [{"text": "text that is searched in vain"} for _ in range(1_000)])
    id = (await narrow.admin.make(other, {"n": 0}))["_id"]
    attack = asyncio.gather(*(ask(narrow.admin, store) for _ in range(ATTACKERS)))
    number = 0
    while not attack.done():
        number += 1
        assert (await narrow.admin.patch(f"/{other}/{id}", {"n": number})).status_code == 200
        assert (await narrow.admin.see(other, id))["n"] == number
        assert [entity["n"] for entity in await narrow.admin.list(other)] == [number]
    assert number > 1
    for answer in await attack:
        assert answer.status_code in (200, 503), answer.text
        assert answer.status_code == 200 or list(answer.json()["errors"]) == ["query"], answer.text


@pytest.fixture
async def impatient(database: Database, tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(database, tmp_path / "hub", read_timeout=5, max_slow_reads_per_user=2) as hub:
        yield hub


@pytest.fixture
async def store(impatient: Hub) -> str:
    """A store with many entities."""
    store = await impatient.define()
    for _ in range(ENTITIES // 1_000):
        await impatient.admin.make_all(store, [{"text": "text that is searched in vain"} for _ in range(1_000)])
    return store


async def test_of_one_user_only_so_many_slow_reads_wait(impatient: Hub, store: str) -> None:
    """Further ones are refused for taking too long. Reads of other users continue, even those that need a thread."""
    user = await impatient.as_user()
    other = await impatient.define()
    await user.make_all(other, [{"n": n, "text": "some text"} for n in range(2_000)])
    attack = asyncio.gather(*(ask(impatient.admin, store) for _ in range(ATTACKERS)))
    number = 0
    while not attack.done():
        assert await user.list(other, {"text[contains]": "nothing like it"}) == []
        number += 1
    assert number > 20
    answers = await attack
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert list(answer.json()["errors"]) == ["query"]
    metrics = (await fetch(impatient.url + "/metrics")).text
    assert 'hub_limit_reached_total{limit="max_slow_reads_per_user"}' in metrics


@pytest.mark.alone
@pytest.mark.engine("sqlite")
async def test_slow_reads_of_one_user_do_not_hold_up_others(impatient: Hub, store: str) -> None:
    """This holds for fast reads and for reads of a few milliseconds, which need a thread."""
    user, other = await impatient.as_user(), await impatient.define()
    await user.make_all(other, [{"n": n, "text": "some text"} for n in range(2_000)])
    await asyncio.gather(*(ask(impatient.admin, store) for _ in range(10)))  # fills the caches
    times: list[float] = []
    async with unharmed(impatient):
        attack = asyncio.create_task(ask_one_after_the_other(impatient.admin, store))
        while not attack.done():
            began = time.perf_counter()
            assert await user.list(other, {"text[contains]": "nothing like it"}) == []
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)
        await attack
    assert percentile(times, 0.99) < P99, f"{percentile(times, 0.99):.3f} s of {len(times)}"


async def ask_one_after_the_other(client: Client, store: str) -> None:
    """Start the reads one after the other, because parsing all the filters at once takes time too."""
    async with asyncio.TaskGroup() as group:
        for _ in range(ATTACKERS):
            group.create_task(ask(client, store))
            await asyncio.sleep(0.03)


async def ask(client: Client, store: str) -> httpx.Response:
    return await client.http.get(f"/{store}", params=SLOW, timeout=60)
