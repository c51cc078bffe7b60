"""Long lists whose client does not read hold little memory, and each user has a limit on them."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from pymongo import AsyncMongoClient

from stores.mongo.sizes import Sizes
from tests.hostile.harness import resident
from tests.platform.raw import request, wire
from tests.support.hub import Client, Hub, eventually
from tests.support.standstill import no_standstill, read_metrics

MOST = 32


async def test_one_user_reads_so_many_long_lists_at_once(hub: Hub) -> None:
    """Beyond the limit the answer is 429, for this user only. Each unread list holds at most 2 MiB (6 MiB on MongoDB),
    and its place is free after its end."""
    user, other = await hub.as_user(), await hub.as_user()
    store = await hub.define()
    for _ in range(4):
        await user.make_all(store, [{"n": n, "text": "x" * 6_000} for n in range(1_000)])
    token = user.http.headers["authorization"].removeprefix("Bearer ")
    assert len(await user.list(store)) == 4_000
    before = resident(hub.process.pid)
    async with no_standstill(hub.url), AsyncExitStack() as stack:
        for _ in range(MOST):
            raw = await stack.enter_async_context(wire(hub.process.port))
            await raw.send(request("GET", f"/{store}", token))
            assert (await raw.head())[0] == 200
        refusal = await user.get(f"/{store}")
        assert refusal.status_code == 429
        assert refusal.headers["retry-after"]
        assert (await user.get(f"/{store}", {"limit": "5"})).status_code == 200
        assert (await other.get(f"/{store}", {"limit": "5"})).status_code == 200
        assert resident(hub.process.pid) - before < MOST * (2 if hub.database.kind == "sqlite" else 6) * 1_048_576
    limits = await read_metrics(hub.url)
    assert limits.value("hub_limit_reached_total", limit="max_long_lists_per_user") >= 1
    await eventually(lambda: answers(user, store, 200))
    for _ in range(2 * MOST):
        assert (await user.http.head(f"/{store}")).status_code == 200
    assert len(await user.list(store)) == 4_000


async def answers(user: Client, store: str, status: int) -> bool:
    return (await user.get(f"/{store}")).status_code == status


@pytest.mark.engine("mongodb")  # SQLite reads row by row
@pytest.mark.parametrize("deleted", [True, False])
async def test_one_large_entity_does_not_slow_long_lists(hub: Hub, deleted: bool) -> None:
    """A list of a store that holds or held one large entity takes few exchanges with the database."""
    user = await hub.as_user()
    store = await hub.define()
    await user.make_all(store, [{"n": n} for n in range(4_000)])
    one = await user.make(store, {"text": "x" * 900_000})
    if deleted:
        await user.delete(f"/{store}/{one['_id']}")
    async with AsyncMongoClient[dict[str, object]](hub.database.location) as client:
        database = client.get_default_database()
        await database.command("profile", 2)
        assert len(await user.list(store)) == 4_000 + (not deleted)
        await database.command("profile", 0)
        assert await database["system.profile"].count_documents({"ns": f"{database.name}.{store}"}) < 40


def test_a_large_document_that_is_not_met_any_more_is_forgotten() -> None:
    """It is forgotten within two minutes, unless it is seen again; large documents of other stores are kept."""
    now = 0.0
    sizes = Sizes(lambda: now)
    sizes.note("one", 1_000_000)
    sizes.note("many", 1_000_000)
    assert sizes.fitting("one", 500) == sizes.fitting("many", 500) == 2
    for minute in range(1, 4):
        now = minute * 61.0
        sizes.note("one", 5_000)
        sizes.note("many", 1_000_000)
        assert sizes.fitting("many", 500) == 2
        assert sizes.fitting_past_events(500) == 1
    assert sizes.fitting("one", 500) > 400
