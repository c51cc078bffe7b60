"""The smallest useful consumer: it counts changes per store, exactly, on both engines.

As a program (`python -m tests.support.counting KIND LOCATION SINCE`) it also writes until it is killed, and prints one
line per call of its handler.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from stores.options import ConsumerOptions
from stores.protocol import Consumer, Engine, Insert, Update, Upsert, Write
from stores.query import Query
from stores.records import Change
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import USER, entity

COUNTS: Final = StoreDefinition("_counts", unique=("name",))
COUNTED: Final = (StoreDefinition("things"), StoreDefinition("units"))


def counting(engine: Engine, since: str, **options: Any) -> Consumer:
    async def count(changes: Sequence[Change]) -> list[Write]:
        print("counting", len(changes), flush=True)
        counts = Counter(await counted(engine)) + Counter(change.store for change in changes)
        return [Upsert("_counts", "name", entity(name=s, count=n), {"count": n}) for s, n in counts.items()]

    return engine.consumer("counting", count, ConsumerOptions(since=since, **options))


async def counted(engine: Engine) -> dict[str, int]:
    return {count["name"]: count["count"] for count in await engine.entities("_counts", Query())}


async def write(engine: Engine, number: int) -> None:
    """Commit one change, then two changes in one commit."""
    made = entity(n=number)
    await engine.commit([Insert("things", made)], USER)
    await engine.commit([Update("things", made["_id"], {"n": -1}), Insert("units", entity(n=number))], USER)


async def main(kind: str, location: str, since: str) -> None:
    async with opened(Database(kind, location).engine()) as engine, asyncio.TaskGroup() as tasks:
        tasks.create_task(counting(engine, since, lease_seconds=1.5, most_changes=5).run())
        for number in range(sys.maxsize):
            await write(engine, number)
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
