"""The two stores of the model whose contents it predicts, `orders` and `lines`, as their definitions say.

The definitions are values of the test, which the oracle reads by itself. A step that changes a definition together with
the data gives the run another one: see `model_state.State.definitions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stores.records import Entity, Json

ORDERS, LINES = "orders", "lines"
DATA = (ORDERS, LINES)
Definitions = Mapping[str, list[dict[str, Any]]]
"""The fields of each store."""


def _reference(id: str, store: str, on_delete: str, many: bool = False) -> dict[str, Any]:
    more = {"many": True} if many else {}
    return {"id": id, "type": "Reference", "store": store, "on_delete": on_delete, **more}


_FIELDS: list[dict[str, Any]] = [
    {"id": "name", "type": "Text"},
    {"id": "n", "type": "Number"},
    {"id": "tags", "type": "JSON"},
    {"id": "place", "type": "JSON"},
    {"id": "number", "type": "Serial"},
    {"id": "code", "type": "Text", "unique": True},
    {"id": "kind", "type": "Text", "required": True, "default": "usual"},
    {"id": "amount", "type": "Numeric", "min": 0, "max": 6},
    {"id": "marks", "type": "Text", "many": True, "max_items": 3, "distinct": True},
]
DEFINITIONS: Definitions = {
    ORDERS: [
        *_FIELDS,
        _reference("parent", ORDERS, "clear"),
        _reference("root", ORDERS, "refuse"),
        _reference("series", ORDERS, "cascade", many=True),
    ],
    LINES: [
        *_FIELDS,
        _reference("order", ORDERS, "refuse"),
        _reference("spare", ORDERS, "clear"),
        _reference("head", ORDERS, "cascade"),
        _reference("held", ORDERS, "refuse", many=True),
        _reference("orders", ORDERS, "clear", many=True),
        _reference("heads", ORDERS, "cascade", many=True),
        _reference("kept", LINES, "refuse"),
        _reference("near", LINES, "clear", many=True),
        _reference("next", LINES, "cascade"),
    ],
}


@dataclass(frozen=True)
class Relation:
    """The field `name` of `store` refers to entities of `target`."""

    store: str
    name: str
    target: str
    on_delete: str
    many: bool

    def ids(self, entity: Entity) -> list[str]:
        """Return the ids to which an entity refers. A value that is no reference counts as none."""
        value = entity.get(self.name)
        found = value if isinstance(value, list) else [value]
        return [id for id in found if isinstance(id, str)]

    def without(self, entity: Entity, gone: set[str]) -> Json:
        """Return the field's value without the ids in `gone`."""
        value = entity[self.name]
        return [id for id in value if id not in gone] if self.many else None if value in gone else value


def relations(definitions: Definitions) -> Iterator[Relation]:
    for store, fields in definitions.items():
        for field in fields:
            if field["type"] == "Reference":
                yield Relation(store, field["id"], field["store"], field["on_delete"], "many" in field)


def named(definitions: Definitions, store: str) -> dict[str, dict[str, Any]]:
    """Return the fields of a store by their ids."""
    return {field["id"]: field for field in definitions[store]}


def defaults(definitions: Definitions, store: str) -> Entity:
    return {field["id"]: field["default"] for field in definitions[store] if "default" in field}


def misfit(field: dict[str, Any], value: Json) -> bool:
    """Return whether the field does not take the value."""
    if value is None or (value == "" and field.get("required")):
        return bool(field.get("required"))
    if not field.get("many"):
        return not _fits(field, value)
    if not isinstance(value, list) or len(value) > field.get("max_items", 1_000):
        return True
    return not all(_fits(field, each) for each in value) or bool(field.get("distinct") and len({*value}) < len(value))


def _fits(field: dict[str, Any], value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match field["type"]:
        case "Text":
            return isinstance(value, str) and len(value) <= 255
        case "Number":
            return is_number and value == int(value)
        case "Numeric":
            return is_number and field["min"] <= value <= field["max"]
        case "Reference":
            return isinstance(value, str) and re.fullmatch("[0-9a-f]{24}", value) is not None
    return True
