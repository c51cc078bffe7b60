"""Empty texts in place of no value: what a form sends for a field that was left empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stores.fields.base import FieldSettings


def takes_blank(field: FieldSettings) -> bool:
    """Return whether an empty text can be a value of the field. Where it cannot, it means null in a write."""
    return (field.kind.blank or "" in field.option_ids) and not (field.many or field.kind.listed)


def without_blanks(values: dict[str, Any], fields: Mapping[str, FieldSettings]) -> dict[str, Any]:
    """Return the values of named fields with null for empty texts that mean it, also inside of objects and of lists of
    them. The argument is left as it is."""
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if value == "" or isinstance(value, dict | list):
            field = fields.get(name)
            if field is not None and (made := without_blank(value, field)) is not value:
                changed[name] = made
    return {**values, **changed} if changed else values


def without_blank(value: Any, field: FieldSettings) -> Any:
    """Return the value of a field: the same object if there is nothing to change in it."""
    if value == "":
        return value if takes_blank(field) else None
    if not field.fields:
        return value
    if isinstance(value, dict):
        return without_blanks(value, field.members)
    if isinstance(value, list) and field.many:
        made = [without_blanks(item, field.members) if isinstance(item, dict) else item for item in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value
