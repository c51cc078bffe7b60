"""One cell of a CSV file, as a value of an entity and back.

A field that the store declares is read by its type. Any other cell is read like a REST parameter: numbers, true, false
and null as such, an array or object as JSON, quotes force a string; an empty cell is an absent field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from stores.errors import InvalidEntity
from stores.limits import parse_json
from stores.parse import scalar
from stores.records import Entity, Json
from stores.schema import OPTION_TYPES, STRING_TYPES


class Absent:
    """The value of an empty cell."""


ABSENT: Final = Absent()


class Cells:
    """Reads and writes the cells of one store; `fields` are those of its definition, none when it has no schema."""

    def __init__(self, fields: Iterable[Mapping[str, Any]] = ()) -> None:
        self.fields = {str(field["id"]): field for field in fields}

    def read(self, path: str, text: str) -> Json | Absent:
        if not text:
            return ABSENT
        field = self.fields.get(path)
        if field and field["type"] in STRING_TYPES:
            return text
        if field and field["type"] in OPTION_TYPES:
            return read_option(field, text)
        return read_untyped(text)

    def write(self, path: str, value: Json) -> str:
        field = self.fields.get(path)
        if field and field["type"] in STRING_TYPES:
            return value if isinstance(value, str) else ""
        return write_untyped(value)


def read_option(field: Mapping[str, Any], text: str) -> Json:
    """The id of an option, whether it is a number or a string; anything else is for the hub to judge."""
    ids = {str(option["id"]): option["id"] for option in field.get("options", ())}
    return ids[text] if text in ids else read_untyped(text)


def read_untyped(text: str) -> Json:
    if text[0] in "[{":
        try:
            return parse_json(text.encode())  # type: ignore[no-any-return]
        except (ValueError, InvalidEntity):
            return text
    return scalar(text)


def write_untyped(value: Json) -> str:
    """What `read_untyped` makes `value` of again."""
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value if value and read_untyped(value) == value else f'"{value}"'


def nest(columns: Sequence[str], values: Sequence[Json | Absent]) -> Entity:
    """Cells under dotted headers as nested objects. Raises ValueError when a value and an object claim one place."""
    entity: Entity = {}
    for column, value in zip(columns, values, strict=False):
        if isinstance(value, Absent):
            continue
        *parents, name = column.split(".")
        place: Any = entity
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"{column}: {parent} has a value already")
        if name in place:
            raise ValueError(f"{column} has a value already")
        place[name] = value
    return entity


def flatten(entity: Mapping[str, Any], prefix: str = "") -> dict[str, Json]:
    """Nested objects as dotted names; arrays and empty objects stay values."""
    flat: dict[str, Json] = {}
    for name, value in entity.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def pick(value: Any, path: str) -> Json | Absent:
    """The value at a dotted path; of an array, the values in its elements."""
    for segment in path.split("."):
        if isinstance(value, list):
            inner = [pick(item, segment) for item in value]
            value = [item for item in inner if not isinstance(item, Absent)]
        elif isinstance(value, dict) and segment in value:
            value = value[segment]
        else:
            return ABSENT
    return value  # type: ignore[no-any-return]
