"""One or several of the options of a field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import Checker, FieldSettings, FieldType, Rejected, Schema, read_untyped_cell
from stores.records import Json


class OneOption(FieldType):
    """The id of an option."""

    takes_options = True

    def checker(self, field: FieldSettings) -> Checker:
        ids = field.option_ids

        def check_option(value: Any) -> Json:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise Rejected("type", "the id of an option")
            if value not in ids:
                raise Rejected("option")
            return value

        return check_option

    def schema(self, field: FieldSettings) -> Schema:
        names = ", ".join(f"{id}: {name}" for id, name in field.options)
        return {"enum": [id for id, _ in field.options], "description": names}

    def read_cell(self, text: str, option_ids: Collection[int | str] = ()) -> Json:
        """Return the id of an option, which may be a number or a string."""
        ids = {str(id): id for id in option_ids}
        return ids[text] if text in ids else read_untyped_cell(text)


class SeveralOptions(OneOption):
    """A list of ids of options."""

    def checker(self, field: FieldSettings) -> Checker:
        check_option = super().checker(field)

        def check_options(value: Any) -> Json:
            if not isinstance(value, list):
                raise Rejected("type", "a list of option ids")
            return [check_option(item) for item in value]

        return check_options

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "array", "items": super().schema(field)}
