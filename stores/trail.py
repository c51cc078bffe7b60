"""The states of an entity at each entry of its history, computed backwards from its last state."""

from __future__ import annotations

from collections.abc import Sequence

from stores.records import Entity, HistoryEntry


def images(entries: Sequence[HistoryEntry], end: Entity) -> list[Entity]:
    """Return, for each entry, oldest first, the entity after it; for a deletion, the entity before it.

    `end` is the current entity, or its state when it was deleted. Earlier states are computed back from it. A field
    that did not exist is null. Where entries are missing, the old values of the next entry are used.
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
