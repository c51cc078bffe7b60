"""Values as the text of a table's cell, without a type: what is written is read back as the same value."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Final

import orjson

from stores.errors import InvalidEntity
from stores.limits import parse_json
from stores.records import Json

NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
"""A number that its text says exactly: without leading zeros, exponent or sign of plus."""
LITERALS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Kind(StrEnum):
    """What the cells of a column hold."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


def kind_of(text: str) -> Kind | None:
    """The kind of a column that holds this cell alone; None for null, which goes with any."""
    if text == "null":
        return None
    if text in LITERALS:
        return Kind.BOOLEAN
    if NUMBER.fullmatch(text):
        return Kind.NUMBER if "." in text or is_integer(text) else Kind.TEXT
    return Kind.JSON if text[0] in "[{" and is_json(text) else Kind.TEXT


def is_integer(text: str) -> bool:
    """Whether the digits are an integer of 64 bits. ``-0`` is none: it would come back as 0."""
    return len(text) <= 20 and text != "-0" and -(2**63) <= int(text) < 2**63


def is_json(text: str) -> bool:
    try:
        parse_json(text.encode())
    except (ValueError, InvalidEntity):
        return False
    return True


def read_kind(kind: Kind, text: str) -> Json:
    """The value of a cell in a column of this kind. Raises ValueError when it is of another."""
    if kind is Kind.TEXT:
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if kind is Kind.BOOLEAN and text in LITERALS:
        return LITERALS[text]
    if kind is Kind.JSON and is_json(text):
        return parse_json(text.encode())  # type: ignore[no-any-return]
    if kind is Kind.NUMBER:
        return read_number(text)
    raise ValueError(f"not {kind}: {text[:40]}")


def read_number(text: str) -> int | float:
    if NUMBER.fullmatch(text) and "." not in text and is_integer(text):
        return int(text)
    number = float(text)
    if not isfinite(number) or not re.fullmatch(r"[-+.\deE]+", text, re.ASCII):
        raise ValueError(f"not a number: {text[:40]}")
    return number


def write_untyped(value: Json) -> str:
    """What `read_untyped` makes `value` of again, as long as its column holds values of one kind."""
    if isinstance(value, float):
        return write_float(value)
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value if value and read_untyped(value) == value else f'"{value}"'


def read_untyped(text: str) -> Json:
    """The value of a cell, not empty, by itself alone."""
    return None if text == "null" else read_kind(kind_of(text) or Kind.TEXT, text)


def write_float(value: float) -> str:
    """All digits and no exponent, which in other files stands for text such as ``0E8``."""
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"


def plain_text(value: object) -> str:
    """A cell of a sheet as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return write_float(value) if not value.is_integer() else format(Decimal(value), "f")
    return str(value)
