"""`hub export`: writes a store as NDJSON, JSON, CSV or an Excel file, page by page, in constant memory.

A table is read twice: first for its columns, so that no field is lost because only later entities have it.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Protocol, cast

import orjson
import typer

from hub.cli.cells import ABSENT, Absent, Cells, defuse, flatten, pick
from hub.cli.client import Client
from hub.cli.command import on_hub
from hub.cli.definitions import Fields, find_definition, read_fields
from hub.cli.meter import Meter
from hub.cli.named_references import NamedReferences
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
    only: Annotated[
        str | None, typer.Option(help="Only these fields, such as station,place.city,customer:number.")
    ] = None,
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
    asked = [name.strip() for name in only.split(",")] if only else []
    fields = await fields_of(client, store, needed=kind is Format.CSV or any(":" in name for name in asked))
    for name in asked:
        if text := fields.unreadable(name):
            note(text)
    named = NamedReferences(client, fields, asked)
    shown = ",".join(dict.fromkeys(map(named.path_of, asked)))
    options = {"limit": str(PAGE), "filter": filter, "only": shown, "sort": sort}
    params = {name: value for name, value in options.items() if value}
    names = await column_names(client, store, params) if kind.is_table and not asked else []
    columns = ExportColumns(names, [*dict.fromkeys(map(named.column_of, asked))], named.columns)
    with open_target(file) as target, Meter(f"export of {store}") as meter:
        writer = make_writer(store, kind, target, columns, form, fields)
        total = 0
        async for page in client.pages(store, params):
            await named.put(page)
            writer.write(page)
            total += len(page)
            meter.show(total)
        writer.close()
    note(f"{grouped(total)} exported")
    columns.check_complete()
    named.check_complete()


async def fields_of(client: Client, store: str, *, needed: bool) -> Fields:
    """Return the fields of the store; none, without a request, unless they are needed."""
    return await read_fields(client, store, await find_definition(client, store)) if needed else Fields(store)


class FileWriter(Protocol):
    """Writes entities in one format."""

    def write(self, page: Sequence[Entity]) -> None: ...

    def close(self) -> None:
        """Write the end of the file."""


@dataclass(frozen=True, slots=True)
class CsvTarget:
    """The form of a CSV file. `excel`: with a byte order mark, and marks before text that could be a formula."""

    delimiter: str = ","
    excel: bool = False


def make_writer(
    store: str, kind: Format, target: BinaryIO, columns: ExportColumns, form: CsvTarget, fields: Fields
) -> FileWriter:
    if kind is Format.NDJSON:
        return NdjsonWriter(target)
    if kind is Format.JSON:
        return JsonWriter(target)
    if kind is Format.XLSX:
        return SheetWriter(target, store, columns)
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
    """The columns of a table: those that are `asked` for, or `names`, with nested objects as dotted names. In the
    columns `named` a dot behind the colon is a part of the name."""

    def __init__(self, names: list[str], asked: list[str], named: Collection[str] = ()) -> None:
        self.asked = asked
        self.names = asked or names
        self._named = named
        self._known = frozenset(self.names)
        self._missed: set[str] = set()

    def rows(self, page: Sequence[Entity]) -> list[dict[str, Json]]:
        """Return the cells of a page of entities, by column."""
        rows = [self.values(entity) for entity in page]
        for row in rows:
            self._missed |= row.keys() - self._known
        return rows

    def values(self, entity: Entity) -> dict[str, Json]:
        if not self.asked:
            return flatten(entity)
        picked = {column: self._value(entity, column) for column in self.asked}
        return {column: value for column, value in picked.items() if not isinstance(value, Absent)}

    def _value(self, entity: Entity, column: str) -> Json | Absent:
        if column not in self._named:
            return pick(entity, column)
        path, _, key = column.partition(":")
        above, _, name = path.rpartition(".")
        holder = pick(entity, above) if above else entity
        return holder.get(f"{name}:{key}", ABSENT) if isinstance(holder, dict) else ABSENT

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
