"""The base of field types. A field type is an object that checks, describes, parses and writes values of its fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from stores.fields.cells import LITERALS, Kind, is_json, plain_text, read_kind, write_untyped
from stores.parse import scalar
from stores.records import Json

Schema = dict[str, Any]
Checker = Callable[[Any], Json]
"""Takes a value that is not null and returns it in its canonical form. Raises Rejected."""


class Rejected(Exception):
    """A value that its field type rejects: (rule, detail), a rule of `stores.schema.RULES`."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule, detail)


class FieldSettings(Protocol):
    """The settings of a field that its type uses."""

    @property
    def length(self) -> int | None: ...
    @property
    def options(self) -> tuple[tuple[int | str, str], ...]: ...
    @property
    def option_ids(self) -> frozenset[int | str]: ...


class ParameterForm(StrEnum):
    """The form of a query parameter's text, as the OpenAPI document describes it and `FieldType.parse` reads it unless
    a type overrides that. The document lists the forms in this order."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OTHER = "other"


class FieldType(ABC):
    """One field type. An instance has no state: it serves every field of its type in every thread.

    `text`: values are strings, which `search` includes and which cells of tables hold unaltered. `may_be_unique`:
    values are scalars that a unique index can hold. `takes_options`: a field needs `options`. `decimal`: doubles
    stand for decimals, so that a sum of them is a decimal. `longest`: the most characters, unless the field has a
    `length`; None where a length means nothing. `parameter`: how `parse` reads a text. `example`: a value for the docs,
    which the check accepts, given the options that it needs.
    """

    text: ClassVar[bool] = False
    may_be_unique: ClassVar[bool] = False
    takes_options: ClassVar[bool] = False
    decimal: ClassVar[bool] = False
    parameter: ClassVar[ParameterForm] = ParameterForm.OTHER

    def __init__(self, name: str, example: Json, *, longest: int | None = None) -> None:
        self.name = name
        self.example = example
        self.longest = longest

    @abstractmethod
    def checker(self, field: FieldSettings) -> Checker:
        """Return the check of the values of `field`. This is called once per field, the check on every create and
        change."""

    @abstractmethod
    def schema(self, field: FieldSettings) -> Schema:
        """Return the JSON Schema (2020-12, as in OpenAPI 3.1) of canonical values, as a new dict. The caller adds
        null."""

    def sent_schema(self, shown: Schema) -> Schema:
        """Return the schema of the values that a write may send. `shown` is the schema of canonical values."""
        return shown

    def parse(self, text: str) -> Json:
        """Return the value of a query parameter's text. Raises ValueError that says what the field takes."""
        return _PARSERS[self.parameter](text)

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        """Return the value of a cell of a CSV file, which is not empty. The check rejects values that do not fit."""
        return read_untyped_cell(text)

    def read_native_cell(self, cell: Json) -> Json:
        """Return the value of a cell of a spreadsheet that is not text, a time or None."""
        return cell

    def write_cell(self, value: Json) -> str:
        """Return the text of a cell of a CSV file, from which `read_cell` restores `value`."""
        return write_untyped(value)

    def from_time(self, time: datetime) -> Json:
        """Return the value for a time that a file holds as a time (a cell of a spreadsheet, MongoDB's `$date`), or None
        where the type has no such value. A time of a spreadsheet has no zone; others are in UTC."""
        return None


class TextType(FieldType):
    """A type whose values are strings."""

    text = True
    may_be_unique = True
    parameter = ParameterForm.TEXT

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        return text

    def read_native_cell(self, cell: Json) -> Json:
        return plain_text(cell)

    def write_cell(self, value: Json) -> str:
        return value if isinstance(value, str) else ""


class NumberType(FieldType):
    """A type whose values are numbers."""

    may_be_unique = True
    parameter = ParameterForm.NUMBER


def read_untyped_cell(text: str) -> Json:
    """Return the value of a cell: an array, an object, a number or a literal if the cell holds one, otherwise text."""
    return read_kind(Kind.JSON, text) if text[0] in "[{" and is_json(text) else scalar(text)


def read_literal_cell(text: str) -> Json:
    """Return the value of a cell as `read_untyped_cell` does, with the spellings of true and false of spreadsheet
    programs too."""
    return LITERALS[text] if text in LITERALS else read_untyped_cell(text)


def _parse_text(text: str) -> Json:
    """Return the text without quotes, or None for an unquoted null. Quotes are only needed for the text "null"."""
    if text == "null":
        return None
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def parse_number(text: str) -> int | float:
    """Return the number in a text. Raises ValueError that says what is accepted; null is not a number."""
    value = scalar(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return value


def _parse_number_or_null(text: str) -> Json:
    return None if text == "null" else parse_number(text)


def _parse_boolean(text: str) -> Json:
    if text not in ("true", "false", "null"):
        raise ValueError("true or false")
    return scalar(text)


_PARSERS = {
    ParameterForm.TEXT: _parse_text,
    ParameterForm.NUMBER: _parse_number_or_null,
    ParameterForm.BOOLEAN: _parse_boolean,
    ParameterForm.OTHER: scalar,
}
