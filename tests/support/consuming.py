"""Helpers to run consumers and to inspect the changes that they receive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from stores.errors import Unavailable
from stores.protocol import Consumer, Engine, Write
from stores.records import Change
from tests.support.counting import counted
from tests.support.hub import eventually
from tests.support.reading import changes_since
from tests.support.tasks import end


class Recorder:
    """A handler that records its calls and returns `writes` each time."""

    def __init__(self, writes: Sequence[Write] | None = ()) -> None:
        self.calls: list[list[Change]] = []
        self._writes = writes

    async def __call__(self, changes: Sequence[Change]) -> Sequence[Write] | None:
        self.calls.append(list(changes))
        return self._writes

    @property
    def positions(self) -> list[str]:
        return [change.position for call in self.calls for change in call]

    @property
    def ids(self) -> list[str]:
        return [change.id for call in self.calls for change in call]

    async def has(self, id: str) -> None:
        """Wait until the handler has received a change of that entity."""

        async def given() -> bool:
            return id in self.ids

        await eventually(given)


@asynccontextmanager
async def at_work(consumer: Consumer) -> AsyncIterator[asyncio.Task[None]]:
    """Run the consumer while the block runs. If it ends earlier, the task holds the reason."""
    task: asyncio.Task[None] = asyncio.create_task(consumer.run())
    try:
        yield task
    finally:
        await end(task)


async def is_counted(engine: Engine, since: str) -> bool:
    """Return whether the database answers, and the counts match all changes after `since`."""
    try:
        return await counted(engine) == Counter(change.store for change in await changes_since(engine.feed, since))
    except Unavailable:
        return False
