"""Objects with typed fields inside entities."""

from __future__ import annotations

from typing import Any

from stores.fields.base import (
    EVERY_FIELD,
    IN_LISTS,
    Canonical,
    Checker,
    Converter,
    FieldSettings,
    FieldType,
    PartsRejected,
    Rejected,
    Schema,
)
from stores.fields.conversion import converter_of
from stores.fields.members import check_members, missing
from stores.fields.settings import nullable, sent_value, shown_value
from stores.fields.spans import Span
from stores.limits import MOST_VIOLATIONS
from stores.records import Json


class Object(FieldType):
    """An object that is checked like an entity of a closed store: it is written as a whole, with defaults."""

    takes = EVERY_FIELD | IN_LISTS | {"fields"}
    needs = frozenset({"fields"})

    def checker(self, field: FieldSettings) -> Checker:
        checkers = {member.id: member.checker for member in field.fields}
        required = [member.id for member in field.fields if member.required]
        defaults = {member.id: member.default for member in field.fields if member.default is not None}

        def check_object(value: Any) -> Json:
            if not isinstance(value, dict):
                raise Rejected("type", "an object")
            # The members keep their order, since objects in another order are not equal.
            filled = {**value, **{name: default for name, default in defaults.items() if name not in value}}
            checked, violations = check_members(filled, checkers, _always)
            violations = missing(required, filled) + violations
            if violations:
                raise PartsRejected(violations[:MOST_VIOLATIONS])
            return checked

        return check_object

    def canonical(self, field: FieldSettings) -> Canonical:
        """Bring the members that are there into their canonical forms; those that are missing stay missing."""
        members = field.members

        def canonical(value: Any) -> Json:
            if not isinstance(value, dict):
                return value  # type: ignore[no-any-return]
            return {name: members[name].canonical(item) if name in members else item for name, item in value.items()}

        return canonical

    def converter(self, field: FieldSettings) -> Converter:
        """Convert the members that are there."""
        members = {member.id: converter_of(member) for member in field.fields}

        def convert(value: Any) -> Json:
            if not isinstance(value, dict):
                return value  # type: ignore[no-any-return]
            return {
                name: members[name](item) if name in members and item is not None else item
                for name, item in value.items()
            }

        return convert

    def costly_in(self, field: FieldSettings, value: Any) -> int:
        if not isinstance(value, dict):
            return 0
        return sum(field.members[name].costly_in(item) for name, item in value.items() if name in field.members)

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return ()

    def schema(self, field: FieldSettings) -> Schema:
        members = {member.id: nullable(shown_value(member)) for member in field.fields}
        return {"type": "object", "properties": members, "additionalProperties": False}

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        members = {member.id: sent_value(member) for member in field.fields}
        required = [member.id for member in field.fields if member.required and member.default is None]
        return shown | {"properties": members} | ({"required": required} if required else {})


def _always(name: str) -> bool:
    return True
