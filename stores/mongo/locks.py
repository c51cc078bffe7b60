"""Documents by which transactions lock keys. Snapshot isolation does not detect conflicts with reads: of two
transactions that write to the same document, one is repeated.

A key has a slot of STRIPES documents. A shared lock writes to one of them, chosen at random, so many transactions can
share a key at once; an exclusive lock writes to all. Different keys may have the same slot, which costs a repetition.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import Final

from pymongo.errors import BulkWriteError

from stores.mongo.connection import META, Connection
from stores.mongo.errors import DUPLICATE_KEY
from stores.protocol import Lock

SLOTS: Final = 64
STRIPES: Final = 16


async def make_locks(connection: Connection) -> None:
    """Create the documents, before a transaction that uses them: two transactions that created one would fail."""
    documents = [{"_id": each, "commits": 0} for slot in range(SLOTS) for each in _stripes(slot)]
    try:
        await connection.collection(META).insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if any(each["code"] != DUPLICATE_KEY for each in (error.details or {})["writeErrors"]):
            raise


def locks_of(step: Lock) -> list[str]:
    """Return the ids of the documents that a lock writes to, in the same order for all commits."""
    slots = {_slot(key) for key in step.keys}
    chosen = (_stripes(slot) if step.exclusive else [random.choice(_stripes(slot))] for slot in sorted(slots))
    return [id for ids in chosen for id in ids]


def _slot(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=2).digest()) % SLOTS


def _stripes(slot: int) -> list[str]:
    return [f"lock:{slot}:{stripe}" for stripe in range(STRIPES)]
