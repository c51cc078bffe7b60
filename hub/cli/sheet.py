"""Writes an .xlsx file row by row, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import orjson

from hub.cli.output import Failure, grouped
from hub.cli.xlsx_text import escape
from stores.records import Json

MOST_ROWS: Final = 1_048_576
MOST_COLUMNS: Final = 16_384
LONGEST_TEXT: Final = 32_767
"""Limits of Excel. It would silently cut off longer text."""
MOST_DIGITS: Final = 10**15
"""Excel keeps 15 digits of a number, so larger integers are written as text."""


class Sheet:
    """A workbook with one sheet, written row by row."""

    def __init__(self, target: BinaryIO, title: str) -> None:
        # Imported here: this import takes as long as the rest of the command line.
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell

        self.target = target
        self.book = Workbook(write_only=True)
        self.sheet = self.book.create_sheet(re.sub(r"[\\*?:/\[\]]", "_", title)[:31])
        self.cell = WriteOnlyCell
        self.rows = 0

    def append(self, values: Sequence[Json]) -> None:
        """Add a row. Raises Failure if it exceeds the limits of Excel."""
        self.rows += 1
        if self.rows > MOST_ROWS or len(values) > MOST_COLUMNS:
            limits = f"{grouped(MOST_ROWS)} rows with their header and {grouped(MOST_COLUMNS)} columns"
            raise Failure(f"a sheet of Excel holds {limits}: export to CSV, or less by --filter or --only")
        self.sheet.append([self.written(value) for value in values])

    def written(self, value: Json) -> Any:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int) and abs(value) < MOST_DIGITS:
            return value
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if not text:
            return None
        text = escape(text)
        if len(text) > LONGEST_TEXT:
            longest = grouped(LONGEST_TEXT)
            raise Failure(f"row {self.rows}: a cell of Excel holds {longest} characters: export to CSV or NDJSON")
        cell = self.cell(self.sheet, text)
        cell.data_type = "s"  # text, even if it looks like a formula or an error value
        return cell

    def save(self) -> None:
        self.book.save(self.target)
