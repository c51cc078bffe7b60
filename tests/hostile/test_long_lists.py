"""Long lists that nobody reads hold little, and one user has a share of them only."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.hostile.harness import resident
from tests.platform.raw import request, wire
from tests.support.hub import Client, Hub, eventually
from tests.support.standstill import no_standstill, read_metrics

MOST = 32


async def test_one_user_reads_so_many_long_lists_at_once(hub: Hub) -> None:
    """Beyond that 429, for this user alone; each unread list holds two megabytes at most, and none after its end."""
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
