"""The states of an entity at each entry of its history, computed backwards from its last state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stores.records import Entity, HistoryEntry


def images(entries: Sequence[HistoryEntry], end: Entity, names: Iterable[str]) -> Iterator[tuple[HistoryEntry, Entity]]:
    """Yield each entry, newest first, and the fields `names` of the entity after it; for a deletion, before it.

    `end` is the current entity, or its state when it was deleted. Earlier states are computed back from it. A field
    that did not exist is null. Where entries are missing, the old values of the next entry are used.
    """
    # Only `names`, and one image at a time: an entity may have tens of thousands of fields, and a page 1,000 entries.
    names = tuple(names)
    after = {name: end[name] for name in names if name in end}
    for entry in reversed(entries):
        changed = {name: entry.changed[name] for name in names if name in entry.changed}
        old = {name: pair[0] for name, pair in changed.items()}
        if entry.op == "delete":
            image = after = old
        else:
            image = after | {name: pair[1] for name, pair in changed.items()}
            after = image | old
        yield entry, {**image, "_id": end.get("_id")}
