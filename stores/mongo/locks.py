"""Documents by which transactions lock keys. Snapshot isolation does not detect conflicts with reads: of two
transactions that write to the same document, one is repeated.

A key has a slot of STRIPES documents. A shared lock writes to one of them, that of its transaction, so the transactions
of a process share a key without collisions; an exclusive lock writes to all. Different keys may have the same slot,
which costs a repetition.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from typing import Final

from pymongo.errors import BulkWriteError

from stores.mongo.connection import META, Connection
from stores.mongo.errors import DUPLICATE_KEY
from stores.mongo.room import longest_wait
from stores.protocol import Lock

SLOTS: Final = 64
STRIPES: Final = 32

MANY_KEYS: Final = 512
"""Keys that almost surely have all slots between them: beyond this number none is looked at."""


async def make_locks(connection: Connection) -> None:
    """Create the documents, before a transaction that uses them: two transactions that created one would fail."""
    documents = [{"_id": each, "commits": 0} for slot in range(SLOTS) for each in _stripes(slot)]
    try:
        await connection.collection(META).insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if any(each["code"] != DUPLICATE_KEY for each in (error.details or {})["writeErrors"]):
            raise


class Numbers:
    """Numbers of the transactions in progress in this process, from a random one on: other processes have theirs."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = random.randrange(STRIPES)

    @contextmanager
    def number(self) -> Iterator[int]:
        """Yield a number that no other transaction in progress has."""
        if self._free:
            number = self._free.pop()
        else:
            number, self._next = self._next, self._next + 1
        try:
            yield number
        finally:
            self._free.append(number)


class Precedence:
    """Lets one transaction of this process go before the others that lock keys: an exclusive lock of many keys collides
    with every reference that is written meanwhile, and would never have its turn."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Go first while the block runs. One transaction does at a time. Raises TooManySlowWrites."""
        async with longest_wait():
            await self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    async def passed(self) -> None:
        """Wait until no transaction goes first. Call it outside of a transaction, which would be in the way. Raises
        TooManySlowWrites."""
        if self._lock.locked():
            async with longest_wait():
                await self._lock.acquire()
            self._lock.release()


def locks_of(step: Lock, number: int) -> list[str]:
    """Return the ids of the documents to which the transaction `number` writes for a lock, in one order for all."""
    slots = range(SLOTS) if len(step.keys) > MANY_KEYS else sorted({_slot(key) for key in step.keys})
    if step.exclusive:
        return [id for slot in slots for id in _stripes(slot)]
    return [f"lock:{slot}:{number % STRIPES}" for slot in slots]


def _slot(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=2).digest()) % SLOTS


def _stripes(slot: int) -> list[str]:
    return [f"lock:{slot}:{stripe}" for stripe in range(STRIPES)]
