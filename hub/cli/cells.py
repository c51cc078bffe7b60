"""One cell of a CSV file or an Excel sheet, as a value of an entity and back.

A field that the store declares is read by its type. Any other column has one kind, which `hub/cli/columns.py` decides
over the whole file. An empty cell is an absent field, a bare `null` is null, and quotes inside a cell force a string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from math import isfinite
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
NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
"""A number that its text says exactly: without leading zeros, exponent or sign of plus."""
LITERALS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet program takes for the beginning of a formula, and the mark that `defuse` puts before it."""


class Kind(StrEnum):
    """What the cells of a column hold."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads and writes the cells of one store. `fields` are those of its definition, `kinds` those of the columns that
    it does not define; a column without a kind is judged cell by cell. `key` is the column whose null is no value.
    `excel`: text that could be a formula is marked. `native`: cells have types of their own, as in a sheet."""

    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    key: str | None = None
    excel: bool = False
    native: bool = False

    def read(self, path: str, cell: object) -> Json | Absent:
        """The value of a cell of a CSV file, which is text, or of a sheet. Raises ValueError when the column is of
        another kind."""
        if isinstance(cell, str):
            return self.read_text(path, cell)
        defined = self.fields.get(path)
        if cell is None:
            return ABSENT
        if isinstance(cell, date | time | timedelta):
            return moment(cell, defined["type"] if defined else "")
        if defined:
            return plain_text(cell) if defined["type"] in STRING_TYPES else cell  # type: ignore[return-value]
        return plain_text(cell) if self.kinds.get(path) is Kind.TEXT else cell  # type: ignore[return-value]

    def read_text(self, path: str, text: str) -> Json | Absent:
        if not text:
            return ABSENT
        if self.excel and text[0] == "'":
            text = text[1:]
        defined = self.fields.get(path)
        if defined:
            return read_defined(defined, text)
        if self.native:
            return read_kind(Kind.JSON, text) if self.kinds.get(path) is Kind.JSON else text
        if text == "null" and path != self.key:
            return None
        return read_kind(self.kinds.get(path) or kind_of(text) or Kind.TEXT, text)

    def write(self, path: str, value: Json) -> str:
        """The text of a cell of a CSV file."""
        defined = self.fields.get(path)
        if defined and defined["type"] in STRING_TYPES:
            text = value if isinstance(value, str) else ""
        else:
            text = write_untyped(value)
        return defuse(text) if self.excel and isinstance(value, str) else text


def by_id(fields: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(each["id"]): each for each in fields}


def kind_of(text: str) -> Kind | None:
    """The kind of a column that holds this cell alone; None for null, which goes with any."""
    if text == "null":
        return None
    if text in LITERALS:
        return Kind.BOOLEAN
    if NUMBER.fullmatch(text):
        return Kind.NUMBER if "." in text or is_integer(text) else Kind.TEXT
    return Kind.JSON if text[0] in "[{" and is_json(text) else Kind.TEXT


def kind_of_native(cell: object) -> Kind:
    """The same of a cell of a sheet, whose type says it; a time is text."""
    if isinstance(cell, bool):
        return Kind.BOOLEAN
    if isinstance(cell, int | float):
        return Kind.NUMBER
    return Kind.JSON if isinstance(cell, str) and cell[0] in "[{" and is_json(cell) else Kind.TEXT


def is_integer(text: str) -> bool:
    """Whether the digits are an integer of 64 bits. ``-0`` is none: it would come back as 0."""
    return len(text) <= 20 and text != "-0" and -(2**63) <= int(text) < 2**63


def is_json(text: str) -> bool:
    try:
        parse_json(text.encode())
    except (ValueError, InvalidEntity):
        return False
    return True


def read_kind(kind: Kind, text: str) -> Json:
    if kind is Kind.TEXT:
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if kind is Kind.BOOLEAN and text in LITERALS:
        return LITERALS[text]
    if kind is Kind.JSON and is_json(text):
        return parse_json(text.encode())  # type: ignore[no-any-return]
    if kind is Kind.NUMBER:
        return read_number(text)
    raise ValueError(f"not {kind}: {text[:40]}")


def read_number(text: str) -> int | float:
    if NUMBER.fullmatch(text) and "." not in text and is_integer(text):
        return int(text)
    number = float(text)
    if not isfinite(number) or not re.fullmatch(r"[-+.\deE]+", text, re.ASCII):
        raise ValueError(f"not a number: {text[:40]}")
    return number


def read_defined(defined: Mapping[str, Any], text: str) -> Json:
    """By the type of the field; what does not fit is for the hub to judge."""
    kind = defined["type"]
    if kind in STRING_TYPES:
        return text
    if kind in OPTION_TYPES:
        # The id of an option, whether it is a number or a string.
        ids = {str(option["id"]): option["id"] for option in defined.get("options", ())}
        if text in ids:
            return ids[text]  # type: ignore[no-any-return]
    if kind == "Boolean" and text in LITERALS:
        return LITERALS[text]
    return read_kind(Kind.JSON, text) if text[0] in "[{" and is_json(text) else scalar(text)


def write_untyped(value: Json) -> str:
    """What `read_text` makes `value` of again, as long as its column holds values of one kind."""
    if isinstance(value, float):
        return write_float(value)
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value if value and Cells().read_text("", value) == value else f'"{value}"'


def write_float(value: float) -> str:
    """All digits and no exponent, which in other files stands for text such as ``0E8``."""
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"


def plain_text(value: object) -> str:
    """A cell of a sheet as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return write_float(value) if not value.is_integer() else format(Decimal(value), "f")
    return str(value)


def moment(value: date | time | timedelta, type: str) -> str:
    """A date or time as the types Date and DateTime have it; without a type, a day that begins is a date."""
    if isinstance(value, datetime):
        begins = value.time() == time()
        if type == "Date" or (begins and type != "DateTime"):
            return f"{value:%Y-%m-%d}"
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def defuse(text: str) -> str:
    """Text that no spreadsheet program takes for a formula: `Cells.read` with `excel` takes the mark away again."""
    return f"'{text}" if text.startswith(FORMULA) else text


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
