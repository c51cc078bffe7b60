"""Prints which stores a registry knows after two refreshes at once, of which the first is answered last."""

from __future__ import annotations

import asyncio
from typing import Any

from hub.services.registry import StoreRegistry
from stores.errors import NotFound

TURNS = 100
"""Of a loop that does nothing else: the second refresh has got as far as it gets beside the first."""


class SlowAtFirst:
    """An engine with definitions, the first read of which is answered when it may be."""

    shared = False

    def __init__(self) -> None:
        self.definitions: list[dict[str, Any]] = []
        self.reads = 0
        self.go = asyncio.Event()

    async def define(self, *definitions: Any, **more: Any) -> None:
        pass

    async def entities(self, store: str, query: Any) -> list[dict[str, Any]]:
        found = list(self.definitions)
        self.reads += 1
        if self.reads == 1:
            await self.go.wait()
        return found


async def known() -> list[str]:
    engine: Any = SlowAtFirst()
    registry = StoreRegistry(engine)
    engine.definitions.append({"_id": "a" * 24, "name": "old"})
    refreshes = [asyncio.create_task(registry.refresh())]
    await asyncio.sleep(0)
    engine.definitions.append({"_id": "b" * 24, "name": "new"})
    refreshes.append(asyncio.create_task(registry.refresh()))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    engine.go.set()
    await asyncio.gather(*refreshes)
    return [name for name in ("old", "new") if is_known(registry, name)]


def is_known(registry: StoreRegistry, name: str) -> bool:
    try:
        registry.get(name)
    except NotFound:
        return False
    return True


if __name__ == "__main__":
    print(*asyncio.run(known()))
