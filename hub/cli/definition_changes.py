"""The other parts of a store's definition that follow a change of one field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from stores.fields import FIELD_TYPES
from stores.records import Entity

PATHS: Final = ("indexes", "unique", "search")
"""The parts of a definition that name paths of fields."""
EVERY_TYPE: Final = frozenset({"id", "type", "label"})
BOUNDS: Final = frozenset({"min", "max"})

Rename = Callable[[str], str | None]
"""Returns the new path of a path; None if it is gone."""


def find_field(store: Entity, name: str) -> Mapping[str, Any] | None:
    """Return the field of a definition."""
    return next((each for each in store.get("fields") or () if each["id"] == name), None)


def is_open(store: Entity) -> bool:
    """Return whether the store takes fields beyond those of its definition. Without a word about it, that depends on
    whether there are any."""
    given = store.get("open")
    return not store.get("fields") if given is None else bool(given)


def location_by_name(location: str, fields: Sequence[Mapping[str, Any]]) -> str:
    """Return the location of an error in a definition with the names of fields instead of their positions:
    `fields.3.default` is `currency.default`."""
    position, _, rest = location.removeprefix("fields.").partition(".")
    if not location.startswith("fields.") or not position.isdecimal() or int(position) >= len(fields):
        return location
    field = fields[int(position)]
    return ".".join(filter(None, (str(field["id"]), location_by_name(rest, field.get("fields") or ()))))


def with_field(store: Entity, field: Mapping[str, Any]) -> Entity:
    """Return the parts of a definition that change with another field. The store stays open or closed as it is."""
    fields = store.get("fields") or []
    return {"fields": [*fields, field]} | ({} if fields else _openness(store))


def without_field(store: Entity, name: str) -> Entity:
    """Return the parts of a definition that change without one of its fields, with the indexes and paths that lead
    there. The store stays open or closed as it is."""
    fields = [each for each in store.get("fields") or () if each["id"] != name]
    found = {"fields": fields} | ({} if fields else _openness(store))
    return found | _paths_changed(store, lambda path: None if _top(path) == name else path)


def with_renamed_field(store: Entity, old: str, new: str) -> Entity:
    """Return the parts of a definition that change when one of its fields gets another name: the paths that lead there
    and the references of the store to itself, too."""

    def renamed(path: str) -> str:
        top, dot, rest = path.partition(".")
        return f"{new}{dot}{rest}" if top == old else path

    fields = _by_renamed(store.get("fields") or (), store["name"], renamed)
    fields = [each | {"id": renamed(each["id"])} for each in fields]
    return {"fields": fields} | _paths_changed(store, renamed)


def with_converted_field(store: Entity, name: str, changes: Mapping[str, Any]) -> Entity:
    """Return the parts of a definition that change when a field gets another type, or a first one. Settings that the
    new type does not take go."""
    if find_field(store, name) is None:
        return with_field(store, {**changes, "id": name})
    fields = [
        _given({**_kept(each, changes["type"]), **changes, "id": name}) if each["id"] == name else each
        for each in store["fields"]
    ]
    return {"fields": fields}


def _given(field: Entity) -> Entity:
    """Return a field without the settings that null takes away."""
    return {name: value for name, value in field.items() if value is not None}


def _kept(field: Mapping[str, Any], type: str) -> Entity:
    """Return the settings of a field that mean the same with another type. Bounds of values are none of lengths."""
    new, old = FIELD_TYPES.get(type), FIELD_TYPES.get(field["type"])
    if new is None:
        return dict(field)  # of a newer hub
    taken = EVERY_TYPE | new.takes
    if old is None or old.measure is not new.measure:
        taken -= BOUNDS
    return {name: value for name, value in field.items() if name in taken}


def _openness(store: Entity) -> Entity:
    """Return the part of a definition that keeps the store open or closed, if it has none."""
    return {"open": is_open(store)} if store.get("open") is None else {}


def _by_renamed(fields: Iterable[Mapping[str, Any]], store: str, renamed: Rename) -> list[Entity]:
    """Return the fields, with the new path in references by it to the store itself."""
    found = []
    for each in fields:
        changed = dict(each)
        if each.get("store") == store and each.get("by"):
            changed["by"] = renamed(each["by"])
        if each.get("fields"):
            changed["fields"] = _by_renamed(each["fields"], store, renamed)
        found.append(changed)
    return found


def _paths_changed(store: Entity, renamed: Rename) -> Entity:
    """Return the indexes, unique and search paths of a definition that change with the paths."""
    found = {}
    for part in PATHS:
        before = store.get(part) or []
        after = [made for index in before if (made := _index_changed(index, renamed)) is not None]
        if after != before:
            found[part] = after
    return found


def _index_changed(index: Any, renamed: Rename) -> Any:
    """Return an index with the new paths; None if one of them is gone. It is a path, a list of paths (`-` for
    descending order), or an object with such a list and conditions."""
    if isinstance(index, str):
        return renamed(index)
    if isinstance(index, list):
        terms = [(term[: term.startswith("-")], renamed(term.removeprefix("-"))) for term in index]
        return None if any(path is None for _, path in terms) else [f"{sign}{path}" for sign, path in terms]
    fields = _index_changed(index["fields"], renamed)
    where = _condition_changed(index.get("where") or {}, renamed)
    if fields is None or where is None:
        return None
    return index | {"fields": fields} | ({"where": where} if where else {})


def _condition_changed(where: Mapping[str, Any], renamed: Rename) -> Entity | None:
    """Return the condition of an index with the new paths, also inside of `$and`; None if one of them is gone."""
    found: Entity = {}
    for name, condition in where.items():
        if name.startswith("$"):
            parts = [_condition_changed(part, renamed) for part in condition]
            if None in parts:
                return None
            found[name] = parts
        elif (path := renamed(name)) is not None:
            found[path] = condition
        else:
            return None
    return found


def _top(path: str) -> str:
    return path.partition(".")[0]
