"""Values as text of cells of tables, without a field type. A written value is read back as the same value."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from math import isfinite, nan
from typing import Final

import orjson

from stores.errors import InvalidEntity
from stores.limits import parse_json
from stores.records import Json

NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
"""A number in exact notation: without leading zeros, exponent or plus sign."""
LITERALS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Kind(StrEnum):
    """The kind of values in the cells of a column."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


def kind_of(text: str) -> Kind | None:
    """Return the kind of a column that holds only this cell; None for null, which fits any kind."""
    if text == "null":
        return None
    if text in LITERALS:
        return Kind.BOOLEAN
    if NUMBER.fullmatch(text):
        return Kind.NUMBER if "." in text or is_integer(text) else Kind.TEXT
    return Kind.JSON if text[0] in "[{" and is_json(text) else Kind.TEXT


def is_integer(text: str) -> bool:
    """Return whether the digits are an integer of 64 bits. ``-0`` is not: it would be read back as 0."""
    return len(text) <= 20 and text != "-0" and -(2**63) <= int(text) < 2**63


def is_json(text: str) -> bool:
    try:
        parse_json(text.encode())
    except (ValueError, InvalidEntity):
        return False
    return True


def read_kind(kind: Kind, text: str) -> Json:
    """Return the value of a cell in a column of this kind. Raises ValueError when the cell is of another kind."""
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
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number) or not re.fullmatch(r"[-+.\deE]+", text, re.ASCII):
        raise ValueError(f"not a number: {text[:40]}")
    return number


def write_untyped(value: Json) -> str:
    """Return the text from which `read_untyped` restores `value`, as long as the column holds values of one kind."""
    if isinstance(value, float):
        return write_float(value)
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value if value and read_untyped(value) == value else f'"{value}"'


def read_untyped(text: str) -> Json:
    """Return the value of a cell that is not empty, without regard to other cells of its column."""
    return None if text == "null" else read_kind(kind_of(text) or Kind.TEXT, text)


def write_float(value: float) -> str:
    """Return all digits without an exponent. A cell such as ``0E8`` is read as text: other files hold such codes."""
    text = format(Decimal(repr(value)), "f")
    return text if "." in text else f"{text}.0"


def plain_text(value: object) -> str:
    """Return a cell of a spreadsheet as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return write_float(value) if not value.is_integer() else format(Decimal(value), "f")
    return str(value)
