"""Orders commits of values that were checked against a definition with changes of that definition.

MongoDB changes one entity without a transaction, so the server cannot check the definition with it. Within this process
a change of a definition waits for the commits in progress that rely on it, and later ones wait for the change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import Unavailable
from stores.protocol import Write, Written
from stores.schema import StoreDefinition
from stores.superseded import SupersededDefinitions, changed_definitions

LONGEST_STOP: Final[Annotated[float, Limit("change of a definition on MongoDB", "seconds without writes", "503")]] = 5.0
"""Seconds that a change of a definition waits for commits in progress: later writes to the store wait with it."""

Note = Callable[[Sequence[Written]], None]


class _Change:
    """A change of a definition: `free` is set when no commit in progress relies on it, `ended` after the change."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.ended = asyncio.Event()


class DefinitionGate:
    """One per database. Definitions are known by their ids."""

    def __init__(self) -> None:
        self._superseded = SupersededDefinitions()
        self._relying: Counter[str] = Counter()
        self._changes: dict[str, _Change] = {}

    @asynccontextmanager
    async def relying_on(self, definition: StoreDefinition) -> AsyncIterator[None]:
        """Context for a commit of values that were checked against `definition`. Raises DefinitionChanged."""
        id = definition.id
        while (change := self._changes.get(id)) is not None:
            await change.ended.wait()
        self._superseded.check(definition)
        self._relying[id] += 1
        try:
            yield
        finally:
            self._relying[id] -= 1
            if not self._relying[id]:
                del self._relying[id]
                if (change := self._changes.get(id)) is not None:
                    change.free.set()

    @asynccontextmanager
    async def changing(self, writes: Sequence[Write]) -> AsyncIterator[Note]:
        """Context for a commit that may change definitions. It yields the function to call with the outcome. Raises
        Unavailable when commits that rely on a definition do not end in time."""
        async with AsyncExitStack() as held:
            for id in changed_definitions(writes):
                await held.enter_async_context(self._change(id))
            yield partial(self._superseded.note, writes)

    @asynccontextmanager
    async def _change(self, id: str) -> AsyncIterator[None]:
        while (other := self._changes.get(id)) is not None:
            await other.ended.wait()
        self._changes[id] = change = _Change()
        try:
            if id in self._relying:
                await self._wait_until_free(change)
            yield
        finally:
            del self._changes[id]
            change.ended.set()

    @staticmethod
    async def _wait_until_free(change: _Change) -> None:
        try:
            async with asyncio.timeout(LONGEST_STOP):
                await change.free.wait()
        except TimeoutError:
            text = "writes that were checked against the present definition have not ended"
            raise Unavailable(text).at("LONGEST_STOP") from None
