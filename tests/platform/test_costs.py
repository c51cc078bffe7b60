"""What a change costs does not grow with what it leaves alone, in CPU of the hub's process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.cpu import counted_cpu
from tests.support.engines import Database
from tests.support.hub import Hub, StartHub, entity_of, running_hub

SOME: Final = 200
"""Entities that are changed."""
MANY: Final = 40_000
"""Entities beside them. To visit all of them costs several times LEAST."""
TIMES: Final = 5
"""The cheapest one counts: what the hub does besides is no part of it."""
LEAST: Final = 0.005
"""Seconds that anything counts as, so that a ratio of next to nothing means nothing."""


async def cheapest(hub: Hub, change: Callable[[int], Awaitable[object]]) -> float:
    """CPU seconds of a change that is made several times."""
    costs = []
    for number in range(TIMES):
        with counted_cpu(hub.process.pid) as cpu:
            await change(number)
        costs.append(cpu.seconds)
    return max(min(costs), LEAST)


async def filled(hub: Hub, count: int) -> tuple[str, str]:
    """A store of `count` entities of one group and SOME of another for each number; the store and the other group."""
    store, group = await hub.define(indexes=["n"]), await hub.group()
    others, members = await hub.as_user(group=await hub.group()), await hub.as_user(group=group)
    for start in range(0, count, 10_000):
        await others.make_all(store, [{"n": -1}] * min(count - start, 10_000))
    await members.make_all(store, [{"n": number} for number in range(TIMES) for _ in range(SOME)])
    return store, group


async def cost_of_deleting(hub: Hub, count: int) -> float:
    store, _ = await filled(hub, count)

    async def delete(number: int) -> None:
        answer = await hub.admin.delete(f"/{store}", {"n": str(number)})
        assert answer.json()["count"] == SOME

    return await cheapest(hub, delete)


async def cost_of_moving(hub: Hub, count: int) -> float:
    store, group = await filled(hub, count)
    parents = [await hub.group() for _ in range(TIMES)]

    async def move(number: int) -> None:
        entity_of(await hub.admin.patch(f"/groups/{group}", {"parent": parents[number]}))

    cost = await cheapest(hub, move)
    [moved] = await hub.admin.list(store, {"n": "1", "limit": "1"})
    assert moved["branch"] == [group, parents[-1]]
    return cost


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize("cost_of", [cost_of_deleting, cost_of_moving])
async def test_some_of_many_entities_cost_what_some_of_few_do(
    hub: Hub, cost_of: Callable[[Hub, int], Awaitable[float]]
) -> None:
    """Deleted in bulk, or moved with their group."""
    few, many = await cost_of(hub, SOME), await cost_of(hub, MANY)
    assert many < 3 * few


async def cost_of_moving_a_tree(hub: Hub, groups: int) -> float:
    root, parent = await hub.group(), await hub.group()
    await hub.admin.make_all("groups", [{"name": f"{root}-{n}", "parent": root} for n in range(groups)])

    async def move(number: int) -> None:
        entity_of(await hub.admin.patch(f"/groups/{root}", {"parent": None if number % 2 else parent}))

    return await cheapest(hub, move)


async def test_a_tree_of_groups_moves_at_the_cost_of_what_it_holds(database: Database, tmp_path: Path) -> None:
    """Not at that of every store for every group: here nothing is in the groups. Where that is so is looked up."""
    async with running_hub(database, tmp_path / "hub") as hub:
        among_few = await cost_of_moving_a_tree(hub, 50)
        await hub.admin.make_all("stores", [{"name": f"store{n}"} for n in range(40)])
        among_many = await cost_of_moving_a_tree(hub, 50)
        # Each store is looked up once, which may double the cost; once for each group were fifty times as much.
        assert among_many < 5 * among_few


READS: Final = 60


@pytest.mark.engine("sqlite")
async def test_a_read_costs_the_same_among_few_and_many_stores(sqlite_hub: StartHub) -> None:
    """SQLite reads all definitions anew when one has changed, which takes longer than a read may take on the loop."""
    hub = await sqlite_hub()
    store = await hub.define()
    path = f"/{store}/{(await hub.admin.make(store, n=1))['_id']}"

    async def read(number: int) -> None:
        for _ in range(READS):
            assert (await hub.admin.get(path)).status_code == 200

    among_few = await cheapest(hub, read)
    await hub.admin.make_all("stores", [{"name": f"many{n}"} for n in range(120)])
    await read(0)
    assert await cheapest(hub, read) < 3 * among_few
