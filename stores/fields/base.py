"""What a type of field is: one object that checks, describes, parses and writes the values of its fields."""

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
    """A value that its type refuses: (rule, detail), a rule of `stores.schema.RULES`."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule, detail)


class FieldSettings(Protocol):
    """What a type may read of the field that it checks or describes."""

    @property
    def length(self) -> int | None: ...
    @property
    def options(self) -> tuple[tuple[int | str, str], ...]: ...
    @property
    def option_ids(self) -> frozenset[int | str]: ...


class ParameterForm(StrEnum):
    """What the text of a query parameter is: documents describe it so, and `parse` reads it so unless the type has one
    of its own. Their order is that of documents."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OTHER = "other"


class FieldType(ABC):
    """One type of field. An instance has no state: it serves every field of its type in every thread.

    `text`: values are strings, which `search` looks into and cells of tables hold unaltered. `may_be_unique`: values
    are scalars that a unique index holds. `takes_options`: a field needs `options`. `longest`: most characters, which
    the `length` of a field replaces; None where a length means nothing. `parameter`: how `parse` reads a text.
    `example`: a value for the docs, which its check accepts, with options if it needs them.
    """

    text: ClassVar[bool] = False
    may_be_unique: ClassVar[bool] = False
    takes_options: ClassVar[bool] = False
    parameter: ClassVar[ParameterForm] = ParameterForm.OTHER

    def __init__(self, name: str, example: Json, *, longest: int | None = None) -> None:
        self.name = name
        self.example = example
        self.longest = longest

    @abstractmethod
    def checker(self, field: FieldSettings) -> Checker:
        """The check of the values of `field`: called once per field, what it returns with every create and change."""

    @abstractmethod
    def schema(self, field: FieldSettings) -> Schema:
        """The JSON Schema (2020-12, as in OpenAPI 3.1) of canonical values, as a new dict. Null is added by others."""

    def sent_schema(self, shown: Schema) -> Schema:
        """The schema of what a write may send, where `shown` is that of canonical values."""
        return shown

    def parse(self, text: str) -> Json:
        """The value that a query parameter's text stands for. Raises ValueError that says what the field takes."""
        return _PARSERS[self.parameter](text)

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        """The value of a cell of a CSV file, which is not empty. What does not fit is for the check to refuse."""
        return read_untyped_cell(text)

    def read_native_cell(self, cell: Json) -> Json:
        """The value of a cell of a spreadsheet, which is no text, time or None."""
        return cell

    def write_cell(self, value: Json) -> str:
        """The text of a cell of a CSV file: `read_cell` makes `value` of it."""
        return write_untyped(value)

    def from_time(self, time: datetime) -> Json:
        """The value for a time that a file holds as such (a sheet's cell, MongoDB's `$date`); None where there is
        none. A time of a sheet has no zone, others are in UTC."""
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
    """A cell as JSON where it is an array or an object, as a number or literal where it is one, and as text."""
    return read_kind(Kind.JSON, text) if text[0] in "[{" and is_json(text) else scalar(text)


def read_literal_cell(text: str) -> Json:
    """The same, with true and false in the spellings of spreadsheet programs too."""
    return LITERALS[text] if text in LITERALS else read_untyped_cell(text)


def _parse_text(text: str) -> Json:
    """As it is; null unquoted is none, and quotes are only needed to say "null"."""
    if text == "null":
        return None
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def parse_number(text: str) -> int | float:
    """Raises ValueError that says what is taken; null is no number."""
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
