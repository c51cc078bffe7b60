"""Room in the server's cache. It holds the changes of a transaction until the end, so large transactions take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Annotated, Final, Self

from stores.bounds import Limit
from stores.errors import TooManySlowWrites
from stores.protocol import DeleteMany, UpdateMany, Write

LONGEST_WRITE_WAIT: Final[Annotated[float, Limit("transaction on MongoDB", "seconds of waiting for others", "503")]] = (
    60
)
"""Seconds that a transaction waits for others: as long as the server keeps one open."""


@asynccontextmanager
async def longest_wait() -> AsyncIterator[None]:
    """Let the block take `LONGEST_WRITE_WAIT`. Raises TooManySlowWrites after that."""
    try:
        async with asyncio.timeout(LONGEST_WRITE_WAIT):
            yield
    except TimeoutError:
        raise TooManySlowWrites().at("LONGEST_WRITE_WAIT") from None


class Room:
    """The room of one transaction. All transactions share `turns`. `number` is its own among those in progress.
    `stores` are those that it writes to: of its procedures, as far as they have come in any attempt. `excludes`: it has
    locked keys exclusively; `goes_first`: before others that lock keys (`stores.mongo.locks`); `is_open_ended`: a
    filter decides how much it writes."""

    def __init__(self, turns: asyncio.Lock, number: int, stores: Iterable[str]) -> None:
        self.number = number
        self.stores = set(stores)
        self._turns = turns
        self.is_taken = False
        self.excludes = False
        self.goes_first = False
        self.is_open_ended = False

    def note_write(self, write: Write) -> None:
        """Note a write of the transaction before it is done."""
        self.stores.add(write.store)
        self.is_open_ended = self.is_open_ended or isinstance(write, UpdateMany | DeleteMany)

    async def take(self) -> None:
        """Wait until no other large transaction is in progress. Called before the first of many changes. Raises
        TooManySlowWrites."""
        if not self.is_taken:
            async with longest_wait():
                await self._turns.acquire()
            self.is_taken = True

    def leave(self) -> None:
        """Leave the room to another transaction. It can be taken again."""
        if self.is_taken:
            self.is_taken = False
            self._turns.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
