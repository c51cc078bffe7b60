"""Large expansions hold neither the event loop nor memory without bound."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import orjson
import pytest

from hub.http.unread import MOST_UNREAD_ANSWER_BYTES_EACH
from hub.services.expansion import MOST_EXPANDED_BYTES
from tests.hostile.harness import resident
from tests.platform.raw import request, token_of, wire
from tests.support.hub import Client, Hub
from tests.support.standstill import limit_reached, no_standstill

LONGEST = 0.05
"""Seconds of CPU time that one turn of the loop may take."""


async def shop(hub: Hub, user: Client) -> tuple[str, str]:
    """Create 1 000 orders with 14 products each; return the names of the stores."""
    products = await hub.define()
    lines = [{"id": "product", "type": "Reference", "store": products}, {"id": "n", "type": "Number"}]
    orders = await hub.define(fields=[{"id": "lines", "type": "Object", "many": True, "fields": lines}])
    made = await user.make_all(products, [{"text": "x" * 700, "values": [*range(20)]} for _ in range(5_000)])
    ids = [each["_id"] for each in made]
    bodies = [{"lines": [{"product": ids[(7 * n + i) % 5_000], "n": i} for i in range(14)]} for n in range(1_000)]
    await user.make_all(orders, bodies)
    return products, orders


async def test_large_pages_are_expanded_off_the_loop(hub: Hub) -> None:
    user = await hub.as_user()
    products, orders = await shop(hub, user)
    large = await hub.define(fields=[{"id": "to", "type": "Reference", "store": products}], open=True)
    target = await user.make(products, values=[[n, str(n)] for n in range(30_000)])
    fitting = MOST_EXPANDED_BYTES // (len(orjson.dumps(target)) + 1_000)
    await user.make_all(large, [{"to": target["_id"]} for _ in range(fitting + 5)])
    await user.get(f"/{orders}?expand=lines.product")  # the sizes of a store are known after its first list
    async with no_standstill(hub.url, LONGEST):
        page = await user.get(f"/{orders}?expand=lines.product")
        assert page.status_code == 200
        assert MOST_EXPANDED_BYTES // 2 < len(page.content) <= MOST_EXPANDED_BYTES
        key = f"{orders}(lines.product)"
        below = await user.get(f"/{products}?limit=500&expand={key}&only={key}._id")
        assert sum(len(each[key]) for each in below.json()) > 1_000
        values = await user.get(f"/{large}?limit={fitting}&expand=to")
        assert MOST_EXPANDED_BYTES // 2 < len(values.content) <= MOST_EXPANDED_BYTES
        for path in (f"/{large}?expand=to", f"/{products}/{target['_id']}?expand={large}(to).to"):
            refused = await user.get(path)
            assert (refused.status_code, [*refused.json()["errors"]]) == (400, ["expand"])


@pytest.mark.engine("sqlite")  # the bound is on the connections, not on the engine
async def test_unread_expansions_are_bounded(hub: Hub) -> None:
    """Beyond the bytes of answers that one user may leave unread, large expansions are refused, and others are not."""
    user, other = await hub.as_user(), await hub.as_user()
    _, orders = await shop(hub, user)
    token = token_of(user.http.headers)
    before = resident(hub.process.pid)
    size = len((await user.get(f"/{orders}?expand=lines.product")).content)
    async with AsyncExitStack() as stack:
        for _ in range(MOST_UNREAD_ANSWER_BYTES_EACH // size + 2):
            raw = await stack.enter_async_context(wire(hub.process.port))
            await raw.send(request("GET", f"/{orders}?expand=lines.product", token))
            await asyncio.sleep(0.05)
        answers: list[httpx.Response] = []
        while not answers or answers[-1].status_code == 200:
            answers.append(await user.get(f"/{orders}?expand=lines.product"))
        assert answers[-1].status_code == 503
        assert resident(hub.process.pid) - before < 3 * MOST_UNREAD_ANSWER_BYTES_EACH
        assert (await other.get(f"/{orders}?expand=lines.product&limit=5")).status_code == 200
    assert await limit_reached(hub, "MOST_UNREAD_ANSWER_BYTES_EACH") >= 1
