"""Text, long text, and text of a certain format: colours, URLs and time zones."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from stores.fields.base import Checker, FieldSettings, Rejected, Schema, TextType
from stores.fields.spans import Span, one_value
from stores.records import Json

TEXT_LENGTH: Final = 255
TEXTAREA_LENGTH: Final = 100_000
URL_LENGTH: Final = 2_000
_COLOR: Final = re.compile(r"#[0-9A-Fa-f]{6}")


class Text(TextType):
    """Any text of at most `longest` characters, or of the `length` of its field."""

    takes = TextType.takes | {"length", "min", "max"}
    converts = False
    longest: int

    def __init__(self, name: str, example: Json, *, longest: int) -> None:
        super().__init__(name, example, longest=longest)

    def checker(self, field: FieldSettings) -> Checker:
        longest = self.longest_of(field)

        def check_text(value: Any) -> Json:
            if not isinstance(value, str):
                raise Rejected("type", "a string")
            if len(value) > longest:
                raise Rejected("too_long", str(longest))
            return value

        return check_text

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "maxLength": self.longest_of(field)}

    def longest_of(self, field: FieldSettings) -> int:
        """Return the most characters: `max` of a text means the same as `length`."""
        return field.max if isinstance(field.max, int) else field.length or self.longest


class LongText(Text):
    """Text that may be too long for a unique index."""

    takes = Text.takes - {"unique"}


class Color(TextType):
    """A colour, such as `#333333`."""

    converts = False

    def checker(self, field: FieldSettings) -> Checker:
        return check_color

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$", "examples": [self.example]}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span("#000000", "#ffffff", "#0123456789ABCDEFabcdef"),)


def check_color(value: Any) -> Json:
    if not isinstance(value, str) or not _COLOR.fullmatch(value):
        raise Rejected("color")
    return value


class WebAddress(TextType):
    """An absolute http or https URL, without blanks, control characters and invisible ones."""

    takes = TextType.takes | {"min", "max"}
    converts = False

    def checker(self, field: FieldSettings) -> Checker:
        return check_url

    def schema(self, field: FieldSettings) -> Schema:
        # A format of the hub's own: validators ignore formats that they do not know.
        return {"type": "string", "format": "http-url", "maxLength": URL_LENGTH}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return (Span("H", "i"),)  # the scheme may be in capitals


def check_url(value: Any) -> Json:
    if not isinstance(value, str) or len(value) > URL_LENGTH or not _is_url(value):
        raise Rejected("url")
    return value


def _is_url(text: str) -> bool:
    if " " in text or not text.isprintable():  # the parser would drop some of these characters
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


class Timezone(TextType):
    """The name of an IANA time zone."""

    converts = False

    def checker(self, field: FieldSettings) -> Checker:
        return check_timezone

    def schema(self, field: FieldSettings) -> Schema:
        return {"$ref": "#/components/schemas/Timezone"}

    def spans(self, field: FieldSettings) -> tuple[Span, ...] | None:
        return tuple(map(one_value, timezones()))


def check_timezone(value: Any) -> Json:
    if not isinstance(value, str) or value not in timezones():
        raise Rejected("timezone")
    return value


@cache
def timezones() -> frozenset[str]:
    """Return the names of all time zones that this system knows."""
    return frozenset(available_timezones())
