"""Reads tables from files: the rows of a CSV file or Excel sheet as lists of cells, beginning with the header.

An unclosed quote would swallow the rows after it: `read_csv` stops there and reports the lines. One that another quote
closes again is valid CSV, and may be meant: `LineBreaks` tells of such cells.
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
"""Largest cell of a CSV file in characters. In a longer cell, a quote must be missing."""
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLED: Final = 50
SWALLOWED: Final = {2: 20}
"""Number of row-like lines in one cell that indicate swallowed rows, by number of columns; `FEW` for more columns."""
FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a row is not imported. `field` is empty if it concerns the whole row. `last`: reading stops
    here."""

    number: int
    field: str
    reason: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class CsvForm:
    """The form of a CSV file. `multiline`: cells may contain lines that look like rows."""

    delimiter: str = ","
    multiline: bool = False


@dataclass(slots=True)
class LineBreaks:
    """Counts the cells of a CSV file that have line breaks. `first` is the number of the first row with one."""

    cells: int = 0
    first: int = 0

    def count(self, number: int, cells: Sequence[str]) -> None:
        self.cells += sum("\n" in cell or "\r" in cell for cell in cells)
        self.first = self.first or number

    def described(self) -> str:
        """Return a text such as ``2 cells have line breaks, the first in row 7``; empty if there are none."""
        if not self.cells:
            return ""
        cells = "1 cell has" if self.cells == 1 else f"{grouped(self.cells)} cells have"
        return f"{cells} line breaks, the first in row {grouped(self.first)}; a stray quote puts rows into a cell"


TableRow = tuple[int, list[Any]] | Refusal
"""A row's number, as a spreadsheet counts, and its cells. The first row is the header."""


class OpenQuote(Failure):
    """A quote swallows rows. `lines` is the number of lines of the whole file."""

    def __init__(self, first: int, last: int, lines: int) -> None:
        self.lines = lines
        where = f"lines {grouped(first)} to {grouped(last)} of {grouped(lines)}"
        super().__init__(f"{where}: a quote that opens in line {grouped(first)} is not closed in its row: mend it")


def read_csv(file: BinaryIO, form: CsvForm = CsvForm(), line_breaks: LineBreaks | None = None) -> Generator[TableRow]:
    """Yield the rows of a CSV file in UTF-8, and count the line breaks in cells. An invalid row of one line becomes a
    Refusal. Raises OpenQuote, and Failure if the header is empty."""
    csv.field_size_limit(MAX_CELL)
    # Invalid UTF-8 becomes surrogates, which are refused in rows.
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    try:
        yield from csv_table(text, form, line_breaks or LineBreaks())
    finally:
        with suppress(ValueError):  # the caller owns the file and may have closed it
            text.detach()


def csv_table(text: io.TextIOWrapper, form: CsvForm, line_breaks: LineBreaks) -> Iterator[TableRow]:
    opening = text.readline()
    # Excel reads and writes files whose first line is `sep=;`.
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
        if reader.line_num + skipped > first:
            line_breaks.count(number, cells)
        yield number, cells


def separator_line(line: str) -> str | None:
    """Return the delimiter of a line such as ``sep=;``, or None."""
    stripped = line.rstrip("\r\n").strip('"')
    return stripped[4] if len(stripped) == 5 and stripped.lower().startswith("sep=") else None


def swallows(cells: Sequence[str], columns: Sequence[str], form: CsvForm) -> bool:
    """Return whether a cell has swallowed rows: all of its lines except the first and last look like rows."""
    inner = max(cells, key=len, default="").splitlines()[1:-1]
    enough = SWALLOWED.get(len(columns), FEW) if len(columns) > 1 else len(inner) + 1
    return len(inner) >= enough and all(line.count(form.delimiter) == len(columns) - 1 for line in inner)


def check_delimiter(text: str) -> str:
    """Return the delimiter that an option names. Raises Misuse."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise Misuse("--delimiter takes one character, or the word tab")
    return delimiter


def find_delimiter(file: io.BufferedReader) -> str:
    """Return the delimiter with which most of the first rows have as many cells as the header; a comma by default."""
    # A quoted line break at the end of the sample does no harm, since only complete rows are compared.
    sample = file.peek(65_536)[:65_536].decode("utf-8", "replace")
    named = separator_line(sample.split("\n", 1)[0])
    if named:
        return named
    best = max(DELIMITERS, key=lambda delimiter: likeness(sample, delimiter))
    return best if likeness(sample, best)[0] else ","


def likeness(sample: str, delimiter: str) -> tuple[float, int]:
    """Return (share of rows with as many cells as the header, cells of the header); (0, 0) for a single column."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    try:
        rows = [len(row) for row in islice(reader, SAMPLED) if row]
    except csv.Error:
        return 0, 0
    # The last row of the sample may be incomplete.
    compared = rows[:-1] if len(rows) > 2 else rows
    if not compared or compared[0] < 2:
        return 0, 0
    return compared.count(compared[0]) / len(compared), compared[0]


def check_header(cells: Sequence[object], what: str = "CSV") -> list[str]:
    """Return the names of the columns unchanged. Raises Failure for missing or repeated names."""
    columns = ["" if cell is None else str(cell) for cell in cells]
    for column in columns:
        if not all(column.split(".")):
            raise Failure(f"the {what} header has a column without a name: {', '.join(columns)}")
        if columns.count(column) > 1:
            raise Failure(f"the {what} header names {column} twice")
    return columns


def read_sheet(file: BinaryIO, name: str | None = None) -> Generator[TableRow]:
    """Yield the rows of a sheet of an .xlsx file, by default of the first sheet. Rows without a value are left out.
    Raises Failure."""
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = open_book(file)
        if name and name not in book.sheetnames:
            raise Failure(f"there is no sheet {name!r}, only {', '.join(map(repr, book.sheetnames))}")
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
    """Return a description: ``sheet 'Readings', other sheets left out: 'Stations'``."""
    book = open_book(file)
    chosen = name or book.sheetnames[0]
    others = ", ".join(repr(each) for each in book.sheetnames if each != chosen)
    book.close()
    return f"sheet {chosen!r}" + (f", other sheets left out: {others}" if others else "")


def open_book(file: BinaryIO) -> Any:
    import openpyxl

    return openpyxl.load_workbook(file, read_only=True, data_only=True)


def trimmed(cells: Sequence[object]) -> list[object]:
    """Return a header without trailing empty cells."""
    kept = list(map(unescape, cells))
    while kept and kept[-1] is None:
        kept.pop()
    return kept
