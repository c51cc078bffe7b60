"""Definitions of stores as the commands read them: their fields by column, and the unique fields that references are
looked up by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from hub.cli.cells import by_path, pick
from hub.cli.client import Client, Refused, path_of
from stores.field import Field
from stores.fields import FIELD_TYPES
from stores.fields.cells import Kind
from stores.records import Entity

Document = Mapping[str, Any]

REFERENCE: Final = "Reference"
ID: Final = "_id"


async def find_definition(client: Client, store: str) -> Entity | None:
    """Return the definition of the store. None if it does not exist; empty if the token may not read it."""
    try:
        return await client.find("stores", "name", store)
    except Refused as error:
        if error.status != 403:
            raise
        return {}  # the token may still write to the store


async def type_in_store(client: Client, store: str, key: str | None, fields: Mapping[str, object]) -> Kind | None:
    """Return the kind of the key's stored values, or None if the store defines the key or has no value of it. Keys of
    another kind would never match."""
    if key is None or key in fields:
        return None
    params = {"filter": json.dumps({key: {"$exists": True}}), "limit": "1"}
    try:
        found = await client.call("GET", path_of(store), params=params)
    except Refused as error:
        if error.status not in (403, 404):
            raise
        return None  # the store is not readable or does not exist yet
    value = pick(found[0], key) if found else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a store's definition. `keys`: for each store that references lead to, its unique fields by path.
    `readable`: whether the token may read the definition."""

    store: str
    documents: tuple[Document, ...] = ()
    keys: Mapping[str, Mapping[str, Document]] = field(default_factory=dict)
    readable: bool = True

    def columns(self) -> dict[str, Document]:
        """Return what determines how the cells of a column are read and written, by the column's name. A reference by
        a unique field holds values of that field; so does a column in which references are looked up."""
        found = by_path(self.documents)
        for path, each in [*found.items()]:
            keys = self.keys.get(each["store"], {}) if each["type"] == REFERENCE else {}
            if each.get("by") in keys:
                found[path] = _of_key(keys[each["by"]], each)
            for key, unique in keys.items():
                found.setdefault(f"{path}:{key}", _of_key(unique, each))
        return found

    def key_field(self, key: str) -> Field | None:
        """Return a field of the type that values of a key have; None for a key without a type."""
        return field_of(str(self.columns().get(key, {}).get("type")))

    def lookups(self) -> frozenset[str]:
        """Return the columns in which references are looked up: ``customer:number``."""
        return frozenset(self.columns().keys() - by_path(self.documents).keys())

    def unreadable(self, name: str) -> str:
        """Return what to say about a name that may ask for a field of what a reference leads to, if the token cannot
        read the definition; empty otherwise."""
        if self.readable or ":" not in name:
            return ""
        return f"{name} is taken for the name of a field: this token cannot read what the store refers to"

    def fault(self, column: str) -> str:
        """Return why references cannot be looked up in this column; empty if it is another column, or they can."""
        path, _, key = column.partition(":")
        if not key:
            return ""
        defined = by_path(self.documents)
        reference = defined.get(path)
        if column in defined or reference is None or reference["type"] != REFERENCE:
            return ""
        return fault_of_key(self.keys.get(reference["store"], {}), reference["store"], key)


@cache
def field_of(type: str) -> Field | None:
    """Return a field of a type, for the canonical form of its values; None for a type that this program does not
    know."""
    return Field("", type) if type in FIELD_TYPES and type != REFERENCE else None


def fault_of_key(keys: Mapping[str, Document], store: str, key: str) -> str:
    """Return why entities of a store cannot be looked up by a field; empty if they can."""
    if key in keys:
        return ""
    known = ", ".join(each for each in keys if each != ID)
    return f"{key} is not a unique field of {store}" + (f"; there are: {known}" if known else "")


async def read_fields(client: Client, store: str, definition: Entity | None) -> Fields:
    """Return the fields of a store, with what the definitions say to which its references lead."""
    documents = tuple((definition or {}).get("fields") or ())
    keys = {}
    for target in sorted({each["store"] for each in references(documents)}):
        found = definition if target == store else await find_definition(client, target) or _system_store(target)
        keys[target] = await _unique_fields(client, target, found or {})
    return Fields(store, documents, keys, definition != {})


def references(fields: Iterable[Document]) -> Iterator[Document]:
    """Yield the references among the fields and inside of objects."""
    for each in fields:
        if each["type"] == REFERENCE:
            yield each
        yield from references(each.get("fields") or ())


def members(fields: Sequence[Document]) -> dict[str, Document]:
    """Return the fields by their names, and those of objects as their `members`."""
    return {each["id"]: {**each, "members": members(each.get("fields") or ())} for each in fields}


def _of_key(unique: Document, reference: Document) -> Document:
    return {**unique, "many": bool(reference.get("many"))}


async def _unique_fields(client: Client, store: str, definition: Document) -> dict[str, Document]:
    """Return the unique fields of a store by their paths, each with its type and options. One that has no type is read
    as the values that are stored."""
    typed = by_path(definition.get("fields") or ())
    paths = [path for path, each in typed.items() if each.get("unique") or each["type"] == "Serial"]
    paths += definition.get("unique") or ()
    paths += [path for index in definition.get("indexes") or () if (path := _single_unique(index))]
    found: dict[str, Document] = {ID: {"type": REFERENCE}}
    for path in dict.fromkeys(paths):
        if path in typed:
            key = await _typed(client, typed[path])
            found[path] = {name: key[name] for name in ("type", "options") if name in key}
        else:
            kind = await type_in_store(client, store, path, typed)
            found[path] = {"type": "Text" if kind is Kind.TEXT else "JSON"}
    return found


async def _typed(client: Client, field: Document, seen: frozenset[tuple[str, str]] = frozenset()) -> Document:
    """Return the field whose type the values have: a key may be a reference by a key itself. `seen` are the keys that
    lead here; in a circle none of them has a type."""
    store, by = str(field.get("store")), str(field.get("by") or "")
    if not by or (store, by) in seen:
        return field
    target = await find_definition(client, store) or _system_store(store)
    key = by_path(target.get("fields") or ()).get(by)
    return field if key is None else await _typed(client, key, seen | {(store, by)})


def _single_unique(index: Any) -> str | None:
    """Return the path of an index over one path of all entities that is unique."""
    if not isinstance(index, dict) or not index.get("unique") or index.get("where") or len(index["fields"]) != 1:
        return None
    return str(index["fields"][0]).removeprefix("-")


def _system_store(name: str) -> Document:
    """Return what is unique in a system store, which has no definition to read."""
    from auth.system_stores import SYSTEM_STORES

    known = SYSTEM_STORES.get(name)
    if known is None:
        return {}
    shown = [each for each in known.fields if not each.hidden]
    return {"fields": [{"id": each.id, "type": each.type, "unique": each.unique} for each in shown]}
