"""The filters of the feed, read from its query parameters. Unknown parameters are ignored, and so are empty ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Annotated, Final

from auth.view import View
from hub.dialects.listings.errors import InvalidFields
from hub.dialects.listings.lookups import STAMP, ReferenceData
from stores.bounds import Limit
from stores.folding import fold
from stores.parse import MOST_SEARCH_TEXT
from stores.query import Compare, ContainsFolded, Equal, Filter, In, Or

Parameters = Mapping[str, str]

MOST_SEARCH_WORDS: Final[Annotated[int, Limit("search of listings", "words", "400")]] = 20
_LONGEST_NUMBER: Final = 1_000

ALL: Final = "all"
"""The value of `publish_status` with which the feed shows listings of every status."""

INVALID_NUMBER: Final = "A valid number is required."
INVALID_TIME: Final = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
_INVALID_CHOICE: Final = '"{}" is not a valid choice.'
_TOO_MANY_TERMS: Final = f"Ensure this value has no more than {MOST_SEARCH_WORDS} words."
_TOO_LONG: Final = f"Ensure this value has at most {MOST_SEARCH_TEXT} characters."
_NUL: Final = "Null characters are not allowed."

_DIGITS: Final = 15
"""Digits of a price before its point, and more than it has behind it."""
_CENT: Final = Decimal("0.01")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s*([Zz]|[+-]\d\d(:?\d\d)?)?)?", re.ASCII
)
_FIELDS: Final[Mapping[str, str]] = {"min_price": "price", "max_price": "price", "updated_after": STAMP}
"""The fields of parameters that have another name."""
_SEARCHED: Final = ("title", "description", "location")
_LOCATIONS: Final = (("district", "districts"), ("region", "regions"))


class Refused(Exception):
    """A value that a filter refuses; the text says why."""


def feed_filter(parameters: Parameters, view: View, data: ReferenceData) -> list[Filter]:
    """Return the conditions that the parameters set. Those of hidden fields are ignored. Raises InvalidFields, which
    names each wrong one."""
    conditions: list[Filter] = []
    errors: dict[str, list[str]] = {}
    for name, read in _READ.items():
        is_hidden = _FIELDS.get(name, name) in view.hidden
        value = "" if is_hidden else parameters.get(name, "")
        if value or name == "publish_status":
            try:
                conditions += read(value, view, data)
            except Refused as refusal:
                errors[name] = [str(refusal)]
    if errors:
        raise InvalidFields(errors)
    return conditions


Read = Callable[[str, View, ReferenceData], list[Filter]]
"""Returns the conditions of a parameter's value. Raises Refused."""


def _slug(field: str) -> Read:
    return lambda value, view, data: [Equal((field,), value)]


def _choice(field: str) -> Read:
    def read(value: str, view: View, data: ReferenceData) -> list[Filter]:
        if value not in view.definition.by_id[field].option_ids:
            raise Refused(_INVALID_CHOICE.format(printable(value)))
        return [Equal((field,), value)]

    return read


def _publish_status(value: str, view: View, data: ReferenceData) -> list[Filter]:
    return [] if value == ALL else _choice("publish_status")(value or "published", view, data)


def _least_price(value: str, view: View, data: ReferenceData) -> list[Filter]:
    return [Compare(("price",), "gte", _price(value, ROUND_CEILING))]


def _greatest_price(value: str, view: View, data: ReferenceData) -> list[Filter]:
    return [Compare(("price",), "lte", _price(value, ROUND_FLOOR))]


def _price(text: str, rounding: str) -> float:
    """Return a bound of prices. It is rounded to the next price within the bound, which a double represents as it does
    that price."""
    text = text.strip()
    if len(text) > _LONGEST_NUMBER:
        raise Refused("String value too large.")
    if not _NUMBER.fullmatch(text):
        raise Refused(INVALID_NUMBER)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Refused(INVALID_NUMBER) from None
    if not number:
        return 0.0
    exponent = max(-_DIGITS, min(number.adjusted(), _DIGITS))
    if exponent != number.adjusted():  # beyond all prices, or next to zero: arithmetic would overflow
        number = Decimal(-1 if number.is_signed() else 1).scaleb(exponent)
    return float(number.quantize(_CENT, rounding))


def _updated_after(value: str, view: View, data: ReferenceData) -> list[Filter]:
    return [Compare((STAMP,), "gte", microseconds(value))]


def microseconds(text: str) -> int:
    """Return an ISO 8601 time, which is UTC if it has no zone, in Unix microseconds. Raises Refused."""
    text = text.strip()
    time, blank, zone = text.rpartition(" ")
    if blank and ":" in time and zone[:1].isdigit():  # the plus sign of a zone that was not percent-encoded
        text = f"{time}+{zone}"
    if not _TIME.fullmatch(text):
        raise Refused(INVALID_TIME)
    try:
        found = datetime.fromisoformat(text.upper())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(INVALID_TIME) from None
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _search(value: str, view: View, data: ReferenceData) -> list[Filter]:
    """Return a condition for each word: it is somewhere in the texts, or in the name of the district or region."""
    if "\0" in value:
        raise Refused(_NUL)
    if len(value) > MOST_SEARCH_TEXT:
        raise Refused(_TOO_LONG)
    terms = dict.fromkeys(fold(term) for term in value.split())
    if len(terms) > MOST_SEARCH_WORDS:
        raise Refused(_TOO_MANY_TERMS)
    texts = [field for field in _SEARCHED if field not in view.hidden]
    locations = [(field, kind) for field, kind in _LOCATIONS if field not in view.hidden]
    return [
        Or((*(ContainsFolded((field,), term) for field in texts), *_in_locations(term, locations, data)))
        for term in terms
    ]


def _in_locations(term: str, locations: Iterable[tuple[str, str]], data: ReferenceData) -> list[Filter]:
    """Return the conditions for listings in districts and regions whose names contain a word."""
    found = ((field, data.tables[kind].named(term)) for field, kind in locations)
    return [In((field,), slugs) for field, slugs in found if slugs]


def printable(text: str) -> str:
    """Return a value from a caller, shortened."""
    return text[:200]


_READ: Final[Mapping[str, Read]] = {
    "publish_status": _publish_status,
    "listing_type": _choice("listing_type"),
    "property_type": _slug("property_type"),
    "region": _slug("region"),
    "district": _slug("district"),
    "min_price": _least_price,
    "max_price": _greatest_price,
    "availability": _choice("availability"),
    "updated_after": _updated_after,
    "search": _search,
}
