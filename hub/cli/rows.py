"""Reads the rows of a JSON, NDJSON, CSV or Excel file one by one, in constant memory.

A row that cannot be read becomes a refusal with its number: the line of an NDJSON file, the row of a CSV file or sheet
as a spreadsheet counts it (the header is 1), or the place in a JSON array, counted from 1.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any, Final

import ijson
import orjson

from hub.cli import extended_json
from hub.cli.cells import Absent, Cells, nest
from hub.cli.extended_json import MARK
from hub.cli.keys import Keys
from hub.cli.output import Failure, grouped
from hub.cli.tables import CsvForm, LineBreaks, Refusal, TableRow, check_header, read_csv, read_sheet
from stores.errors import InvalidEntity
from stores.limits import parse_json
from stores.records import Json

MAX_LINE: Final = 64 * 1024 * 1024
"""Largest line of an NDJSON file in bytes. No entity is that long."""


class Format(StrEnum):
    """The format of a file of rows."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    XLSX = "xlsx"

    @property
    def is_table(self) -> bool:
        """Whether it has columns, and no JSON types."""
        return self in (Format.CSV, Format.XLSX)


EXTENSIONS: Final = {
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".xlsx": Format.XLSX,
    ".xlsm": Format.XLSX,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A readable row. `body` is the entity as JSON text."""

    number: int
    body: bytes


def format_of(name: str, chosen: Format | None) -> Format:
    """Return the chosen format, or the one of the file's name; NDJSON for standard input."""
    if chosen:
        return chosen
    if name == "-":
        return Format.NDJSON
    found = EXTENSIONS.get(Path(name.removesuffix(".gz")).suffix.lower())
    if found is None:
        raise Failure(f"{name}: cannot tell the format from the name: add --format json, ndjson, csv or xlsx")
    return found


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads the rows for one store. The import leaves out the fields `dropped`. `keys` checks the keys, if the import
    has one."""

    format: Format
    cells: Cells = field(default_factory=Cells)
    form: CsvForm = field(default_factory=CsvForm)
    dropped: frozenset[str] = frozenset()
    keys: Keys | None = None
    sheet: str | None = None

    def read(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        """Yield the rows of a file; text must be UTF-8. Raises Failure if the rest cannot be read."""
        if self.format.is_table:
            return self.table_rows(self.table(file))
        return self.json_rows(file) if self.format is Format.JSON else self.ndjson_rows(file)

    def table(self, file: io.BufferedReader, line_breaks: LineBreaks | None = None) -> Generator[TableRow]:
        is_sheet = self.format is Format.XLSX
        return read_sheet(file, self.sheet) if is_sheet else read_csv(file, self.form, line_breaks)

    def ndjson_rows(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield Refusal(number, "", f"longer than {grouped(MAX_LINE)} bytes")
            elif line.strip():
                yield self.ndjson_row(number, line)

    def ndjson_row(self, number: int, line: bytes) -> Row | Refusal:
        try:
            value = parse_json(line)
            return self.row(number, self.unwrap(value) if MARK in line else value)
        except InvalidEntity:
            return Refusal(number, "", "integers must fit in 64 bits")
        except ValueError as error:
            return Refusal(number, "", str(error) if "extended" in str(error) else f"not valid JSON: {error}")

    def json_rows(self, file: io.BufferedReader) -> Iterator[Row | Refusal]:
        """Yield the items of one array. After invalid JSON nothing more is read: later items cannot be separated."""
        if next_character(file) != b"[":
            raise Failure("a JSON file holds one array of objects; for one object a line, add --format ndjson")
        number = 0
        try:
            for value in ijson.items(file, "item"):
                number += 1
                yield self.json_row(number, value)
        except ijson.JSONError as error:
            reason = f"not valid JSON, the rest of the file is not read: {first_line(error)}"
            yield Refusal(number + 1, "", reason, last=True)

    def json_row(self, number: int, value: Any) -> Row | Refusal:
        try:
            return self.row(number, self.unwrap(value))
        except ValueError as error:
            return Refusal(number, "", str(error))

    def unwrap(self, value: Any) -> Any:
        """Return a row without the wrappers of extended JSON. Raises ValueError."""
        return extended_json.plain(value, {name: str(each["type"]) for name, each in self.cells.fields.items()})

    def table_rows(self, table: Iterator[TableRow]) -> Iterator[Row | Refusal]:
        header = next(table)
        columns = self.names(header)
        for row in table:
            if isinstance(row, Refusal):
                yield row
            elif row[1]:
                yield self.table_row(row[0], columns, row[1])

    def names(self, header: TableRow) -> list[str]:
        """Return the names of the columns. Raises Failure."""
        cells = [] if isinstance(header, Refusal) else header[1]
        if self.cells.excel:
            cells = [cell.removeprefix("'") for cell in cells]
        return check_header(cells, self.format.upper())

    def table_row(self, number: int, columns: list[str], values: list[Any]) -> Row | Refusal:
        if len(values) > len(columns) and any(value is not None for value in values[len(columns) :]):
            return Refusal(number, "", f"{len(values)} cells under {len(columns)} columns")
        cells: list[Json | Absent] = []
        try:
            for column, value in zip(columns, values, strict=False):
                cells.append(self.cells.read(column, value))
        except ValueError as error:
            return Refusal(number, columns[len(cells)], str(error))
        try:
            return self.row(number, nest(columns, cells, self.cells.lookups))
        except ValueError as error:
            return Refusal(number, "", str(error))

    def row(self, number: int, value: Any) -> Row | Refusal:
        if not isinstance(value, dict):
            return Refusal(number, "", "not an object")
        kept = {name: item for name, item in value.items() if name not in self.dropped}
        try:
            body = orjson.dumps(kept, default=as_float)
        except TypeError as error:
            return Refusal(number, "", str(error))
        if self.keys and (fault := self.keys.fault(number, kept)):
            return Refusal(number, self.keys.path, fault)
        return Row(number, body)


def as_float(value: Decimal) -> float:
    """Convert a decimal from ijson. Raises TypeError if it is out of the range of a double."""
    number = float(value)
    if not isfinite(number):
        raise TypeError(f"{value} is out of range")
    return number


def next_character(file: io.BufferedReader) -> bytes:
    """Skip white space; return the next byte without reading it."""
    while (character := file.peek(1)[:1]).isspace():
        file.read(1)
    return character


def first_line(error: Exception) -> str:
    """Return the first line of an ijson message, which is text or bytes; further lines show the place."""
    message = error.args[0] if error.args else ""
    return (message.decode(errors="replace") if isinstance(message, bytes) else str(message)).split("\n", 1)[0]
