"""The base of field types. A field type is an object that checks, describes, parses and writes values of its fields."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, TypeGuard

from stores.errors import Violation
from stores.fields.cells import LITERALS, Kind, is_json, plain_text, read_kind, write_untyped
from stores.fields.spans import NUMBERS, TEXTS, Span
from stores.parse import scalar
from stores.records import Json

Schema = dict[str, Any]
Checker = Callable[[Any], Json]
"""Takes a value that is not null and returns it in its canonical form. Raises Rejected."""


Canonical = Callable[[Any], Json]
"""Takes any value and returns it in its canonical form, or unaltered if it has none."""
Converter = Callable[[Any], Json]
"""Takes a value that is not null, of any type, and returns it as one of a field's type; null for a blank text. Raises
Rejected."""
OptionId = int | float | str


Adder = Callable[[Json, Json], Json]
"""Takes a value and an amount, neither of them null, and returns their sum. Raises Rejected."""


class Rejected(Exception):
    """A value that its field type rejects: (rule, detail), a rule of `stores.rule_texts.RULES`."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule, detail)

    def at(self, location: str) -> Iterator[Violation]:
        """Yield the violations, for a value at this dotted path."""
        rule, detail = self.args
        yield Violation(location, rule, detail)


class PartsRejected(Rejected):
    """A list or an object with rejected parts. The locations of the violations are paths inside the value."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        Exception.__init__(self, *violations)

    def at(self, location: str) -> Iterator[Violation]:
        for violation in self.args:
            yield Violation(f"{location}.{violation.field}", violation.rule, violation.detail)


class FieldSettings(Protocol):
    """The settings of a field that its type uses, and what is made of them."""

    @property
    def id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def default(self) -> Json: ...
    @property
    def length(self) -> int | None: ...
    @property
    def min(self) -> Json: ...
    @property
    def max(self) -> Json: ...
    @property
    def options(self) -> tuple[tuple[OptionId, str], ...]: ...
    @property
    def option_ids(self) -> frozenset[OptionId]: ...
    @property
    def digits(self) -> int | None: ...
    @property
    def places(self) -> int | None: ...
    @property
    def many(self) -> bool: ...
    @property
    def max_items(self) -> int | None: ...
    @property
    def distinct(self) -> bool: ...
    @property
    def fields(self) -> Sequence[FieldSettings]: ...
    @property
    def store(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def key(self) -> FieldSettings | None: ...
    @property
    def members(self) -> Mapping[str, FieldSettings]: ...
    @property
    def kind(self) -> FieldType: ...
    @property
    def checker(self) -> Checker: ...
    @property
    def converts(self) -> bool: ...
    def canonical(self, value: Any) -> Json: ...
    def costly_in(self, value: Any) -> int: ...


EVERY_FIELD: Final = frozenset({"required", "default", "index", "hidden"})
"""Settings that nearly every type takes, beside `id`, `type` and `label`."""
IN_LISTS: Final = frozenset({"many", "max_items", "distinct"})


class Measure(StrEnum):
    """The quantity that `min` and `max` of a field limit."""

    VALUE = "value"
    LENGTH = "length"


class ParameterForm(StrEnum):
    """The form of a query parameter's text, as the OpenAPI document describes it and `FieldType.parse` reads it unless
    a type overrides that. The document lists the forms in this order."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OTHER = "other"


