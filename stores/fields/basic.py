"""Boolean, and JSON for whatever has no type."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import FieldSettings, FieldType, ParameterForm, Rejected, Schema, read_literal_cell
from stores.records import Json


class Boolean(FieldType):
    """true or false."""

    parameter = ParameterForm.BOOLEAN

    def check(self, field: FieldSettings, value: Any) -> Json:
        if not isinstance(value, bool):
            raise Rejected("type", "true or false")
        return value

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "boolean"}

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        return read_literal_cell(text)


class Anything(FieldType):
    """Any JSON value."""

    def check(self, field: FieldSettings, value: Any) -> Json:
        return value  # type: ignore[no-any-return]

    def schema(self, field: FieldSettings) -> Schema:
        return {"$ref": "#/components/schemas/Value"}
