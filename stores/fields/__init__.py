"""The field types. `FIELD_TYPES` maps the names used in definitions to them.

A new type is a class in a module of this package and an entry below. A program that embeds the hub may `register` a
type before it starts the hub, in every process that needs it: the hub and its command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stores.fields.base import FieldSettings, FieldType, OptionId, Rejected
from stores.fields.basic import Anything, Boolean
from stores.fields.contacts import ADDRESS_LENGTH, Email, Phone
from stores.fields.numbers import ExactDecimal, Integer
from stores.fields.objects import Object
from stores.fields.options import OneOption, SeveralOptions
from stores.fields.references import Reference, SerialNumber
from stores.fields.stamps import ChangeStamp
from stores.fields.texts import (
    TEXT_LENGTH,
    TEXTAREA_LENGTH,
    URL_LENGTH,
    Color,
    LongText,
    Text,
    Timezone,
    WebAddress,
)
from stores.fields.times import Date, DateTime

__all__ = [
    "FIELD_TYPES",
    "TEXTAREA_LENGTH",
    "FieldSettings",
    "FieldType",
    "OptionId",
    "Rejected",
    "register",
    "type_named",
]

JSON: Final = Anything("JSON", {"any": ["value", 1, None]})

_TYPES: Final[tuple[FieldType, ...]] = (
    Boolean("Boolean", True),
    Color("ColorSwatch", "#333333"),
    SeveralOptions("Checkbox", [1, 2]),
    SeveralOptions("MultiSelect", [1, 2]),
    OneOption("Radio", "idle"),
    OneOption("Select", "idle"),
    Date("Date", "2020-11-26"),
    DateTime("DateTime", "2020-11-26 06:00:00"),
    Integer("Number", 42),
    ExactDecimal("Numeric", 1250.33),
    Object("Object", {"city": "Montréal"}),
    Reference("Reference", "6b03c48bc153bcada89413a9"),
    SerialNumber("Serial", 1),
    ChangeStamp("Stamp", 1764547200000000),
    WebAddress("URL", "https://example.com/", longest=URL_LENGTH),
    Email("Email", "ann@example.com", longest=ADDRESS_LENGTH),
    Phone("Phone", "+15145550123"),
    Text("Text", "One line", longest=TEXT_LENGTH),
    LongText("Textarea", "Several\nlines", longest=TEXTAREA_LENGTH),
    Timezone("Timezone", "America/Toronto"),
    JSON,
)
_by_name: Final[dict[str, FieldType]] = {each.name: each for each in _TYPES}

FIELD_TYPES: Final[Mapping[str, FieldType]] = MappingProxyType(_by_name)
"""Name → type, in the order of documents and error texts."""


def register(field_type: FieldType) -> None:
    """Add a type in this process. Raises ValueError when its name is taken."""
    if field_type.name in _by_name:
        raise ValueError(f"there is a field type {field_type.name} already")
    _by_name[field_type.name] = field_type


def type_named(name: str) -> FieldType:
    """Return the type, or JSON if this program does not know the name: the command line may call a newer hub."""
    return _by_name.get(name, JSON)
