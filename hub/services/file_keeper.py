"""The rule that no write sets a file, except that of an upload: a body may send back the files that the field of the
entity has, remove them, and reorder a list.

The commit of an upload also writes to the record of the file, in a store of the hub's own, which no body can."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Final

from hub.services.registry import StoreRegistry
from hub.services.write_rules import Check
from stores.errors import InvalidEntity, NotFound, Violation
from stores.fields.media import files_of
from stores.protocol import Insert, Steps, Update, UpdateMany, Upsert, Write, find
from stores.query import And, Equal
from stores.records import Entity, Json, same
from stores.reference_checks import NOTHING_WRITTEN, FieldChange

RECORDS: Final = "_files"
"""The store of the records of files (`hub.media.records`)."""

Uploaded = Collection[tuple[str, str]]
"""The files that a commit gives to entities: (id of the entity, id of the file)."""


class FileKeeper:
    """The `WriteRule` for files. What the field has is looked up within the commit."""

    def __init__(self, registry: StoreRegistry) -> None:
        self._registry = registry

    def checks_of(self, writes: Sequence[Write], *, indexed: bool) -> Iterator[Check]:
        fields = {store: self._fields(store) for store in {write.store for write in writes}}
        if not any(fields.values()):
            return
        uploaded = {*_uploaded(writes)} if RECORDS in fields else frozenset[tuple[str, str]]()
        for index, write in enumerate(writes):
            if fields[write.store]:
                yield from _checks(write, fields[write.store], uploaded, f"{index}." if indexed else "")

    def _fields(self, store: str) -> Collection[str]:
        try:
            return self._registry.get(store).file_fields.keys()
        except NotFound:  # a store of the hub itself
            return ()


def _uploaded(writes: Sequence[Write]) -> Iterator[tuple[str, str]]:
    for write in writes:
        match write:
            case Update(store=store, changes={"entity": str(entity), "file": str(file)}) if store == RECORDS:
                yield entity, file


def _checks(write: Write, fields: Collection[str], uploaded: Uploaded, prefix: str) -> Iterator[Check]:
    match write:
        case Insert(entity=entity):
            if names := _given(entity, fields):
                _compare({"_id": entity["_id"]}, entity, names, prefix, uploaded)
        case Update(changes=changes, compute=compute):
            names = _given(changes, fields, compute.names if compute else ())
            if names:
                where = And((write.where, Equal(("_id",), write.id)))
                change = FieldChange(write.store, where, changes, compute, replace=write.replace)
                yield Check(partial(_check_change, change, names, prefix, uploaded))
        case UpdateMany(changes=changes, compute=compute):
            _refuse(_given(changes, fields, compute.names if compute else ()), prefix)
        case Upsert(entity=entity, compute=compute):
            names = _given({**entity, **write.changes}, fields, compute.names if compute else ())
            if names:
                yield Check(partial(_check_upsert, write, names, prefix))


def _given(values: Entity, fields: Collection[str], computed: Collection[str] = ()) -> list[str]:
    """Return the fields that get files, or something that depends on the entity. Nothing and an empty list are none."""
    return [name for name in fields if values.get(name) or name in computed]


def _refuse(names: Sequence[str], prefix: str) -> None:
    if names:
        raise InvalidEntity([Violation(prefix + name, "file") for name in names])


def _check_change(change: FieldChange, names: Sequence[str], prefix: str, uploaded: Uploaded) -> Steps:
    for entity in (yield from change.found(names)):
        _compare(entity, change.after(entity), names, prefix, uploaded)
    return NOTHING_WRITTEN


def _check_upsert(write: Upsert, names: Sequence[str], prefix: str) -> Steps:
    met = yield from find(write.store, write.met, 1)
    if met:
        change = FieldChange(write.store, write.met, write.changes, write.compute)
        _compare(met[0], change.after(met[0]), names, prefix)
    else:
        _refuse([name for name in names if write.entity.get(name)], prefix)
    return NOTHING_WRITTEN


def _compare(
    before: Entity, after: Entity, names: Sequence[str], prefix: str, uploaded: Uploaded = frozenset()
) -> None:
    """Raise InvalidEntity for a field that would hold another file than before, or one of them twice; except for files
    that the same commit gives to the entity."""
    new = {file for entity, file in uploaded if entity == before["_id"]}
    _refuse([name for name in names if name in after and not _holds(before.get(name), after[name], new)], prefix)


def _holds(before: Json, after: Json, new: Collection[str]) -> bool:
    left = {file["id"]: file for file in files_of(before)}
    for item in after if isinstance(after, list) else [] if after is None else [after]:
        if not isinstance(item, dict):
            return False
        if item.get("id") not in new and not same(left.pop(item.get("id"), None), item):
            return False
    return True
