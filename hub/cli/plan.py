"""Plans the import of a table: reads it once, determines its form, and reports that in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches

from hub.cli.columns import Columns
from hub.cli.definitions import Fields
from hub.cli.meter import Meter
from hub.cli.output import Failure, grouped, note, say
from hub.cli.rows import Format, RowReader
from hub.cli.source import NAMES, Source
from hub.cli.tables import (
    DELIMITERS,
    CsvForm,
    LineBreaks,
    OpenQuote,
    TableRow,
    describe_sheets,
    find_delimiter,
)
from stores.fields.cells import Kind


@dataclass(frozen=True, slots=True)
class Plan:
    """Determines how a table is read, by reading it once. `stored` is the kind of the keys in the store; `fields` are
    those of the store."""

    source: Source
    reader: RowReader
    key: str | None
    given: Mapping[str, Kind]
    stored: Kind | None
    fields: Fields

    def decide(self, *, recognise: bool, multiline: bool) -> RowReader:
        """Return the reader with delimiter and column kinds, and report them in one line, cells with line breaks in
        another. Raises Failure for a table that cannot be imported as a whole."""
        reader, line_breaks = self.reader, LineBreaks()
        if recognise and reader.format is Format.CSV:
            reader = replace(reader, form=CsvForm(find_delimiter(self.source.open()), multiline))
        try:
            columns = self.look(reader, line_breaks)
        except OpenQuote as error:
            say(f"0 imported, 0 refused, {grouped(error.lines - 1)} lines left out")
            raise Failure(f"{self.source.name}: {error}; nothing has been imported") from error
        except Failure as error:
            raise Failure(f"{self.source.name}: {error}") from error
        note(f"{self.source.name}: {describe(self.source, reader)}; {columns.described()}")
        if text := line_breaks.described():
            note(f"{self.source.name}: {text}")
        return replace(reader, cells=replace(reader.cells, kinds=columns.all_kinds))

    def look(self, reader: RowReader, line_breaks: LineBreaks) -> Columns:
        with (
            Meter(f"reading {self.source.name}", self.source) as meter,
            closing(reader.table(self.source.open(), line_breaks)) as table,
        ):
            names = reader.names(next(table))
            self.check(names, reader)
            cells = reader.cells
            columns = Columns(
                names, cells.fields, reader.dropped, self.key, self.given, cells.native, lookups=cells.lookups
            )
            columns.observe(metered(table, meter))
        self.fit_key(columns)
        return columns

    def check(self, names: list[str], reader: RowReader) -> None:
        """Raise Failure if the column of --key or --type does not exist, or references cannot be looked up."""
        usable = [name for name in names if name.split(".")[0] not in reader.dropped]
        for option, wanted in [("--key", self.key), *(("--type", name) for name in self.given)]:
            if wanted is not None and wanted not in usable:
                near = nearest(wanted, usable)
                raise Failure(f"{option} {wanted}: there is no such column{near}; there are: {', '.join(usable)}")
        for name in names:
            if fault := self.fields.fault(name):
                raise Failure(f"{name}: {fault}")
            if text := self.fields.unreadable(name):
                note(text)

    def fit_key(self, columns: Columns) -> None:
        """Read the keys with the kind of those in the store. Raises Failure if that is impossible."""
        found = columns.all_kinds.get(self.key or "")
        if self.key is None or found is None or self.stored in (None, found) or self.key in self.given:
            return
        if self.stored is not Kind.TEXT:
            raise Failure(
                f"--key {self.key}: the store has numbers there and this file has text: its rows would never meet"
                f" those: define {self.key} as a field of the store, or add --type {self.key}=number"
            )
        columns.kinds[self.key] = Kind.TEXT


def metered(table: Iterator[TableRow], meter: Meter) -> Iterator[TableRow]:
    for count, row in enumerate(table, 1):
        if count % 1_000 == 0:
            meter.show(count)
        yield row


def nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def describe(source: Source, reader: RowReader) -> str:
    """Return a description of the file: ``CSV, separated by semicolons, Windows-1252, gzip``."""
    if reader.format is Format.XLSX:
        return f"Excel, {describe_sheets(source.open(), reader.sheet)}"
    parts = [reader.format.upper()]
    if reader.format is Format.CSV:
        delimiter = reader.form.delimiter
        parts.append(f"separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    encoding = source.encoding or ""
    parts += [NAMES.get(encoding, encoding.upper()), *(["gzip"] if source.packed else [])]
    return ", ".join(parts)
