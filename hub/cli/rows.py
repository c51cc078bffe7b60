"""Rows of a JSON, NDJSON or CSV file, one at a time: a file of any size takes the same memory.

A row that cannot be read comes out as a refusal with its number: the line of an NDJSON file, the row of a CSV file as a
spreadsheet counts it (the header is 1), the place in a JSON array from 1.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any, Final

import ijson
import orjson

from hub.cli.cells import Cells, nest
from hub.cli.output import Failure
from stores.errors import InvalidEntity
from stores.limits import parse_json

MAX_CELL: Final = 16 * 1024 * 1024
"""Characters of one CSV cell: beyond that, a quote is missing somewhere."""


class Format(StrEnum):
    """What a file of rows is written in."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


EXTENSIONS: Final = {
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".csv": Format.CSV,
}


@dataclass(frozen=True, slots=True)
class Row:
    """`body` is the entity as JSON text."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is not imported. `field` is empty when it is about the row as a whole."""

    number: int
    field: str
    reason: str


def format_of(name: str, chosen: Format | None) -> Format:
    """The chosen format, or the one that the file's name tells; NDJSON for standard input."""
    if chosen:
        return chosen
    if name == "-":
        return Format.NDJSON
    found = EXTENSIONS.get(Path(name).suffix.lower())
    if found is None:
        raise Failure(f"{name}: cannot tell the format from the name: add --format json, ndjson or csv")
    return found


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads the rows for one store. `dropped` are fields that rows may hold and the import leaves out."""

    format: Format
    cells: Cells = field(default_factory=Cells)
    delimiter: str = ","
    dropped: frozenset[str] = frozenset()

    def read(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        if self.format is Format.CSV:
            return self.csv_rows(file)
        skip_byte_order_mark(file)
        return self.json_rows(file) if self.format is Format.JSON else self.ndjson_rows(file)

    def ndjson_rows(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield self.ndjson_row(number, line)

    def ndjson_row(self, number: int, line: bytes) -> Row | Refusal:
        try:
            return self.row(number, parse_json(line))
        except InvalidEntity:
            return Refusal(number, "", "integers must fit in 64 bits")
        except ValueError as error:
            return Refusal(number, "", f"not valid JSON: {error}")

    def json_rows(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        """The items of one array. Damage ends the file there: what follows cannot be told apart any more."""
        if next_character(file) != b"[":
            raise Failure("a JSON file holds one array of objects; for one object a line, add --format ndjson")
        number = 0
        try:
            for value in ijson.items(file, "item"):
                number += 1
                yield self.row(number, value)
        except ijson.JSONError as error:
            yield Refusal(number + 1, "", f"not valid JSON, the rest of the file is not read: {first_line(error)}")

    def csv_rows(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        csv.field_size_limit(MAX_CELL)
        # What is not UTF-8 becomes surrogates, which no row may hold.
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from self.csv_text_rows(text)
        finally:
            text.detach()  # the file is not ours to close

    def csv_text_rows(self, text: io.TextIOWrapper) -> Iterator[Row | Refusal]:
        reader = csv.reader(text, delimiter=self.delimiter, strict=True)
        columns = csv_header(next(reader, []))
        for number in count(2):
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Refusal(number, "", f"not valid CSV: {error}")
            else:
                if values:
                    yield self.csv_row(number, columns, values)

    def csv_row(self, number: int, columns: list[str], values: list[str]) -> Row | Refusal:
        if len(values) > len(columns):
            return Refusal(number, "", f"{len(values)} cells under {len(columns)} columns")
        cells = [self.cells.read(column, text) for column, text in zip(columns, values, strict=False)]
        try:
            return self.row(number, nest(columns, cells))
        except ValueError as error:
            return Refusal(number, "", str(error))

    def row(self, number: int, value: Any) -> Row | Refusal:
        if not isinstance(value, dict):
            return Refusal(number, "", "not an object")
        kept = {name: item for name, item in value.items() if name not in self.dropped}
        try:
            return Row(number, orjson.dumps(kept, default=as_float))
        except TypeError as error:
            return Refusal(number, "", str(error))


def as_float(value: Decimal) -> float:
    """ijson gives decimals. Raises TypeError for one that no double can hold."""
    number = float(value)
    if not isfinite(number):
        raise TypeError(f"{value} is out of range")
    return number


def skip_byte_order_mark(file: io.BufferedReader) -> None:
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))


def next_character(file: io.BufferedReader) -> bytes:
    """The first byte that is no white space, left unread."""
    while (character := file.peek(1)[:1]).isspace():
        file.read(1)
    return character


def first_line(error: Exception) -> str:
    """ijson's messages are text or bytes, and go on with a drawing of the place."""
    message = error.args[0] if error.args else ""
    return (message.decode(errors="replace") if isinstance(message, bytes) else str(message)).split("\n", 1)[0]


def csv_header(columns: list[str]) -> list[str]:
    columns = [column.strip() for column in columns]
    if not columns:
        raise Failure("the CSV file is empty: its first row names the columns")
    for column in columns:
        if not all(column.split(".")):
            raise Failure(f"the CSV header has a column without a name: {', '.join(columns)}")
        if columns.count(column) > 1:
            raise Failure(f"the CSV header names {column} twice")
    return columns
