"""Conversion between a cell of a CSV file or Excel sheet and a value of an entity.

A field that the store defines is read by its type. Any other column has one kind, which `hub/cli/columns.py` determines
from the whole file. An empty cell is an absent field, a bare `null` is null, and quotes inside a cell force a string.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from stores.fields import FieldType, type_named
from stores.fields.cells import Kind, is_json, kind_of, plain_text, read_kind, write_untyped
from stores.records import Entity, Json


class Absent:
    """The value of an empty cell."""


ABSENT: Final = Absent()
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""Characters that begin a formula in spreadsheet programs, and the mark that `defuse` inserts before them."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads and writes the cells of one store.

    `fields` are the fields of its definition, `lookups` the columns among them in which references are looked up by a
    field of their target. `kinds` are the kinds of other columns; a column without a kind is read cell by cell. In the
    column `key`, the text `null` stays text. `excel`: text that could be a formula is marked. `native`: cells have
    types of their own, as in a sheet.
    """

    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lookups: Collection[str] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    key: str | None = None
    excel: bool = False
    native: bool = False

    def read(self, path: str, cell: object) -> Json | Absent:
        """Return the value of a cell, which is text in a CSV file. Raises ValueError if it does not fit its column."""
        if isinstance(cell, str):
            return self.read_text(path, cell)
        defined = self.fields.get(path)
        if cell is None:
            return ABSENT
        if isinstance(cell, date | time | timedelta):
            return listed(from_moment(cell, type_of(defined) if defined else None), defined)
        if defined:
            return listed(type_of(defined).read_native_cell(cell), defined)  # type: ignore[arg-type]
        return plain_text(cell) if self.kinds.get(path) is Kind.TEXT else cell  # type: ignore[return-value]

    def read_text(self, path: str, text: str) -> Json | Absent:
        if not text:
            return ABSENT
        if self.excel and text[0] == "'":
            text = text[1:]
        defined = self.fields.get(path)
        if defined:
            return read_defined(text, defined)
        if self.native:
            return read_kind(Kind.JSON, text) if self.kinds.get(path) is Kind.JSON else text
        if text == "null" and path != self.key:
            return None
        return read_kind(self.kinds.get(path) or kind_of(text) or Kind.TEXT, text)

    def write(self, path: str, value: Json) -> str:
        """Return the text of a cell of a CSV file."""
        defined = self.fields.get(path)
        text = type_of(defined).write_cell(value) if defined and not defined.get("many") else write_untyped(value)
        return defuse(text) if self.excel and isinstance(value, str) else text


def by_path(fields: Iterable[Mapping[str, Any]], above: str = "") -> dict[str, Mapping[str, Any]]:
    """Return field documents by the columns that hold their values: those inside of objects by dotted paths, but a list
    of objects is one column."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in fields:
        path = f"{above}{each['id']}"
        found[path] = each
        if not each.get("many"):
            found |= by_path(each.get("fields") or (), f"{path}.")
    return found


def read_defined(text: str, defined: Mapping[str, Any]) -> Json:
    """Return the value of a cell in the column of a defined field. A field with many values has a JSON array in its
    cell, or one value."""
    if defined.get("many") and text[0] == "[" and is_json(text):
        return read_kind(Kind.JSON, text)
    options = [option["id"] for option in defined.get("options") or ()]
    return listed(type_of(defined).read_cell(text, options), defined)


def listed(value: Json, defined: Mapping[str, Any] | None) -> Json:
    """Return a single value as the list that a field with many values holds. null stays null."""
    return [value] if defined and defined.get("many") and value is not None else value


def type_of(defined: Mapping[str, Any]) -> FieldType:
    """Return the type of a field from a definition document."""
    return type_named(defined["type"])


def kind_of_native(cell: object) -> Kind:
    """Return the kind of a sheet's cell by its native type; a time is text."""
    if isinstance(cell, bool):
        return Kind.BOOLEAN
    if isinstance(cell, int | float):
        return Kind.NUMBER
    return Kind.JSON if isinstance(cell, str) and cell[0] in "[{" and is_json(cell) else Kind.TEXT


def from_moment(value: date | time | timedelta, field_type: FieldType | None) -> Json:
    """Return a date or time in the form of the field's type, or else as text; a datetime at midnight becomes a date."""
    if not isinstance(value, datetime):
        return str(value)
    typed = field_type.from_time(value) if field_type else None
    if typed is not None:
        return typed
    return f"{value:%Y-%m-%d}" if value.time() == time() else f"{value:%Y-%m-%d %H:%M:%S}"


def defuse(text: str) -> str:
    """Mark text that a spreadsheet program could take for a formula. `Cells.read` with `excel` removes the mark."""
    return f"'{text}" if text.startswith(FORMULA) else text


def nest(columns: Sequence[str], values: Sequence[Json | Absent], lookups: Collection[str] = ()) -> Entity:
    """Return cells under dotted headers as nested objects. In `lookups`, a dot behind the colon is a part of the name.
    Raises ValueError if two columns claim the same member."""
    entity: Entity = {}
    for column, value in zip(columns, values, strict=False):
        if isinstance(value, Absent):
            continue
        path, colon, key = column.partition(":") if column in lookups else (column, "", "")
        *parents, name = path.split(".")
        name += colon + key
        node: Any = entity
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{column}: {parent} has a value already")
        if name in node:
            raise ValueError(f"{column} has a value already")
        node[name] = value
    return entity


def flatten(entity: Mapping[str, Any], prefix: str = "") -> dict[str, Json]:
    """Return nested objects under dotted names. Arrays and empty objects stay values."""
    flat: dict[str, Json] = {}
    for name, value in entity.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def pick(value: Any, path: str) -> Json | Absent:
    """Return the value at a dotted path; for an array, the values in its elements."""
    for segment in path.split("."):
        if isinstance(value, list):
            inner = [pick(item, segment) for item in value]
            value = [item for item in inner if not isinstance(item, Absent)]
        elif isinstance(value, dict) and segment in value:
            value = value[segment]
        else:
            return ABSENT
    return value  # type: ignore[no-any-return]
