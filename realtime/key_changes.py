"""Detection of changes of a store's definition that give another type to references by its fields. Values of filters on
such references get the form of that type, so the views of the stores that refer by them may show other entities."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from stores.records import Change, Entity, HistoryEntry

_TYPE: Final = ("type", "store", "by")
"""The settings of a field that decide the type of its values."""

_NO_FIELDS: Final[Entity] = {}


def rekeyed(change: Change) -> frozenset[tuple[str, str]]:
    """Return the fields, each as (store, field), to which a change of a definition gives another type. A store to which
    others refer is neither new nor deleted."""
    if change.store != "stores":  # first: the entities of a change are parsed when they are asked for
        return frozenset()
    before, after = change.before, change.after
    if before is None or after is None or before.get("fields") == after.get("fields"):
        return frozenset()
    return frozenset((str(before.get("name")), name) for name in _altered(before.get("fields"), after.get("fields")))


def rekeyed_by(entry: HistoryEntry, names: Collection[str]) -> bool:
    """Return whether an entry in the audit trail of a definition gives one of the named fields another type, or may: it
    has no values if they were too large."""
    if entry.op != "update" or not entry.changed:
        return True
    return not _altered(*entry.changed.get("fields", (None, None))).isdisjoint(names)


def _altered(before: Any, after: Any) -> frozenset[str]:
    old, new = _types(before), _types(after)
    return frozenset(name for name in {*old, *new} if old.get(name, _NO_FIELDS) != new.get(name, _NO_FIELDS))


def _types(fields: Any) -> dict[str, Entity]:
    """Return what decides the types of fields, by their names. Not every stored definition has the right form."""
    listed = fields if isinstance(fields, list) else ()
    return {str(each.get("id")): _type(each) for each in listed if isinstance(each, dict)}


def _type(field: Entity) -> Entity:
    return {name: value for name in _TYPE if (value := field.get(name))}
