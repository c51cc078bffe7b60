"""Changes of a store's definition that end the views of the store: those that may alter what it shows, and the start of
a change of its data in steps.

Live sessions, resuming and delta sync all use this module, so they agree on what ends a view.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from realtime.key_changes import rekeyed
from stores.definitions import PENDING
from stores.errors import HistoryGone
from stores.records import SYSTEM_FIELDS, Change, Entity, HistoryEntry
from stores.schema import StoreDefinition

UNSEEN: Final = frozenset({*SYSTEM_FIELDS, "label", "description", "indexes", "unique", "search", PENDING})
"""Members of a store's definition that can change without an effect on any view of the store, except that `search`
decides what a view with a search text contains."""

UNSEEN_OF_FIELD: Final = frozenset(
    {"label", "required", "unique", "index", "search", "length", "options", "default", "min", "max"}
    | {"max_items", "distinct", "on_delete", "start", "digits", "places"}
)


def redefines(change: Change, *, searched: bool = False) -> bool:
    """Return whether a change of a store's definition may alter what is shown of its entities, with `searched` also
    which of them a search finds, or begins a change of them in steps; false for a new store."""
    if change.before is None or change.after is None:
        return change.before is not None
    return _alters_views(change.before, change.after, searched)


def redefined_by(entry: HistoryEntry, definition: StoreDefinition, *, searched: bool = False) -> bool:
    """Return whether an entry in the audit trail of `definition` ends views as `redefines` says; true also for the
    first one of a store."""
    if entry.op != "update" or not entry.changed:  # without values, because they were too large
        return True
    old, new = ({name: pair[side] for name, pair in entry.changed.items()} for side in (0, 1))
    return _alters_views(old, new, searched, typed=bool(definition.fields))


def _alters_views(before: Entity, after: Entity, searched: bool, *, typed: bool = False) -> bool:
    """Compare two definitions, or those members of them that differ. `typed`: the store has fields if no member says
    which."""
    begins_steps = before.get(PENDING) is None and after.get(PENDING) is not None
    return begins_steps or _shape(before, searched, typed) != _shape(after, searched, typed)


def _shape(definition: Entity, searched: bool, typed: bool) -> Entity:
    """Return the members of a definition that decide what is shown, and found if it is searched. Definitions that mean
    the same have the same shape, whichever defaults they spell out."""
    kept = {"search"} if searched else set()
    shape = _given(definition, UNSEEN - kept)
    shape["fields"] = _shape_of_fields(definition.get("fields"), UNSEEN_OF_FIELD - kept)
    is_open = definition.get("open")
    if is_open is None:
        is_open = not (shape["fields"] if "fields" in definition else typed)
    return shape | {"open": is_open}


def _shape_of_fields(fields: Any, unseen: frozenset[str]) -> Entity:
    """Return the fields by their names, and those inside of objects, without the settings that are not seen."""
    shape: Entity = {}
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict):
            inner = _shape_of_fields(field.get("fields"), unseen)
            shape[str(field.get("id"))] = _given(field, unseen) | {"fields": inner}
    return shape


def _given(members: Entity, unseen: frozenset[str]) -> Entity:
    """Return the members that are seen and have a value: null, false and an empty list say the same as no member."""
    return {name: value for name, value in members.items() if value and name not in unseen}


def check_same_store(definition: StoreDefinition, changes: Iterable[Change], *, searched: bool = False) -> None:
    """Raise HistoryGone if one of the changes redefines the store, or gives its references another type, or if not all
    changes of the store are known.

    A new definition may alter what is shown of entities that did not change, and no change reports that. With
    `searched`, the same holds for what a search finds.
    """
    store, keys = definition.name, definition.key_types
    for change in changes:
        if change.op == "lost" and change.store == store:
            raise HistoryGone(f"not every change of {store} since that position is known")
        if keys and not rekeyed(change).isdisjoint(keys):
            raise HistoryGone(f"references of {store} have another type since that position")
        if change.store != "stores" or (change.before or {}).get("name") != store:
            continue
        if redefines(change, searched=searched):
            raise HistoryGone(f"{store} has been redefined since that position")
