"""Dates, and times in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, Final

from stores.fields.base import Canonical, Checker, Converter, FieldSettings, Measure, Rejected, Schema, TextType
from stores.fields.spans import Span
from stores.records import Json

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATETIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?:(:\d\d)(?:[.,]\d{1,9})?)?([Zz]|[+-]\d\d(?::?[0-5]\d)?)?", re.ASCII
)
_LONGEST: Final = 40
_MIDNIGHT: Final = " 00:00:00"


class Date(TextType):
    """A date, such as `2020-11-26`."""

    takes = TextType.takes | {"min", "max"}
    measure = Measure.VALUE
    converts = False

    def checker(self, field: FieldSettings) -> Checker:
        return check_date

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "format": "date", "examples": [self.example]}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span("0001-01-01", "9999-12-31", "-0123456789"),)

    def from_time(self, time: datetime) -> Json:
        return f"{time:%Y-%m-%d}"

    def converter(self, field: FieldSettings) -> Converter:
        """A time becomes its date if it is midnight, so that nothing is lost."""
        convert = super().converter(field)

        def read(value: Any) -> Json:
            text = convert(value)
            try:
                time = str(check_datetime(text))
            except Rejected:
                return text
            return time.removesuffix(_MIDNIGHT)

        return read


class DateTime(TextType):
    """A time in UTC, such as `2020-11-26 06:00:00`. It may be sent in ISO 8601 with a zone."""

    takes = TextType.takes | {"min", "max"}
    measure = Measure.VALUE

    def checker(self, field: FieldSettings) -> Checker:
        return check_datetime

    def canonical(self, field: FieldSettings) -> Canonical:
        """Filters take a time without a zone too, in UTC: as text it would be after all times of its day."""
        return _asked_time

    def schema(self, field: FieldSettings) -> Schema:
        # A format of the hub's own: validators ignore formats that they do not know.
        return {"type": "string", "format": "utc-datetime", "examples": [self.example]}

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        return {"anyOf": [shown, {"type": "string", "format": "date-time"}]}

    def parse(self, text: str) -> Json:
        """Read a parameter's text. The plus sign of a zone that was not percent-encoded arrives as a blank."""
        time, blank, zone = text.rpartition(" ")
        return super().parse(f"{time}+{zone}" if blank and ("T" in time or " " in time) else text)

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span("0001-01-01 00:00:00", "9999-12-31 23:59:59", "-: 0123456789"),)

    def from_time(self, time: datetime) -> Json:
        return f"{time:%Y-%m-%d %H:%M:%S}"

    def converter(self, field: FieldSettings) -> Converter:
        """A date becomes the midnight with which it begins, in UTC."""
        convert = super().converter(field)

        def read(value: Any) -> Json:
            text = convert(value)
            return f"{text}{_MIDNIGHT}" if isinstance(text, str) and _DATE.fullmatch(text) else text

        return read


def check_date(value: Any) -> Json:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise Rejected("date")
    try:
        date.fromisoformat(value)
    except ValueError:
        raise Rejected("date") from None
    return value


def check_datetime(value: Any) -> Json:
    """Return the time in UTC. Fractions of a second are cut off, which keeps the order of times. Raises Rejected."""
    if not isinstance(value, str):
        raise Rejected("datetime")
    try:
        if _DATETIME.fullmatch(value):
            datetime.fromisoformat(value)
            return value
        return _utc(value)
    except (ValueError, OverflowError):
        raise Rejected("datetime") from None


def _asked_time(value: Any) -> Json:
    """Return the canonical form of a time in a filter, in UTC if it has no zone; other values as they are."""
    try:
        return _utc(value, needs_zone=False) if isinstance(value, str) and not _DATETIME.fullmatch(value) else value
    except (ValueError, OverflowError):
        return value  # type: ignore[no-any-return]


def _utc(text: str, *, needs_zone: bool = True) -> str:
    """Return the canonical form of a time in ISO 8601, which may lack its zone only if that is said. Raises ValueError,
    and OverflowError for a time outside the years 1 to 9999 in UTC."""
    found = _ISO.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or (needs_zone and not found[4]):
        raise ValueError("not a time with a zone")
    day, minutes, seconds, zone = found[1], found[2], found[3] or ":00", found[4] or "Z"
    time = datetime.fromisoformat(f"{day} {minutes}{seconds}{'+00:00' if zone in 'Zz' else zone}")
    return str(time.astimezone(UTC).replace(tzinfo=None))
