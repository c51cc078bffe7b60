"""Dates, and times in UTC."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, Final

from stores.fields.base import Checker, FieldSettings, Rejected, Schema, TextType
from stores.records import Json

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATETIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


class Date(TextType):
    """A date, such as `2020-11-26`."""

    def checker(self, field: FieldSettings) -> Checker:
        return check_date

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "format": "date", "examples": [self.example]}

    def from_time(self, time: datetime) -> Json:
        return f"{time:%Y-%m-%d}"


class DateTime(TextType):
    """A time in UTC, such as `2020-11-26 06:00:00`."""

    def checker(self, field: FieldSettings) -> Checker:
        return check_datetime

    def schema(self, field: FieldSettings) -> Schema:
        # A format of the hub's own: validators ignore formats that they do not know.
        return {"type": "string", "format": "utc-datetime", "examples": [self.example]}

    def from_time(self, time: datetime) -> Json:
        return f"{time:%Y-%m-%d %H:%M:%S}"


def check_date(value: Any) -> Json:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise Rejected("date")
    try:
        date.fromisoformat(value)
    except ValueError:
        raise Rejected("date") from None
    return value


def check_datetime(value: Any) -> Json:
    if not isinstance(value, str) or not _DATETIME.fullmatch(value):
        raise Rejected("datetime")
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise Rejected("datetime") from None
    return value
