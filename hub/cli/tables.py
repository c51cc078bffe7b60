"""Tables in files: the rows of a CSV file or of an Excel sheet as lists of cells under a header.

A quote that is left open would swallow the rows behind it: `read_csv` stops there and names the lines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, BinaryIO, Final
from zipfile import BadZipFile

from hub.cli.output import Failure, Misuse, grouped
from hub.cli.xlsx_text import unescape

MAX_CELL: Final = 16 * 1024 * 1024
"""Characters of one CSV cell: beyond that, a quote is missing somewhere."""
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLED: Final = 50
SWALLOWED: Final = {2: 20}
"""Lines within one cell that all look like rows, by the number of columns; `FEW` for more columns."""
FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is not imported. `field` is empty when it is about the row as a whole. `last`: nothing behind it is
    read."""

    number: int
    field: str
    reason: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class CsvForm:
    """`multiline`: a cell may hold lines that look like rows."""

    delimiter: str = ","
    multiline: bool = False


TableRow = tuple[int, list[Any]] | Refusal
"""The number of a row, as a spreadsheet counts, and its cells. The first one is the header."""


class OpenQuote(Failure):
    """A quote that swallows rows. `lines` are those of the whole file."""

    def __init__(self, first: int, last: int, lines: int) -> None:
        self.lines = lines
        where = f"lines {grouped(first)} to {grouped(last)} of {grouped(lines)}"
        super().__init__(f"{where}: a quote that opens in line {grouped(first)} is not closed in its row: mend it")


def read_csv(file: BinaryIO, form: CsvForm = CsvForm()) -> Generator[TableRow]:
    """The rows of a CSV file in UTF-8. A row of one line that cannot be read comes as a Refusal. Raises OpenQuote, and
    Failure for a header without names."""
    csv.field_size_limit(MAX_CELL)
    # What is not UTF-8 becomes surrogates, which no row may hold.
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    try:
        yield from csv_table(text, form)
    finally:
        with suppress(ValueError):  # the file is not ours to close; it may have been closed
            text.detach()


def csv_table(text: io.TextIOWrapper, form: CsvForm) -> Iterator[TableRow]:
    opening = text.readline()
    # Excel writes and reads a first line that says `sep=;`.
    skipped = 1 if separator_line(opening) else 0
    reader = csv.reader(chain([] if skipped or not opening else [opening], text), delimiter=form.delimiter, strict=True)
    columns: list[str] = []
    for number in count(1):
        first = skipped + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            last = skipped + reader.line_num
            if number == 1 or last > first:
                raise OpenQuote(first, last, last + sum(1 for _ in text)) from error
            yield Refusal(number, "", f"not valid CSV: {error}")
            continue
        if (not cells and number == 1) or cells is None:
            if number == 1:
                raise Failure("the CSV file is empty: its first row names the columns")
            return
        if number == 1:
            columns = cells
        elif reader.line_num + skipped - first > FEW and not form.multiline and swallows(cells, columns, form):
            last = skipped + reader.line_num
            raise OpenQuote(first, last, last + sum(1 for _ in text))
        yield number, cells


def separator_line(line: str) -> str | None:
    """The delimiter that a line ``sep=;`` names."""
    stripped = line.rstrip("\r\n").strip('"')
    return stripped[4] if len(stripped) == 5 and stripped.lower().startswith("sep=") else None


def swallows(cells: Sequence[str], columns: Sequence[str], form: CsvForm) -> bool:
    """Whether a cell of many lines has taken rows in: all of its lines but the first and last look like rows."""
    inner = max(cells, key=len, default="").splitlines()[1:-1]
    enough = SWALLOWED.get(len(columns), FEW) if len(columns) > 1 else len(inner) + 1
    return len(inner) >= enough and all(line.count(form.delimiter) == len(columns) - 1 for line in inner)


def check_delimiter(text: str) -> str:
    """The delimiter that an option names. Raises Misuse."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise Misuse("--delimiter takes one character, or the word tab")
    return delimiter


def find_delimiter(file: io.BufferedReader) -> str:
    """The delimiter under which most of the first rows have as many cells as the header; a comma when none does."""
    # A quoted line break at the end of the sample does no harm: only whole rows are compared.
    sample = file.peek(65_536)[:65_536].decode("utf-8", "replace")
    named = separator_line(sample.split("\n", 1)[0])
    if named:
        return named
    best = max(DELIMITERS, key=lambda delimiter: likeness(sample, delimiter))
    return best if likeness(sample, best)[0] else ","


def likeness(sample: str, delimiter: str) -> tuple[float, int]:
    """(share of rows with as many cells as the header, cells of the header); (0, 0) with a single column."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    try:
        rows = [len(row) for row in islice(reader, SAMPLED) if row]
    except csv.Error:
        return 0, 0
    # The last row of the sample may be cut.
    compared = rows[:-1] if len(rows) > 2 else rows
    if not compared or compared[0] < 2:
        return 0, 0
    return compared.count(compared[0]) / len(compared), compared[0]


def check_header(cells: Sequence[object], what: str = "CSV") -> list[str]:
    """The names of the columns, exactly as they are. Raises Failure for what cannot name a column."""
    columns = ["" if cell is None else str(cell) for cell in cells]
    for column in columns:
        if not all(column.split(".")):
            raise Failure(f"the {what} header has a column without a name: {', '.join(columns)}")
        if columns.count(column) > 1:
            raise Failure(f"the {what} header names {column} twice")
    return columns


def read_sheet(file: BinaryIO, name: str | None = None) -> Generator[TableRow]:
    """The rows of a sheet of an .xlsx file, the first one unless named; a row without any value is left out. Raises
    Failure."""
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = open_book(file)
        sheet = book[name] if name else book.worksheets[0]
        sheet.reset_dimensions()
        header = 0
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            if any(cell is not None for cell in cells):
                header = header or number
                yield number, trimmed(cells) if number == header else list(map(unescape, cells))
        book.close()
    except (BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, SyntaxError, OSError) as error:
        raise Failure(f"not a readable .xlsx file: {error}") from error
    if not header:
        raise Failure("the sheet is empty: its first row names the columns")


def describe_sheets(file: BinaryIO, name: str | None) -> str:
    """``sheet 'Readings', other sheets left out: 'Stations'``"""
    book = open_book(file)
    chosen = name or book.sheetnames[0]
    others = ", ".join(repr(each) for each in book.sheetnames if each != chosen)
    book.close()
    return f"sheet {chosen!r}" + (f", other sheets left out: {others}" if others else "")


def open_book(file: BinaryIO) -> Any:
    import openpyxl

    return openpyxl.load_workbook(file, read_only=True, data_only=True)


def trimmed(cells: Sequence[object]) -> list[object]:
    """A header without the empty cells behind it."""
    kept = list(map(unescape, cells))
    while kept and kept[-1] is None:
        kept.pop()
    return kept
