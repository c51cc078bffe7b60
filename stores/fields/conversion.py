"""Stored values of one field type as values of another. Nothing is lost: what the new type cannot hold is rejected."""

from __future__ import annotations

from typing import Any

from stores.fields.base import Converter, FieldSettings, Rejected
from stores.fields.settings import item_checker
from stores.records import Json


def converter_of(field: FieldSettings) -> Converter:
    """Return the function that makes a value of `field` of any stored one, in canonical form.

    A value that the field accepts stays what it is. A single value becomes a list of one, and a list of one a single
    value. A blank text, and an empty list, become null where the field cannot hold them."""
    check, check_item, convert_item = field.checker, item_checker(field), field.kind.converter(field)
    is_list = field.many or field.kind.listed

    def item(value: Any) -> Json:
        try:
            return check_item(value)
        except Rejected:
            return convert_item(value)

    def items(value: Any) -> list[Json]:
        listed = value if isinstance(value, list) else [value]
        return [made for each in listed if each is not None and (made := item(each)) is not None]

    def convert(value: Any) -> Json:
        try:
            return check(value)
        except Rejected:
            made: Any = items(value)
        if not is_list:
            if len(made) > 1:
                raise Rejected("invalid", "Several values cannot become one.")
            made = made[0] if made else None
        return None if made is None else check(made)

    return convert
