"""The hub and its command line with an additional field type: `python percent.py serve`. An example of `register`."""

from __future__ import annotations

from typing import Any

from hub.cli.main import main
from stores.fields import FieldSettings, Rejected, register
from stores.fields.base import Checker, NumberType, Schema
from stores.records import Json


class Percent(NumberType):
    """A number from 0 to 100, which may also be sent as `"12.5 %"`."""

    def checker(self, field: FieldSettings) -> Checker:
        return check_percent

    def schema(self, field: FieldSettings) -> Schema:
        return {"type": "number", "minimum": 0, "maximum": 100}

    def sent_schema(self, field: FieldSettings, shown: Schema) -> Schema:
        return {"anyOf": [shown, {"type": "string", "pattern": r"^\d+(\.\d+)? ?%$"}]}

    def parse(self, text: str) -> Json:
        try:
            return super().parse(text.removesuffix("%").rstrip())
        except ValueError:
            raise ValueError("a percentage") from None

    def write_cell(self, value: Json) -> str:
        return f"{super().write_cell(value)} %"


def check_percent(value: Any) -> Json:
    number = _without_sign(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 100:
        raise Rejected("type", "a percentage from 0 to 100")
    return number


def _without_sign(text: str) -> Json:
    try:
        return float(text.removesuffix("%")) if text.endswith("%") else text
    except ValueError:
        return text


if __name__ == "__main__":
    register(Percent("Percent", 12.5))
    main()
