"""Serial numbers: one counter for each serial field, raised in the transaction that uses the numbers."""

from __future__ import annotations

from collections.abc import Sequence

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
        lacking = serial.lacking(numbered)
        end: int = connection.execute(_TAKE, (serial.counter, serial.least(numbered), lacking)).get
        numbered = serial.filled(numbered, end - lacking)
    return numbered
