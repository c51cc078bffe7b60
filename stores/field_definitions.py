"""Strict parsing of the fields of a store definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.definition_reader import DefinitionReader
from stores.field import SERIAL, Field
from stores.fields import FIELD_TYPES, TEXTAREA_LENGTH, FieldType, OptionId, Rejected
from stores.fields.base import Measure
from stores.fields.lists import LARGEST_MAX_ITEMS
from stores.fields.numbers import DIGITS, digits_of
from stores.fields.references import LARGEST_START
from stores.paths import is_position
from stores.records import SYSTEM_FIELDS
from stores.relation import ON_DELETE, OnDelete

MAX_FIELDS: Final[Annotated[int, Limit("store", "fields", "400")]] = 500
"""Fields of a store, those inside of objects included."""
MAX_OPTIONS: Final[Annotated[int, Limit("field", "options", "400")]] = 10_000
MAX_OBJECT_LEVELS: Final[Annotated[int, Limit("field", "levels of `Object`", "400")]] = 8

FLAGS: Final = ("required", "unique", "index", "search", "hidden", "many", "distinct")
NUMBERS: Final = ("length", "max_items", "start", "digits", "places")
REFERENCE: Final = ("store", "by", "on_delete")
FIELD_SETTINGS: Final = frozenset(
    {"id", "type", "label", "options", "default", "min", "max", "fields", *NUMBERS, *REFERENCE, *FLAGS}
)
TOLERATED: Final = ("length", "options")
"""Settings that have no effect on a type that does not take them. Earlier hubs took them with any type, so only new
definitions are refused for them (`hub.services.system_stores.definitions`)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The objects around a field: their number, and whether one of them is in a list."""

    levels: int = 0
    in_list: bool = False


class FieldReader:
    """Reads the fields of one definition. Violations go to the `reader` of the definition."""

    def __init__(self, reader: DefinitionReader) -> None:
        self._reader = reader
        self._room = MAX_FIELDS

    def fields(
        self, document: Mapping[str, Any], prefix: str = "", around: Surroundings = Surroundings()
    ) -> tuple[Field, ...]:
        """Return the valid fields of a store, or of an Object at `prefix`."""
        listed: list[Any] = self._reader.of_type(document, "fields", list, [], prefix)
        if len(listed) > self._room:
            self._reader.refuse(f"{prefix}fields", f"At most {MAX_FIELDS} fields.")
            return ()
        self._room -= len(listed)
        fields: dict[str, Field] = {}
        for i, item in enumerate(listed):
            made = self._field(item, f"{prefix}fields.{i}.", around)
            if made and made.id in fields:
                self._reader.refuse(f"{prefix}fields.{i}.id", "This id is taken.")
            elif made:
                fields[made.id] = made
        return tuple(fields.values())

    def _field(self, document: Any, prefix: str, around: Surroundings) -> Field | None:
        reader = self._reader
        if not isinstance(document, dict):
            reader.refuse(prefix.rstrip("."), "Must be an object.")
            return None
        before = reader.refusals
        for name in document.keys() - FIELD_SETTINGS:
            reader.refuse(f"{prefix}{name}", "There is no such setting of a field.")
        flags = {name: reader.of_type(document, name, bool, False, prefix) for name in FLAGS}
        numbers = {name: reader.of_type(document, name, int, None, prefix) for name in NUMBERS}
        made = Field(
            id=reader.of_type(document, "id", str, "", prefix),
            type=reader.of_type(document, "type", str, "", prefix),
            label=reader.of_type(document, "label", str, "", prefix),
            options=self._options(document, prefix),
            store=reader.of_type(document, "store", str, "", prefix),
            by=reader.of_type(document, "by", str, "", prefix),
            on_delete=self._on_delete(document, prefix),
            **flags,
            **numbers,
        )
        self._check_name(made.id, prefix, around)
        kind = FIELD_TYPES.get(made.type)
        if kind is None:
            reader.refuse(f"{prefix}type", f"Must be one of {', '.join(FIELD_TYPES)}.")
            return None
        self._check_settings(kind, made, document, prefix)
        self._check_surroundings(made, prefix, around)
        if kind.takes >= {"fields"}:
            made = self._with_members(made, document, prefix, around)
        if reader.refusals > before:
            return None
        if "min" in kind.takes:
            made = self._with_bounds(kind, made, document, prefix)
        if "options" in kind.takes - kind.needs:
            made = self._with_own_options(made, prefix)
        return self._with_default(made, document, prefix) if reader.refusals == before else None

    def _check_name(self, name: str, prefix: str, around: Surroundings) -> None:
        if around.levels == 0 and not is_field_name(name):
            self._reader.refuse(f"{prefix}id", "Must be a field name that is not reserved.")
        elif around.levels and not _is_member_name(name):
            self._reader.refuse(f"{prefix}id", "Must be a field name, and no number: that is an array position.")

    def _check_settings(self, kind: FieldType, made: Field, document: Mapping[str, Any], prefix: str) -> None:
        """Refuse settings that the type does not take, and a lack of those that it needs."""
        refuse = self._reader.refuse
        for name in sorted(kind.needs):
            if not document.get(name):
                refuse(f"{prefix}{name}", f"{kind.name} needs {name}.")
        given = {name for name in FIELD_SETTINGS - {"id", "type", "label"} if _is_given(document.get(name))}
        for name in sorted(given - kind.takes - {*TOLERATED}):
            refuse(f"{prefix}{name}", _refusal(kind, name))
        for name in sorted(given & kind.takes & {"max_items", "distinct"}):
            if "many" in kind.takes and not made.many:
                refuse(f"{prefix}{name}", "Only a field with many values has this setting.")
        if made.many and made.unique:
            refuse(f"{prefix}unique", "A field with many values cannot be unique.")
        if made.required and made.on_delete == "clear":
            refuse(f"{prefix}on_delete", "A required field cannot be cleared.")
        if made.start is not None and not 0 <= made.start <= LARGEST_START:
            refuse(f"{prefix}start", f"Must be from 0 to {LARGEST_START}.")
        if made.length is not None and not 0 < made.length <= TEXTAREA_LENGTH:
            refuse(f"{prefix}length", f"Must be from 1 to {TEXTAREA_LENGTH}.")
        if made.max_items is not None and not 0 < made.max_items <= LARGEST_MAX_ITEMS:
            refuse(f"{prefix}max_items", f"Must be from 1 to {LARGEST_MAX_ITEMS}.")
        if made.digits is not None and not 0 < made.digits <= DIGITS:
            refuse(f"{prefix}digits", f"Must be from 1 to {DIGITS}.")
        elif made.places is not None and not 0 <= made.places <= digits_of(made):
            refuse(f"{prefix}places", f"Must be from 0 to {digits_of(made)}, the digits of the field.")

    def _on_delete(self, document: Mapping[str, Any], prefix: str) -> OnDelete:
        given = document.get("on_delete")
        for choice in ON_DELETE:
            if given == choice or (given is None and choice == "refuse"):
                return choice
        self._reader.refuse(f"{prefix}on_delete", f"Must be one of {', '.join(ON_DELETE)}.")
        return "refuse"

    def _check_surroundings(self, made: Field, prefix: str, around: Surroundings) -> None:
        """Refuse settings that a field inside of an object cannot have."""
        if around.levels and made.hidden:
            self._reader.refuse(f"{prefix}hidden", "Only a field of the store can be hidden, with all that it holds.")
        if around.in_list and made.unique:
            self._reader.refuse(f"{prefix}unique", "A field of objects in a list cannot be unique.")
        if around.levels and made.type == SERIAL:
            self._reader.refuse(f"{prefix}type", "Only a field of the store can be a Serial.")

    def _with_members(self, made: Field, document: Mapping[str, Any], prefix: str, around: Surroundings) -> Field:
        if around.levels == MAX_OBJECT_LEVELS:
            self._reader.refuse(f"{prefix}type", f"At most {MAX_OBJECT_LEVELS} objects inside of each other.")
            return made
        inside = Surroundings(around.levels + 1, around.in_list or made.many)
        return replace(made, fields=self.fields(document, prefix, inside))

    def _options(self, document: Mapping[str, Any], prefix: str) -> tuple[tuple[OptionId, str], ...]:
        found: dict[OptionId, str] = {}
        listed = self._reader.of_type(document, "options", list, [], prefix)
        if len(listed) > MAX_OPTIONS:
            self._reader.refuse(f"{prefix}options", f"At most {MAX_OPTIONS} options.")
            return ()
        for i, item in enumerate(listed):
            good = (
                isinstance(item, dict) and isinstance(item.get("id"), int | str) and isinstance(item.get("name"), str)
            )
            if not good or isinstance(item["id"], bool) or set(item) - {"id", "name"}:
                self._reader.refuse(f"{prefix}options.{i}", "Must be an object with an id and a name.")
            elif item["id"] in found:
                self._reader.refuse(f"{prefix}options.{i}", "This id is taken.")
            else:
                found[item["id"]] = item["name"]
        return tuple(found.items())

    def _with_own_options(self, made: Field, prefix: str) -> Field:
        """Return the field with its options as values of its type, in canonical form."""
        check = replace(made, options=(), many=False).checker
        found: dict[OptionId, str] = {}
        for i, (id, name) in enumerate(made.options):
            try:
                value: Any = check(id)
            except Rejected as refusal:
                for violation in refusal.at(f"{prefix}options.{i}"):
                    self._reader.refuse(violation.field, violation.detail, violation.rule)
                continue
            if value in found:
                self._reader.refuse(f"{prefix}options.{i}", "This id is taken.")
            else:
                found[value] = name
        return replace(made, options=tuple(found.items()))

    def _with_bounds(self, kind: FieldType, made: Field, document: Mapping[str, Any], prefix: str) -> Field:
        """Return the field with `min` and `max` in canonical form."""
        read = self._value_bound if kind.measure is Measure.VALUE else self._length_bound
        bounds = {name: read(kind, made, document, name, prefix) for name in ("min", "max")}
        least, most = bounds["min"], bounds["max"]
        if kind.measure is Measure.LENGTH and least is not None:
            most = most or made.length or kind.longest
        if least is not None and most is not None and least > most:
            self._reader.refuse(f"{prefix}min", f"Must not be greater than the most, {most}.")
        return replace(made, **bounds)

    def _value_bound(self, kind: FieldType, made: Field, document: Mapping[str, Any], name: str, prefix: str) -> Any:
        if document.get(name) is None:
            return None
        try:
            return kind.checker(made)(document[name])
        except Rejected as refusal:
            for violation in refusal.at(f"{prefix}{name}"):
                self._reader.refuse(violation.field, violation.detail, violation.rule)
            return None

    def _length_bound(self, kind: FieldType, made: Field, document: Mapping[str, Any], name: str, prefix: str) -> Any:
        bound = self._reader.of_type(document, name, int, None, prefix)
        if bound is None:
            return None
        least = 0 if name == "min" else 1
        most = TEXTAREA_LENGTH if "length" in kind.takes else kind.longest
        if bound < least or (most is not None and bound > most):
            self._reader.refuse(f"{prefix}{name}", f"Must be a length from {least} to {most}.")
        elif name == "max" and made.length is not None and "length" in kind.takes:
            self._reader.refuse(f"{prefix}max", "max and length mean the same: send one.")
        return bound

    def _with_default(self, made: Field, document: Mapping[str, Any], prefix: str) -> Field | None:
        default = document.get("default")
        if default is None:
            return made
        try:
            return replace(made, default=made.checker(default))
        except Rejected as refusal:
            for violation in refusal.at(f"{prefix}default"):
                self._reader.refuse(violation.field, violation.detail, violation.rule)
            return None


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != []


def _refusal(kind: FieldType, name: str) -> str:
    if name == "unique":
        return f"{kind.name} cannot be unique."
    return f"{kind.name} is not text." if name == "search" else f"{kind.name} takes no {name}."


def is_field_name(name: str) -> bool:
    reserved = name in SYSTEM_FIELDS or name == "success"
    return _is_name(name) and name[0] != "_" and not reserved


def _is_member_name(name: str) -> bool:
    return _is_name(name) and not is_position(name)


def _is_name(name: str) -> bool:
    return bool(name) and name[0] != "$" and "." not in name and "\0" not in name
