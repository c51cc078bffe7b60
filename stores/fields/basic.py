"""Boolean, and JSON for values without a type."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import (
    Checker,
    Converter,
    FieldSettings,
    FieldType,
    OptionId,
    ParameterForm,
    Rejected,
    Schema,
    is_number,
    read_literal_cell,
)
from stores.fields.spans import BOOLEANS, Span
from stores.records import Json


class Boolean(FieldType):
    """true or false."""

    converts = False
    parameter = ParameterForm.BOOLEAN

    def checker(self, field: FieldSettings) -> Checker:
        return check_boolean

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "boolean"}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return BOOLEANS

    def read_cell(self, text: str, option_ids: Collection[OptionId] = ()) -> Json:
        return read_literal_cell(text)

    def converter(self, field: FieldSettings) -> Converter:
        """1 and 0 become truth values."""
        convert = super().converter(field)
        return lambda value: bool(value) if is_number(value) and value in (0, 1) else convert(value)


class Anything(FieldType):
    """Any JSON value."""

    converts = False
    free = True

    def checker(self, field: FieldSettings) -> Checker:
        return lambda value: value

    def schema(self, field: FieldSettings) -> Schema:
        return {"$ref": "#/components/schemas/Value"}


def check_boolean(value: Any) -> Json:
    if value is not True and value is not False:
        raise Rejected("type", "true or false")
    return value
