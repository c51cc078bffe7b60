"""Whole numbers of 64 bits and exact decimals."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from stores.fields.base import (
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
_LARGEST_DECIMAL: Final = 999_999_999_999.999
_BEYOND_DECIMAL: Final = 10**12
DECIMAL_TEXT: Final[Schema] = {"type": "string", "pattern": r"^-?\d{1,12}(\.\d{1,3})?$"}
_DECIMAL: Final = re.compile(r"-?\d{1,15}(\.\d{1,6})?", re.ASCII)
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
    """decimal(15,3) stored as a double: 15 significant digits are converted both ways without loss."""

    decimal = True

    def checker(self, field: FieldSettings) -> Checker:
        return check_decimal

    def canonical(self, field: FieldSettings) -> Canonical:
        """A text with a number beyond the field's digits is that number, as in a parameter: it may be a bound."""
        canonical = super().canonical(field)

        def asked(value: Any) -> Json:
            found = canonical(value)
            return number(found) if isinstance(found, str) and _NUMBER.fullmatch(found) else found

        return asked

    def schema(self, field: FieldSettings) -> Schema:
        limits = {"minimum": -_LARGEST_DECIMAL, "maximum": _LARGEST_DECIMAL}
        return {"type": "number", **limits, "description": "decimal(15,3)"}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span(-_LARGEST_DECIMAL, _LARGEST_DECIMAL),)

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        return {"anyOf": [shown, DECIMAL_TEXT]}

    def add(self, value: Json, amount: Json) -> Json:
        """Return the exact decimal sum of numbers, given as such or as text."""
        return _canonical(_decimal(value) + _decimal(amount))


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


def check_decimal(value: Any) -> Json:
    """Return a number, given as such or as text, as an integer or as the nearest double. Raises Rejected."""
    kind = type(value)
    if kind is int or kind is float:
        # A double is the nearest one to a decimal of at most 15 digits if rounding to its places gives it again.
        if not -_BEYOND_DECIMAL < value < _BEYOND_DECIMAL or round(value, 3) != value:
            raise Rejected("decimal")
        return int(value) if kind is int or value.is_integer() else value
    return _canonical(_decimal(value))


def _decimal(value: Any) -> Decimal:
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise Rejected("decimal")
    elif not is_number(value):
        raise Rejected("type", "a number")
    return Decimal(str(value))


def _canonical(number: Decimal) -> Json:
    if not (abs(number) < _BEYOND_DECIMAL and number == round(number, 3)):
        raise Rejected("decimal")
    return int(number) if number == int(number) else float(number)
