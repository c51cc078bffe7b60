"""Serial numbers: one counter for each serial field. Creations raise it outside of transactions: inside, each would
wait for the end of the one before. Numbers of a creation that fails are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pymongo import ReturnDocument

from stores.mongo.connection import META, Connection, Session
from stores.protocol import Serial
from stores.records import Entity


async def numbered(connection: Connection, entities: Sequence[Entity], serials: Sequence[Serial]) -> list[Entity]:
    """Return the entities with the next numbers in the serial fields that have none, in their order."""
    numbered = list(entities)
    for serial in serials:
        above = replace(serial, start=serial.least(numbered))
        first = await take(connection, above, serial.lacking(numbered))
        numbered = serial.filled(numbered, first)
    return numbered


async def take(connection: Connection, serial: Serial, count: int, session: Session | None = None) -> int:
    """Take `count` numbers, and return the first of them."""
    counters = connection.collection(META)
    raised = [{"$set": {"next": {"$add": [{"$max": ["$next", serial.start]}, count]}}}]
    counter: Any = await counters.find_one_and_update(
        {"_id": f"serial:{serial.counter}"},
        raised,
        upsert=True,
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    return int(counter["next"]) - count
