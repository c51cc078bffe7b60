"""Consumers at work, and what they have been given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from stores.protocol import Consumer, Engine, Write
from stores.records import Change
from tests.support.counting import counted
from tests.support.hub import eventually
from tests.support.reading import changes_since


class Recorder:
    """A handler that remembers what it is called with, and returns `writes` each time."""

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
        """Wait until it has been given a change of that entity."""

        async def given() -> bool:
            return id in self.ids

        await eventually(given)


@asynccontextmanager
async def at_work(consumer: Consumer) -> AsyncIterator[asyncio.Task[None]]:
    """The consumer, running for the length of a block. What ends it before is in the task."""
    task: asyncio.Task[None] = asyncio.create_task(consumer.run())
    try:
        yield task
    finally:
        while not task.done():
            task.cancel()  # again: on Python 3.11 a cancellation that meets a finished `wait_for` is lost
            await asyncio.wait([task], timeout=0.5)


async def is_counted(engine: Engine, since: str) -> bool:
    """Whether the counts are those of all changes after `since`."""
    return await counted(engine) == Counter(change.store for change in await changes_since(engine.feed, since))
