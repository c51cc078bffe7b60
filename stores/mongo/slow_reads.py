"""Reads that take long share a few connections and processors, so that others find one.

While few reads are under way, each is given all its time at once. Beyond these a read gets a moment, and one that is
not done by then waits for its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

from pymongo.errors import ExecutionTimeout

from stores.bounds import Limit
from stores.errors import ReadTimeout

T = TypeVar("T")

MOST_SLOW_READS: Annotated[int, Limit("process on MongoDB", "long reads at a time", "waits, then 503")] = 8
"""As many again may bring pieces of long lists."""

_MOMENTS: Final = 32
"""Reads at a time that may yet be quick."""

_MOMENT_MS: Final = 250


class SlowReads:
    """`timeout`: seconds that a read may take, and may wait for its turn."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._milliseconds = max(1, round(timeout * 1000))
        self._turns = asyncio.Semaphore(MOST_SLOW_READS)
        self._moments = asyncio.Semaphore(_MOMENTS)
        self._list_turns = asyncio.Semaphore(MOST_SLOW_READS)

    async def run(self, read: Callable[[int], Awaitable[T]]) -> T:
        """The result of `read`, which is told the milliseconds that the server may take, and may be done twice. Raises
        ReadTimeout when there is no turn for it."""
        if self._turns.locked():
            try:
                return await self._in_turn(self._moments, read, min(_MOMENT_MS, self._milliseconds))
            except ExecutionTimeout:
                pass
        return await self._in_turn(self._turns, read, self._milliseconds)

    async def run_piece(self, read: Callable[[int], Awaitable[T]]) -> T:
        """The same of a piece of a long list, which is read once."""
        return await self._in_turn(self._list_turns, read, self._milliseconds)

    async def _in_turn(self, turns: asyncio.Semaphore, read: Callable[[int], Awaitable[T]], milliseconds: int) -> T:
        if turns.locked():
            try:
                async with asyncio.timeout(self._timeout):
                    await turns.acquire()
            except TimeoutError:
                raise ReadTimeout().at("MOST_SLOW_READS") from None
        else:
            await turns.acquire()  # at once
        try:
            return await read(milliseconds)
        finally:
            turns.release()
