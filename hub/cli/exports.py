"""`hub export`: writes a store as NDJSON, JSON, CSV or an Excel file, page by page, in constant memory.

A table is read twice: first for its columns, so that no field is lost because only later entities have it.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Protocol, cast

import orjson
import typer

from hub.cli.cells import Absent, Cells, defuse, flatten, pick
from hub.cli.client import Client
from hub.cli.command import on_hub
from hub.cli.definitions import find_definition, read_fields
from hub.cli.meter import Meter
from hub.cli.output import Failure, Misuse, grouped, note, open_private
from hub.cli.rows import Format, format_of
from hub.cli.sheet import Sheet
from hub.cli.tables import check_delimiter
from stores.records import Entity, Json

PAGE: Final = 1_000
MOST_COLUMNS: Final = 100_000
"""Columns of a table. Each row has a cell for each of them, and their names are kept in memory."""


@on_hub
async def export(
    client: Client,
    store: Annotated[str, typer.Argument(help="The store to export.", show_default=False)],
    file: Annotated[str, typer.Argument(help="The file to write; - for standard output.")] = "-",
    format: Annotated[Format | None, typer.Option(help="The format, if the file's name does not show it.")] = None,
    filter: Annotated[str | None, typer.Option(help="Only the matches of this JSON filter.")] = None,
    only: Annotated[str | None, typer.Option(help="Only these fields, such as station,place.city.")] = None,
    sort: Annotated[str | None, typer.Option(help="The order, such as -celsius,station; default: by creation.")] = None,
    excel: Annotated[
        bool, typer.Option("--excel", help="CSV for Excel: marked as UTF-8, and no text can be a formula.")
    ] = False,
    delimiter: Annotated[str, typer.Option(help="The delimiter of a CSV file.")] = ",",
) -> None:
    """Export the entities of a store. The file appears only when it is complete.

    Example: hub export cities cities.csv --filter '{"countrycode": "CA"}' --only name,population
    """
    kind = format_of(file, format)
    if excel and kind is not Format.CSV:
        raise Misuse("--excel is about CSV; an .xlsx file needs no such care")
    form = CsvTarget(check_delimiter(delimiter), excel)
    asked = {"limit": str(PAGE), "filter": filter, "only": only, "sort": sort}
    params = {name: value for name, value in asked.items() if value}
    is_table = kind in (Format.CSV, Format.XLSX)
    columns = ExportColumns(await column_names(client, store, params) if is_table and not only else None, only)
    with open_target(file) as target, Meter(f"export of {store}") as meter:
        writer = await make_writer(client, store, kind, target, columns, form)
        total = 0
        async for page in client.pages(store, params):
            writer.write(page)
            total += len(page)
            meter.show(total)
        writer.close()
    note(f"{grouped(total)} exported")
    columns.check_complete()


class Writer(Protocol):
    """Writes entities in one format."""

    def write(self, page: Sequence[Entity]) -> None: ...

    def close(self) -> None:
        """Write the end of the file."""


@dataclass(frozen=True, slots=True)
class CsvTarget:
    """The form of a CSV file. `excel`: with a byte order mark, and marks before text that could be a formula."""

    delimiter: str = ","
    excel: bool = False


async def make_writer(
    client: Client, store: str, kind: Format, target: BinaryIO, columns: ExportColumns, form: CsvTarget
) -> Writer:
    if kind is Format.NDJSON:
        return NdjsonWriter(target)
    if kind is Format.JSON:
        return JsonWriter(target)
    if kind is Format.XLSX:
        return SheetWriter(target, store, columns)
    fields = await read_fields(client, store, await find_definition(client, store))
    return CsvWriter(target, Cells(fields.columns(), excel=form.excel), columns, form)


class NdjsonWriter:
    def __init__(self, target: BinaryIO) -> None:
        self.target = target

    def write(self, page: Sequence[Entity]) -> None:
        self.target.write(b"".join(orjson.dumps(entity) + b"\n" for entity in page))

    def close(self) -> None:
        self.target.flush()


class JsonWriter:
    """Writes one array, with an entity per line."""

    def __init__(self, target: BinaryIO) -> None:
        self.target = target
        self.between = b"[\n"

    def write(self, page: Sequence[Entity]) -> None:
        for entity in page:
            self.target.write(self.between + orjson.dumps(entity))
            self.between = b",\n"

    def close(self) -> None:
        self.target.write(b"[]\n" if self.between == b"[\n" else b"\n]\n")
        self.target.flush()


async def column_names(client: Client, store: str, params: Mapping[str, str]) -> list[str]:
    """Return the dotted names of all fields of a list, in the order of their first appearance. Raises Failure if there
    are too many for a table."""
    names: dict[str, None] = {}
    read = 0
    with Meter(f"fields of {store}") as meter:
        async for page in client.pages(store, params):
            for entity in page:
                names.update(dict.fromkeys(flatten(entity)))
            if len(names) > MOST_COLUMNS:
                raise Failure(f"more than {grouped(MOST_COLUMNS)} columns: name some in --only, or export NDJSON")
            read += len(page)
            meter.show(read)
    return list(names) or ["_id"]


class ExportColumns:
    """The columns of a table: those of `only`, or `names`, with nested objects as dotted names."""

    def __init__(self, names: list[str] | None, only: str | None) -> None:
        self.asked = only.split(",") if only else None
        self.names = self.asked or names or []
        self._known = frozenset(self.names)
        self._missed: set[str] = set()

    def rows(self, page: Sequence[Entity]) -> list[dict[str, Json]]:
        """Return the cells of a page of entities, by column."""
        rows = [self.values(entity) for entity in page]
        for row in rows:
            self._missed |= row.keys() - self._known
        return rows

    def values(self, entity: Entity) -> dict[str, Json]:
        if self.asked is None:
            return flatten(entity)
        picked = {column: pick(entity, column) for column in self.asked}
        return {column: value for column, value in picked.items() if not isinstance(value, Absent)}

    def check_complete(self) -> None:
        """Raise Failure if an entity has fields without a column."""
        if self._missed:
            left_out = ", ".join(sorted(self._missed))
            raise Failure(f"the table lacks fields that were written during the export: {left_out}; export it again")


class CsvWriter:
    """Writes a header, and a line for each entity."""

    def __init__(self, target: BinaryIO, cells: Cells, columns: ExportColumns, form: CsvTarget) -> None:
        self.text = io.TextIOWrapper(target, "utf-8-sig" if form.excel else "utf-8", newline="", write_through=True)
        self.writer = csv.writer(self.text, delimiter=form.delimiter)
        self.cells = cells
        self.columns = columns
        self.begun = False

    def write(self, page: Sequence[Entity]) -> None:
        rows = self.columns.rows(page)
        names = self.columns.names
        if not self.begun:
            self.begun = True
            self.writer.writerow([defuse(name) for name in names] if self.cells.excel else names)
        for row in rows:
            self.writer.writerow([self.cells.write(c, row[c]) if c in row else "" for c in names])

    def close(self) -> None:
        self.text.detach()


class SheetWriter:
    """Writes an Excel workbook with one sheet. Raises Failure for data beyond the limits of a sheet."""

    def __init__(self, target: BinaryIO, store: str, columns: ExportColumns) -> None:
        self.sheet = Sheet(target, store)
        self.columns = columns
        self.begun = False

    def write(self, page: Sequence[Entity]) -> None:
        rows = self.columns.rows(page)
        if not self.begun:
            self.begun = True
            self.sheet.append(self.columns.names)
        for row in rows:
            self.sheet.append([row.get(name) for name in self.columns.names])

    def close(self) -> None:
        self.sheet.save()


@contextmanager
def open_target(name: str) -> Iterator[BinaryIO]:
    """Open standard output, or a file that gets its name when it is complete. Devices and pipes are written
    directly."""
    path = Path(name)
    if name == "-":
        yield sys.stdout.buffer
        return
    part = path if path.exists() and not path.is_file() else path.with_name(f"{path.name}.part")
    try:
        if part != path:
            part.unlink(missing_ok=True)  # an old one may be readable by others
        with open_private(part, "wb") as file:
            yield cast(BinaryIO, file)
        part.replace(path)
    finally:
        if part != path:
            part.unlink(missing_ok=True)
