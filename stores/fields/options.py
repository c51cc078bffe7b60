"""One or several of the options that a field lists."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import FieldSettings, FieldType, Rejected, Schema, read_untyped_cell
from stores.records import Json


class OneOption(FieldType):
    """The id of an option."""

    takes_options = True

    def check(self, field: FieldSettings, value: Any) -> Json:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise Rejected("type", "the id of an option")
        if value not in field.option_ids:
            raise Rejected("option")
        return value

    def schema(self, field: FieldSettings) -> Schema:
        names = ", ".join(f"{id}: {name}" for id, name in field.options)
        return {"enum": [id for id, _ in field.options], "description": names}

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        """The id of an option, whether it is a number or a string."""
        ids = {str(id): id for id in option_ids}
        return ids[text] if text in ids else read_untyped_cell(text)


class SeveralOptions(OneOption):
    """A list of ids of options."""

    def check(self, field: FieldSettings, value: Any) -> Json:
        if not isinstance(value, list):
            raise Rejected("type", "a list of option ids")
        check = super().check
        return [check(field, item) for item in value]

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "array", "items": super().schema(field)}
