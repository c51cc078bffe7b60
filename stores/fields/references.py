"""References to entities of other stores, and serial numbers, which the hub assigns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.fields.base import (
    EVERY_FIELD,
    IN_LISTS,
    Canonical,
    Checker,
    FieldSettings,
    FieldType,
    OptionId,
    ParameterForm,
    Rejected,
    Schema,
)
from stores.fields.numbers import INT64, WHOLE_NUMBERS, check_integer
from stores.fields.spans import IDS, NUMBERS, TEXTS, Span
from stores.numbers import whole_number
from stores.parse import scalar
from stores.records import Json, is_id

LARGEST_START: Final[
    Annotated[int, Limit("field", "as the first number of a `Serial`, or one that is kept", "400")]
] = 10**15
"""The largest first number of a Serial. All that follow are exact in JavaScript too, for a thousand years."""


class Reference(FieldType):
    """The id of an entity of the field's `store`, or the value of its unique field `by`, in the form that it has there.
    The check cannot tell whether there is such an entity: the commit does that (`stores.reference_checks`)."""

    takes = EVERY_FIELD | IN_LISTS | {"unique", "store", "by", "on_delete"}
    needs = frozenset({"store"})

    def checker(self, field: FieldSettings) -> Checker:
        if field.by:
            return _key_checker(field)

        def check_reference(value: Any) -> Json:
            if not is_id(value):
                raise Rejected("reference", field.store)
            return value  # type: ignore[no-any-return]

        return check_reference

    def canonical(self, field: FieldSettings) -> Canonical:
        """By a key, filters take what filters of the key take."""
        if field.key is None:
            return super().canonical(field)
        of_key = field.key.kind.canonical(field.key)

        def canonical(value: Any) -> Json:
            key = of_key(value)
            return whole_number(key) if isinstance(key, float) else key

        return canonical

    def costly_in(self, field: FieldSettings, value: Any) -> int:
        return 0 if field.key is None else field.key.kind.costly_in(field.key, value)

    def schema(self, field: FieldSettings) -> Schema:
        if field.by:
            return {"type": ["string", "integer"], "description": f"`{field.by}` of an entity of `{field.store}`"}
        return {"type": "string", "pattern": "^[0-9a-f]{24}$", "description": f"`_id` of an entity of `{field.store}`"}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        if not field.by:
            return (IDS,)
        return (TEXTS, NUMBERS) if field.key is None else field.key.kind.spans(field.key)

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

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (WHOLE_NUMBERS,)


def _key_checker(field: FieldSettings) -> Checker:
    """Return the check of references by a field of the target. What that field does not take, no entity has; a value of
    another JSON type, such as a text for a number, is a mistake of the caller's program, and said so."""
    check = (lambda value: value) if field.key is None else field.key.kind.checker(field.key)

    def check_key(value: Any) -> Json:
        try:
            key = check(value)
        except Rejected as refusal:
            rule, *detail = refusal.args
            if rule == "type":
                raise Rejected("type", f"{detail[0]}, as {field.by} of {field.store} is") from None
            key = None
        if isinstance(key, float):
            key = whole_number(key)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise Rejected("reference", field.store)
        return key

    return check_key


def check_serial(value: Any) -> Json:
    if type(value) is not int:
        raise Rejected("type", "a whole number")
    return value


def check_kept_serial(value: Any) -> Json:
    """Check a number that a new entity brings with it: others follow it. Raises Rejected."""
    number: Any = check_integer(value)
    if number < 0:
        raise Rejected("too_low", "0")
    if number > LARGEST_START:
        raise Rejected("too_high", str(LARGEST_START))
    return number  # type: ignore[no-any-return]
