"""Whole numbers of 64 bits and exact decimals."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from stores.fields.base import (
    Adder,
    Canonical,
    Checker,
    FieldSettings,
    NumberType,
    Rejected,
    Schema,
    add_numbers,
    is_number,
)
from stores.fields.spans import Span
from stores.parse import number
from stores.records import Json

INT64: Final[Schema] = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
WHOLE_NUMBERS: Final = Span(-(2**63), 2**63 - 1)
_EXACT: Final = 2**53
"""Up to this, each whole number has a double of its own."""
DIGITS: Final = 15
"""The most digits of a decimal, before and after the point: a double holds them without loss."""
PLACES: Final = 3
"""Digits after the point, unless a field says otherwise."""
_DECIMAL: Final = re.compile(rf"-?\d{{1,{DIGITS}}}(\.\d{{1,{DIGITS}}})?", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,300}(\.\d{1,300})?", re.ASCII)


class Integer(NumberType):
    """A whole number of 64 bits. `stores.limits` checks its size."""

    converts = False  # in filters, 1.0 equals 1

    def checker(self, field: FieldSettings) -> Checker:
        return check_integer

    def schema(self, field: FieldSettings) -> Schema:
        return dict(INT64)

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (WHOLE_NUMBERS,)

    def add(self, value: Json, amount: Json) -> Json:
        """Return the exact sum, also of numbers that are written with a point: `1.0`."""
        return add_numbers(_whole(value), _whole(amount))

    def from_time(self, time: datetime) -> Json:
        """Return Unix milliseconds; None for a time without a zone."""
        return round(time.timestamp() * 1000) if time.tzinfo else None


class ExactDecimal(NumberType):
    """A decimal of `digits` digits, `places` of them after the point, stored as a double: up to 15 significant digits
    are converted both ways without loss."""

    takes = NumberType.takes | {"digits", "places"}
    decimal = True

    def checker(self, field: FieldSettings) -> Checker:
        return decimal_checker(digits_of(field), places_of(field))

    def canonical(self, field: FieldSettings) -> Canonical:
        """A text with a number beyond the field's digits is that number, as in a parameter: it may be a bound."""
        canonical = super().canonical(field)

        def asked(value: Any) -> Json:
            found = canonical(value)
            return number(found) if isinstance(found, str) and _NUMBER.fullmatch(found) else found

        return asked

    def schema(self, field: FieldSettings) -> Schema:
        largest = _largest(field)
        text = f"decimal({digits_of(field)},{places_of(field)})"
        return {"type": "number", "minimum": -largest, "maximum": largest, "description": text}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span(-_largest(field), _largest(field)),)

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        return {"anyOf": [shown, _text_schema(digits_of(field), places_of(field))]}

    def adder(self, field: FieldSettings) -> Adder:
        """Return the exact decimal sum of numbers, given as such or as text."""
        check = self.checker(field)

        def exact(value: Json) -> Decimal:
            number = _decimal(value)
            return Decimal(str(check(value))) if number is None else number

        return lambda value, amount: check(f"{exact(value) + exact(amount):f}")


def digits_of(field: FieldSettings) -> int:
    return DIGITS if field.digits is None else field.digits


def places_of(field: FieldSettings) -> int:
    """Return the digits after the point: three, or all there are if a field has fewer and says no more."""
    return min(PLACES, digits_of(field)) if field.places is None else field.places


def _largest(field: FieldSettings) -> int | float:
    places = places_of(field)
    largest = 10 ** digits_of(field) - 1
    return float(Decimal(largest).scaleb(-places)) if places else largest


def _text_schema(digits: int, places: int) -> Schema:
    """Return the schema of the texts that a field takes."""
    point = rf"(\.\d{{1,{places}}})?" if places else ""
    return {"type": "string", "pattern": rf"^-?\d{{1,{max(1, digits - places)}}}{point}$"}


DECIMAL_TEXT: Final[Schema] = _text_schema(DIGITS, PLACES)


def check_integer(value: Any) -> Json:
    """Return a whole number, which may be written with a point or an exponent (`1.0`) as long as a double is exact.
    Raises Rejected."""
    if type(value) is int:  # not isinstance: true is an int too
        return value
    if isinstance(value, float):
        if value.is_integer() and -_EXACT <= value <= _EXACT:
            return int(value)
        raise Rejected("type", "a whole number, written without point and exponent")
    raise Rejected("type", "a whole number")


def _whole(value: Json) -> Json:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def decimal_checker(digits: int, places: int) -> Checker:
    """Return the check of decimals, given as numbers or as text. It returns an integer or the nearest double, and
    raises Rejected."""
    beyond = 10 ** (digits - places)
    most = f"{digits - places} digits before and {places} after the point" if places else f"{digits} digits, all whole"

    def check_decimal(value: Any) -> Json:
        kind = type(value)
        if kind is int or kind is float:
            # A double is the nearest one to a decimal of at most 15 digits if rounding to its places gives it again.
            if not -beyond < value < beyond or round(value, places) != value:
                raise Rejected("decimal", most)
            return int(value) if kind is int or value.is_integer() else value
        number = _decimal(value)
        if number is None or not (abs(number) < beyond and number == round(number, places)):
            raise Rejected("decimal", most)
        return int(number) if number == int(number) else float(number)

    return check_decimal


def _decimal(value: Any) -> Decimal | None:
    """Return the number; None for a text that is none. Raises Rejected for values of other types."""
    if isinstance(value, str):
        return Decimal(value) if _DECIMAL.fullmatch(value) else None
    if not is_number(value):
        raise Rejected("type", "a number")
    return Decimal(str(value))
