"""Many subscriptions of one user, each of which looks at every change of the user's own entities, do not delay the
events of others. The user's own events come later, each once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest

from tests.hostile.harness import unharmed
from tests.support.hub import Client, Hub
from tests.support.live import LiveClient, Watch, live
from tests.support.standstill import read_metrics

pytestmark = [pytest.mark.alone, pytest.mark.engine("sqlite")]  # fan-out is the same on both engines

SUBSCRIPTIONS: Final = 400
LARGE: Final = 10**9
COMPILED: Final = 1.5
"""Factor of the memory: the filters are compiled when the first change arrives, and the subscriptions go on."""


def range_above(number: int) -> dict[str, Any]:
    """A condition that no index serves, and that nothing meets."""
    return {"n": {"$gt": LARGE + number}}


def many_ranges(number: int) -> dict[str, Any]:
    return {"$or": [{"n": {"$gt": LARGE + 100 * number + each}} for each in range(95)]}


def large_elements(number: int) -> dict[str, Any]:
    return {"a": {"$gt": LARGE + number}}


@asynccontextmanager
async def subscribed(hub: Hub, user: Client, store: str, filters: list[dict[str, Any]]) -> AsyncIterator[LiveClient]:
    async with live(hub.url, user) as client:
        for filter in filters:
            await client.watch(store, filter=filter)
        yield client


@pytest.mark.parametrize(
    ("filter_of", "entities", "elements"),
    [
        pytest.param(range_above, 2_000, 0, id="small filters", marks=pytest.mark.full),
        pytest.param(many_ranges, 150, 0, id="large filters", marks=pytest.mark.full),
        pytest.param(large_elements, 300, 240, id="arrays"),
    ],
)
async def test_one_user_delays_nobody_else(hub: Hub, filter_of: Any, entities: int, elements: int) -> None:
    store, user = await hub.define(), await hub.as_user()
    filters = [filter_of(number) for number in range(SUBSCRIPTIONS)]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(subscribed(hub, user, store, filters))
        seeing = [await client.watch(store, filter={"n": {"$gte": least}}) for least in (0, entities // 2)]
        async with unharmed(hub, memory=COMPILED):
            await user.make_all(store, [{"n": n, "a": [n] * elements} for n in range(entities)])
            await client.until(lambda: [len(watch.view) for watch in seeing] == [entities, entities // 2], 120)
        [first] = await user.list(store, {"limit": 1})
        await user.patch(f"/{store}/{first['_id']}", {"n": LARGE - 1})
        await client.until(lambda: all(watch.view.get(first["_id"], first)["n"] == LARGE - 1 for watch in seeing))
        await check_equal(user, store, seeing)
    assert (await read_metrics(hub.url)).value("hub_limit_reached_total", limit="MOST_SHARE_STEPS") >= 1


async def check_equal(user: Client, store: str, watches: list[Watch]) -> None:
    """Check that each watch shows what its filter finds over REST, by now. A watch itself fails at an event that does
    not fit what it shows, such as a second insertion."""
    for watch in watches:
        listed = await user.list(store, {"filter": json.dumps(watch.request["filter"]), "limit": 10_000})
        assert watch.view == {each["_id"]: each for each in listed}
