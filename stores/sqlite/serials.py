"""Serial numbers: one counter for each serial field, raised in the transaction that uses the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import apsw

from stores.protocol import Serial
from stores.records import Entity

_TAKE = (
    "INSERT INTO meta VALUES('serial:'||?1, ?2+?3)"
    " ON CONFLICT(name) DO UPDATE SET value=max(CAST(value AS INTEGER),?2)+?3 RETURNING CAST(value AS INTEGER)"
)


def numbered(connection: apsw.Connection, entities: Sequence[Entity], serials: Sequence[Serial]) -> list[Entity]:
    """Return the entities with the next numbers in the serial fields that have none, in their order."""
    numbered = list(entities)
    for serial in serials:
        above = replace(serial, start=serial.least(numbered))
        first = take(connection, above, serial.lacking(numbered))
        numbered = serial.filled(numbered, first)
    return numbered


def take(connection: apsw.Connection, serial: Serial, count: int) -> int:
    """Take `count` numbers, and return the first of them."""
    end: int = connection.execute(_TAKE, (serial.counter, serial.start, count)).get
    return end - count
