"""An entity as it was at each line of its history, from where it ended."""

from __future__ import annotations

from collections.abc import Sequence

from stores.records import Entity, HistoryEntry


def images(entries: Sequence[HistoryEntry], end: Entity) -> list[Entity]:
    """For each entry, oldest first, the entity as it was after it; for a deletion, as it was before.

    `end` is the entity as it is now, or as it was when it was deleted. The walk goes back from it. A field that was
    not there is null. Where entries are missing, what the next one says of the time before it counts.
    """
    found: list[Entity] = []
    after = {name: value for name, value in end.items() if name != "_id"}
    for entry in reversed(entries):
        old = {name: pair[0] for name, pair in entry.changed.items()}
        if entry.op == "delete":
            image = after = old
        else:
            image = after | {name: pair[1] for name, pair in entry.changed.items()}
            after = image | old
        found.append({"_id": end.get("_id"), **image})
    return found[::-1]
