"""The time of an entity's last change, which the hub assigns within the commit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from stores.bounds import Limit
from stores.fields.base import Checker, FieldSettings, NumberType, Rejected, Schema
from stores.fields.spans import Span
from stores.records import Json

_EXACT: Final = 2**53 - 1
"""Up to this, JSON clients read integers exactly. In microseconds, that is the year 2255."""

LARGEST_EXISTING_STAMP: Final[Annotated[int, Limit("store", "as a value of a field that becomes a `Stamp`", "409")]] = (
    2**52
)
"""The stamps begin above the values that entities have in the field: this leaves as many."""


class ChangeStamp(NumberType):
    """Unix microseconds of the last change. In a store they rise in the order of commits, and none is used twice."""

    takes = frozenset({"index", "hidden"})
    converts = False  # in filters, 1.0 equals 1

    def checker(self, field: FieldSettings) -> Checker:
        return check_stamp

    def schema(self, field: FieldSettings) -> Schema:
        described = "Unix microseconds of the last change, rising in the order of commits"
        limits = {"minimum": 0, "maximum": _EXACT}
        return {"type": "integer", "format": "int64", **limits, "readOnly": True, "description": described}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span(0, _EXACT),)

    def from_time(self, time: datetime) -> Json:
        """Return None for a time without a zone."""
        return round(time.timestamp() * 1_000_000) if time.tzinfo else None


def check_stamp(value: Any) -> Json:
    """Return a stamp that an entity has. Raises Rejected."""
    if type(value) is not int:
        raise Rejected("type", "a whole number")
    if value < 0:
        raise Rejected("too_low", "0")
    if value > _EXACT:
        raise Rejected("too_high", str(_EXACT))
    return value
