"""Whole numbers of 64 bits and exact decimals."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from stores.fields.base import Checker, FieldSettings, NumberType, Rejected, Schema
from stores.records import Json

INT64: Final[Schema] = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
_LARGEST_DECIMAL: Final = 999_999_999_999.999
_DECIMAL_TEXT: Final[Schema] = {"type": "string", "pattern": r"^-?\d{1,12}(\.\d{1,3})?$"}
_DECIMAL: Final = re.compile(r"-?\d{1,15}(\.\d{1,6})?", re.ASCII)


class Integer(NumberType):
    """A whole number of 64 bits. `stores.limits` checks its size."""

    def checker(self, field: FieldSettings) -> Checker:
        return check_integer

    def schema(self, field: FieldSettings) -> Schema:
        return dict(INT64)

    def from_time(self, time: datetime) -> Json:
        """Return Unix milliseconds; None for a time without a zone."""
        return round(time.timestamp() * 1000) if time.tzinfo else None


class ExactDecimal(NumberType):
    """decimal(15,3) stored as a double: 15 significant digits are converted both ways without loss."""

    decimal = True

    def checker(self, field: FieldSettings) -> Checker:
        return check_decimal

    def schema(self, field: FieldSettings) -> Schema:
        limits = {"minimum": -_LARGEST_DECIMAL, "maximum": _LARGEST_DECIMAL}
        return {"type": "number", **limits, "description": "decimal(15,3)"}

    def sent_schema(self, shown: Schema) -> Schema:
        return {"anyOf": [shown, _DECIMAL_TEXT]}


def check_integer(value: Any) -> Json:
    if type(value) is not int:  # not isinstance: true is an int too
        how = ", written without point and exponent" if isinstance(value, float) else ""
        raise Rejected("type", f"a whole number{how}")
    return value


def check_decimal(value: Any) -> Json:
    """Return a number, given as such or as text, as an integer or as the nearest double."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise Rejected("type", "a number")
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise Rejected("decimal")
    number = Decimal(str(value))
    if not (abs(number) < 10**12 and number == round(number, 3)):
        raise Rejected("decimal")
    return int(number) if number == int(number) else float(number)
