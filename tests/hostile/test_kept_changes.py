"""The changes that are kept in memory take about what is counted of them, whoever has looked at them."""

from __future__ import annotations

from typing import Final

import orjson

from tests.hostile.harness import resident
from tests.support.hub import Hub, eventually
from tests.support.live import live

ELEMENTS: Final = 25_000
"""Small objects in an entity: 11 bytes each as text, and some twenty times that as objects."""
ENTITIES: Final = 40
MOST: Final = 128 * 1_048_576
"""Bytes that the hub may grow by: the text is 11 MB, and the newest 2 MiB may stay objects."""


async def test_changes_that_a_watcher_has_looked_at_are_kept_as_text(hub: Hub) -> None:
    user = await hub.as_user()
    store = await hub.define()
    body = orjson.dumps({"a": [{"x": 1_000 + n % 1_000} for n in range(ELEMENTS)]})
    async with live(hub, user) as client:
        watch = await client.watch(store, filter={"a.x": 0})
        await user.send("POST", f"/{store}", body)
        before = resident(hub.process.pid)
        for _ in range(ENTITIES):
            answer = await user.send("POST", f"/{store}", body)
            assert answer.status_code == 200
        await user.make(store, a=[{"x": 0}])
        await client.until(lambda: watch.events)  # so all have been looked at

        async def is_small() -> bool:
            return resident(hub.process.pid) - before < MOST

        await eventually(is_small, patience=5)