class FieldType(ABC):
    """One field type. An instance has no state: it serves every field of its type in every thread.

    `takes`: the settings that a field may have, beside `id`, `type` and `label`; `unique` and `options` are for types
    whose values are scalars. `needs`: those that it must have. `measure`: what `min` and `max` limit, if it takes them.
    `text`: values are strings, which `search` includes and which cells of tables hold unaltered. `converts`: the check
    may return another value than it was given, so that filters must convert theirs alike. `costly`: the check of some
    values, which `costly_in` counts, takes long (0.3 ms). `decimal`: doubles stand for decimals, so that a sum of them
    is a decimal. `listed`: values are lists. `free`: values may be objects of any form, so paths lead into them.
    `longest`: the most characters, unless the field has a `length`; None where a length means nothing.
    `parameter`: how `parse` reads a text. `example`: a value for the docs, which the check accepts, given the settings
    that it needs.
    """

    takes: ClassVar[frozenset[str]] = EVERY_FIELD | IN_LISTS
    needs: ClassVar[frozenset[str]] = frozenset()
    measure: ClassVar[Measure] = Measure.VALUE
    text: ClassVar[bool] = False
    converts: ClassVar[bool] = True
    costly: ClassVar[bool] = False
    decimal: ClassVar[bool] = False
    listed: ClassVar[bool] = False
    free: ClassVar[bool] = False
    parameter: ClassVar[ParameterForm] = ParameterForm.OTHER

    def __init__(self, name: str, example: Json, *, longest: int | None = None) -> None:
        self.name = name
        self.example = example
        self.longest = longest

    @abstractmethod
    def checker(self, field: FieldSettings) -> Checker:
        """Return the check of the values of `field`, by its type alone: `stores.fields.settings` adds `min`, `max`,
        `options` and lists. This is called once per field, the check on every create and change."""

    def canonical(self, field: FieldSettings) -> Canonical:
        """Return the function that brings a value into its canonical form, as the check does, and that leaves values
        as they are which the check rejects. Filters use it."""
        check = self.checker(field)

        def canonical(value: Any) -> Json:
            try:
                return check(value)
            except Rejected:
                return value  # type: ignore[no-any-return]

        return canonical

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        """Return spans that contain every scalar that the check of `field` accepts, or that is in a list that it
        accepts; None if nothing is known of them. Bulk changes use them: a condition that no value may meet is
        none."""
        return None

    def costly_in(self, field: FieldSettings, value: Any) -> int:
        """Return the number of values in `value` whose check takes long. A filter may have few of them."""
        return 0

    def converter(self, field: FieldSettings) -> Converter:
        """Return the function that reads one value of another type as a value of this one, which the check may still
        reject: the text of the value, as if it stood in a cell. `stores.fields.conversion` adds lists."""
        ids = field.option_ids

        def convert(value: Any) -> Json:
            text = plain_text(value) if isinstance(value, int | float) else value
            if not isinstance(text, str):
                return text  # type: ignore[no-any-return]
            text = text.strip()
            return self.read_cell(text, ids) if text else None

        return convert

    @abstractmethod
    def schema(self, field: FieldSettings) -> Schema:
        """Return the JSON Schema (2020-12, as in OpenAPI 3.1) of canonical values, as a new dict. The caller adds
        null, and what `stores.fields.settings` says."""

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        """Return the schema of the values that a write may send. `shown` is the schema of canonical values."""
        return shown

    def parse(self, text: str) -> Json:
        """Return the value of a query parameter's text. Raises ValueError that says what the field takes."""
        return _PARSERS[self.parameter](text)

    def read_cell(self, text: str, option_ids: Collection[OptionId] = ()) -> Json:
        """Return the value of a cell of a CSV file, which is not empty. The check rejects values that do not fit."""
        return read_untyped_cell(text)

    def read_native_cell(self, cell: Json) -> Json:
        """Return the value of a cell of a spreadsheet that is not text, a time or None."""
        return cell

    def write_cell(self, value: Json) -> str:
        """Return the text of a cell of a CSV file, from which `read_cell` restores `value`."""
        return write_untyped(value)

    def add(self, value: Json, amount: Json) -> Json:
        """Return the sum of a field's value and the amount of an `$inc`, neither of them null. Raises Rejected. The
        check of the field's values comes later."""
        return add_numbers(value, amount)

    def adder(self, field: FieldSettings) -> Adder:
        """Return `add` for the values of one field."""
        return self.add

    def from_time(self, time: datetime) -> Json:
        """Return the value for a time that a file holds as a time (a cell of a spreadsheet, MongoDB's `$date`), or None
        where the type has no such value. A time of a spreadsheet has no zone; others are in UTC."""
        return None


class TextType(FieldType):
    """A type whose values are strings."""

    takes = EVERY_FIELD | IN_LISTS | {"unique", "search", "options"}
    measure = Measure.LENGTH
    text = True
    parameter = ParameterForm.TEXT

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (TEXTS,)

    def read_cell(self, text: str, option_ids: Collection[OptionId] = ()) -> Json:
        return text

    def read_native_cell(self, cell: Json) -> Json:
        return plain_text(cell)

    def write_cell(self, value: Json) -> str:
        return value if isinstance(value, str) else ""


class NumberType(FieldType):
    """A type whose values are numbers."""

    takes = EVERY_FIELD | IN_LISTS | {"unique", "options", "min", "max"}
    parameter = ParameterForm.NUMBER

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (NUMBERS,)

    def converter(self, field: FieldSettings) -> Converter:
        """Truth values become 1 and 0."""
        convert = super().converter(field)
        return lambda value: int(value) if isinstance(value, bool) else convert(value)


def add_numbers(value: Json, amount: Json) -> Json:
    """Return the sum of two numbers: exact for integers, a double otherwise. Raises Rejected for other values, and for
    a sum that no number of the hub can hold."""
    if not is_number(value) or not is_number(amount):
        raise Rejected("type", "a number")
    total: int | float = value + amount
    if isinstance(total, float):
        if not math.isfinite(total):
            raise Rejected("invalid", "The sum is too large for a number.")
    elif not -(2**63) <= total < 2**63:
        raise Rejected("integer_range")
    return total


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_untyped_cell(text: str) -> Json:
    """Return the value of a cell: an array, an object, a number or a literal if the cell holds one, otherwise text."""
    return read_kind(Kind.JSON, text) if text[0] in "[{" and is_json(text) else scalar(text)


def read_literal_cell(text: str) -> Json:
    """Return the value of a cell as `read_untyped_cell` does, with the spellings of true and false of spreadsheet
    programs too."""
    return LITERALS[text] if text in LITERALS else read_untyped_cell(text)


def parse_text(text: str) -> Json:
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
    ParameterForm.TEXT: parse_text,
    ParameterForm.NUMBER: _parse_number_or_null,
    ParameterForm.BOOLEAN: _parse_boolean,
    ParameterForm.OTHER: scalar,
}
