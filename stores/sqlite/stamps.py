"""Stamps: one row for each counter, raised in the transaction that changes the entities. There is one writer, so the
order of the stamps is that of the commits."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from stores.protocol import Stamp
from stores.records import Entity, now_us

_TAKE = (
    "INSERT INTO meta VALUES('stamp:'||?1, ?2+?3-1)"
    " ON CONFLICT(name) DO UPDATE SET value=max(CAST(value AS INTEGER)+1,?2)+?3-1 RETURNING CAST(value AS INTEGER)"
)


def take(connection: apsw.Connection, stamp: Stamp, count: int) -> int:
    """Take `count` stamps, and return the first of them."""
    last: int = connection.execute(_TAKE, (stamp.counter, stamp.first(-1, now_us()), count)).get
    return last - count + 1


def stamped(connection: apsw.Connection, entity: Entity, stamps: Sequence[Stamp]) -> Entity:
    """Return the entity, or the changes of one, with the next stamps."""
    return {**entity, **{stamp.field: take(connection, stamp, 1) for stamp in stamps}} if stamps else entity


def all_stamped(connection: apsw.Connection, entities: Sequence[Entity], stamps: Sequence[Stamp]) -> list[Entity]:
    """Return the entities with the next stamps, in their order."""
    result = list(entities)
    for stamp in stamps:
        first = take(connection, stamp, len(result))
        result = [{**entity, stamp.field: first + index} for index, entity in enumerate(result)]
    return result
