"""The rules that a value may break, with a message for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RULES: Final[Mapping[str, str]] = {
    "required": "This field is required.",
    "unknown": "There is no such field.",
    "system": "This field is assigned by the hub.",
    "type": "Must be {detail}.",
    "option": "The selected option is not valid.",
    "too_long": "Must not be longer than {detail} characters.",
    "too_short": "Must not be shorter than {detail} characters.",
    "too_low": "Must be at least {detail}.",
    "too_high": "Must be at most {detail}.",
    "reference": "There is no such entity of {detail}.",
    "reference_default": "The default of this field is no entity of {detail} that you see: send another value.",
    "double": "This value is in the list already.",
    "date": "Must be a real date, such as 2020-11-26.",
    "datetime": "Must be a real UTC time, such as 2020-11-26 06:00:00, or a time with a zone in ISO 8601.",
    "decimal": "Must be a decimal of at most {detail}.",
    "color": "Must be a color, such as #333333.",
    "url": "Must be an http or https URL.",
    "email": "Must be a mail address, such as ann@example.com.",
    "phone": "Must be a phone number of 5 to 15 digits, such as +15145550123.",
    "timezone": "Must be an IANA time zone, such as America/Toronto.",
    "bad_name": "Field names must not be empty, start with $ or contain a dot or NUL.",
    "reserved": "This name is reserved: names that begin with _ are the hub's own.",
    "name_too_long": "Field names must not be longer than {detail} characters.",
    "nul": "Text must not contain NUL.",
    "integer_range": "Integers must fit in 64 bits.",
    "too_large": "Must not be larger than {detail} bytes.",
    "too_many": "Must not hold more than {detail} values.",
    "too_deep": "Must not be nested deeper than {detail} levels.",
    "not_scalar": "A unique field takes a string, a number or null.",
    "duplicate": "Another entity has this value.",
    "duplicate_together": "Another entity has these values of {detail}.",
    "parallel": "Must not be a list while {detail} leads to one: an index covers both.",
    "invalid": "{detail}",
}
"""Rule → English message; `{detail}` is `Violation.detail`. Dialects may use messages of their own."""
