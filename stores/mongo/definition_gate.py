"""Orders commits of values that were checked against a definition with changes of that definition.

MongoDB changes one entity without a transaction, so the server cannot check the definition with it. Within this process
a change of a definition waits for the commits in progress that rely on it, and later ones wait for the change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from stores.errors import Unavailable
from stores.protocol import Write, Written
from stores.schema import StoreDefinition
from stores.superseded import SupersededDefinitions, definitions_changed

_LONGEST_WAIT: Final = 30.0
"""Seconds that a change of a definition waits for commits in progress. A bulk change may take half of them."""


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
    async def passed(self, writes: Sequence[Write], definition: StoreDefinition | None) -> AsyncIterator[None]:
        """Context for a commit, whose values were checked against `definition`. Raises DefinitionChanged, and
        Unavailable for a change of a definition when the commits in progress do not end."""
        if definition is not None:
            async with self._relying_on(definition):
                yield
            return
        async with AsyncExitStack() as held:
            for id in definitions_changed(writes):
                await held.enter_async_context(self._changing(id))
            yield

    @asynccontextmanager
    async def _relying_on(self, definition: StoreDefinition) -> AsyncIterator[None]:
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
    async def _changing(self, id: str) -> AsyncIterator[None]:
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
            async with asyncio.timeout(_LONGEST_WAIT):
                await change.free.wait()
        except TimeoutError:
            raise Unavailable("writes that rely on the present definition have not ended") from None

    def note(self, writes: Sequence[Write], written: Sequence[Written]) -> None:
        """Note the changes of definitions in a commit and its outcome. Called before its context ends."""
        self._superseded.note(writes, written)
