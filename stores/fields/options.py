"""One or several of the options of a field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import (
    EVERY_FIELD,
    IN_LISTS,
    Checker,
    Converter,
    FieldSettings,
    FieldType,
    OptionId,
    Rejected,
    Schema,
    read_untyped_cell,
)
from stores.fields.lists import refuse_doubles
from stores.fields.spans import Span, one_value
from stores.records import Json


class OneOption(FieldType):
    """The id of an option."""

    takes = EVERY_FIELD | IN_LISTS | {"options"}
    needs = frozenset({"options"})
    converts = False

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

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return tuple(map(one_value, field.option_ids))

    def read_cell(self, text: str, option_ids: Collection[OptionId] = ()) -> Json:
        """Return the id of an option, which may be a number or a string."""
        ids = {str(id): id for id in option_ids}
        return ids[text] if text in ids else read_untyped_cell(text)

    def converter(self, field: FieldSettings) -> Converter:
        ids, convert = field.option_ids, super().converter(field)
        # An id stays, whatever its text is the id of.
        return lambda value: value if _is_one_of(ids, value) else convert(value)


class SeveralOptions(OneOption):
    """A list of ids of options, of any length unless the field sets one."""

    takes = EVERY_FIELD | {"options", "max_items", "distinct"}
    listed = True

    def checker(self, field: FieldSettings) -> Checker:
        check_option, most, distinct = super().checker(field), field.max_items, field.distinct

        def check_options(value: Any) -> Json:
            if not isinstance(value, list):
                raise Rejected("type", "a list of option ids")
            if most is not None and len(value) > most:
                raise Rejected("too_many", str(most))
            checked = [check_option(item) for item in value]
            if distinct:
                refuse_doubles(checked)
            return checked

        return check_options

    def schema(self, field: FieldSettings) -> Schema:
        most = {} if field.max_items is None else {"maxItems": field.max_items}
        distinct = {"uniqueItems": True} if field.distinct else {}
        return {"type": "array", "items": super().schema(field)} | most | distinct


def _is_one_of(ids: Collection[OptionId], value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value in ids
