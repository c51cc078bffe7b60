"""References to entities of other stores, and serial numbers, which the hub assigns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stores.fields.base import (
    EVERY_FIELD,
    IN_LISTS,
    Checker,
    FieldSettings,
    FieldType,
    OptionId,
    ParameterForm,
    Rejected,
    Schema,
)
from stores.fields.numbers import INT64
from stores.parse import scalar
from stores.records import Json, is_id


class Reference(FieldType):
    """The id of an entity of the field's `store`, or the value of its unique field `by`. Its check cannot tell whether
    there is such an entity: the commit does that (`stores.reference_checks`)."""

    takes = EVERY_FIELD | IN_LISTS | {"unique", "store", "by", "on_delete"}
    needs = frozenset({"store"})

    def checker(self, field: FieldSettings) -> Checker:
        if field.by:
            return check_value

        def check_reference(value: Any) -> Json:
            if not is_id(value):
                raise Rejected("reference", field.store)
            return value  # type: ignore[no-any-return]

        return check_reference

    def schema(self, field: FieldSettings) -> Schema:
        if field.by:
            return {"type": ["string", "integer"], "description": f"`{field.by}` of an entity of `{field.store}`"}
        return {"type": "string", "pattern": "^[0-9a-f]{24}$", "description": f"`_id` of an entity of `{field.store}`"}

    def parse(self, text: str) -> Json:
        return text if is_id(text) else scalar(text)

    def read_cell(self, text: str, option_ids: Collection[OptionId] = ()) -> Json:
        return text if is_id(text) else super().read_cell(text, option_ids)


class SerialNumber(FieldType):
    """A whole number that the hub assigns to a new entity, one more than before."""

    takes = frozenset({"index", "hidden", "start"})
    parameter = ParameterForm.NUMBER

    def checker(self, field: FieldSettings) -> Checker:
        return check_serial

    def schema(self, field: FieldSettings) -> Schema:
        return {**INT64, "readOnly": True}


def check_value(value: Any) -> Json:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise Rejected("type", "a string or a whole number")
    return value


def check_serial(value: Any) -> Json:
    if type(value) is not int:
        raise Rejected("type", "a whole number")
    return value
