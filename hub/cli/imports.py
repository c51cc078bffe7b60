"""`hub import`: imports the rows of a file into a store, in constant memory, and reports refused rows."""

from __future__ import annotations

import csv
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, TextIO, cast

import typer

from hub.cli.cells import Cells
from hub.cli.client import Client, Refused, Unreachable, path_of
from hub.cli.command import on_hub
from hub.cli.definitions import Fields, find_definition, read_fields, type_in_store
from hub.cli.keys import Keys
from hub.cli.lookups import Lookups
from hub.cli.meter import Meter
from hub.cli.output import STOPPED, Failure, Misuse, grouped, note, open_private, say
from hub.cli.plan import Plan, describe
from hub.cli.rows import Format, Row, RowReader, format_of
from hub.cli.serials import SerialNote
from hub.cli.source import Source, open_source
from hub.cli.tables import CsvForm, Refusal, check_delimiter
from hub.cli.upload import Upload
from stores.fields.cells import Kind
from stores.records import SYSTEM_FIELDS

MAX_BATCH: Final = 10_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""A batch ends early at this size: wide rows must not exceed the hub's body limit or fill the memory."""
SHOWN: Final = 20
"""Number of refusals that are printed. The report contains all of them."""


class Stopped(Failure):
    """The user has interrupted the command."""

    exit_code = STOPPED


@on_hub
async def import_rows(
    client: Client,
    store: Annotated[str, typer.Argument(help="The store to import into.", show_default=False)],
    file: Annotated[
        str, typer.Argument(help="A JSON, NDJSON, CSV or Excel file; - for standard input.", show_default=False)
    ],
    format: Annotated[Format | None, typer.Option(help="The format, if the file's name does not show it.")] = None,
    key: Annotated[
        str | None, typer.Option(help="A unique field: a row updates the entity with the same value.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the store, without a schema, if missing.")] = False,
    type: Annotated[
        list[str] | None,
        typer.Option(help="The kind of a column, as COLUMN=text, number, boolean or json; may be repeated."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MAX_BATCH, help="Rows in one request.")] = 1_000,
    skip: Annotated[int, typer.Option(min=0, help="Skip the rows up to this number.")] = 0,
    report: Annotated[Path | None, typer.Option(help="A CSV file for the refused rows.")] = None,
    drop_system: Annotated[
        bool, typer.Option("--drop-system/--keep-system", help="Leave out _id, owner and others that the hub assigns.")
    ] = True,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the serial numbers of the rows; only for administrators.")
    ] = False,
    delimiter: Annotated[str | None, typer.Option(help="The delimiter of a CSV file; detected by default.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="The encoding of the text, such as windows-1252; detected by default.")
    ] = None,
    excel: Annotated[bool, typer.Option("--excel", help="The CSV file was exported with --excel.")] = False,
    sheet: Annotated[str | None, typer.Option(help="The sheet of an Excel file; the first one by default.")] = None,
    multiline: Annotated[
        bool, typer.Option("--multiline", help="Accept cells of several lines even if the lines look like rows.")
    ] = False,
) -> None:
    """Import a file. With --key, repeating the import creates no duplicates.

    Example: hub import cities cities.ndjson --create --key geonameid
    """
    form = CsvForm(check_delimiter(delimiter), multiline) if delimiter else None
    kind = format_of(file, format)
    dropped = dropped_fields(store) if drop_system else frozenset()
    given = parse_types(type or ())
    cells = Cells(key=key, excel=excel, native=kind is Format.XLSX)
    reader = RowReader(kind, cells, form or CsvForm(), dropped, sheet=sheet)
    with (
        open_source(file, encoding, text=kind is not Format.XLSX, again=kind.is_table) as source,
        open_report(report) as refused,
    ):
        definition = await find_definition(client, store)
        if definition is None and not create:
            await require_store(client, store)
        fields = await read_fields(client, store, definition)
        reader = with_fields(reader, fields)
        reader = await decide(client, fields, source, reader, given, recognise=form is None, multiline=multiline)
        if definition is None and create:
            await define(client, store, key)
        upload = Upload(client, store, key, batch, refused.add, keep=keep)
        lookups = Lookups(client, fields, refused.add)
        stopped = await send(reader, source, upload, lookups, refused, skip, SerialNote(fields, keep=keep))
    end(upload, refused, stopped)


def parse_types(texts: Sequence[str]) -> dict[str, Kind]:
    """Parse texts such as ``code=text``. Return the kinds by column."""
    kinds = {}
    for text in texts:
        column, _, kind = text.rpartition("=")
        if not column or kind not in tuple(Kind):
            raise Misuse(f"--type {text}: write COLUMN=KIND, the kind one of {', '.join(Kind)}")
        kinds[column] = Kind(kind)
    return kinds


def dropped_fields(store: str) -> frozenset[str]:
    """Return the fields that the hub assigns, so that an export can be imported. A user's group may be imported."""
    return frozenset({*SYSTEM_FIELDS, "success"} - ({"group"} if store == "users" else set()))


def with_fields(reader: RowReader, fields: Fields) -> RowReader:
    """Return the reader for the fields of the store."""
    return replace(reader, cells=replace(reader.cells, fields=fields.columns(), lookups=fields.lookups()))


async def decide(
    client: Client,
    fields: Fields,
    source: Source,
    reader: RowReader,
    given: Mapping[str, Kind],
    *,
    recognise: bool,
    multiline: bool,
) -> RowReader:
    """Return the reader with the form and the kinds of the columns of a table, and report what was recognised. Raises
    Failure for a table that cannot be imported as a whole."""
    if reader.format.is_table:
        key = reader.cells.key
        stored = await type_in_store(client, fields.store, key, reader.cells.fields)
        plan = Plan(source, reader, key, given, stored, fields)
        return plan.decide(recognise=recognise, multiline=multiline)
    if source.packed or source.encoding != "utf-8":
        note(f"{source.name}: {describe(source, reader)}")
    return reader


async def require_store(client: Client, store: str) -> None:
    """Raise Failure if the store does not exist. System stores exist without a definition."""
    try:
        await client.call("GET", path_of(store), params={"limit": "1"})
    except Refused as error:
        if error.status == 404:
            raise Failure(f"no store is called {store}: add --create, or run: hub store create {store}") from error
        raise


async def define(client: Client, store: str, key: str | None) -> None:
    """Create the store, without a schema."""
    await client.call("POST", "/stores", {"name": store, **({"unique": [key]} if key else {})})


async def send(
    reader: RowReader,
    source: Source,
    upload: Upload,
    lookups: Lookups,
    refused: RefusedRows,
    skip: int,
    serials: SerialNote,
) -> Failure | None:
    """Import the rows of the file after the number `skip`, and show the progress. Returns what `run` returns."""
    key = reader.cells.key
    with ExitStack() as stack:
        if key:
            reader = replace(reader, keys=stack.enter_context(closing(Keys(key, lookups.fields.key_field(key)))))
        meter = stack.enter_context(Meter(f"import into {upload.store}", source))
        return await run(reader.read(source.open()), upload, lookups, refused, meter, skip, serials)


async def run(
    rows: Iterator[Row | Refusal],
    upload: Upload,
    lookups: Lookups,
    refused: RefusedRows,
    meter: Meter,
    skip: int,
    serials: SerialNote,
) -> Failure | None:
    """Import `rows` after the number `skip`. Return the failure that ended the import early, or None."""
    try:
        with Interruptions() as interruptions:
            for batch in batches(rows, upload.batch, skip, refused):
                serials.look(batch)
                with interruptions.postponed():
                    async for part in lookups.parts(batch):
                        await upload.send(part)
                meter.show(upload.imported, refused.rows)
    except KeyboardInterrupt:
        return Stopped("; ".join(("stopped", *way_on(upload, skip))))
    except Failure as error:
        doubt = ("the batch at hand may be in or not",) if isinstance(error, Unreachable) else ()
        return Failure("; ".join((str(error), *way_on(upload, skip), *doubt)))
    return None


def end(upload: Upload, refused: RefusedRows, stopped: Failure | None) -> None:
    """Print how many rows were imported. Raises the failure that ended the import, or Exit if rows were refused."""
    refused.close_list()
    rest = ", the rest of the file was not read" if refused.broken else ""
    say(f"{grouped(upload.imported)} imported, {grouped(refused.rows)} refused{rest}")
    if stopped:
        raise stopped
    if refused.rows:
        raise typer.Exit(1)


def way_on(upload: Upload, skip: int) -> tuple[str, ...]:
    """Return the advice for importing the rest of the file."""
    reached = max(skip, upload.reached)
    return (f"to go on, add --skip {reached}",) if reached else ()


def batches(rows: Iterator[Row | Refusal], most: int, skip: int, refused: RefusedRows) -> Iterator[list[Row]]:
    """Yield the readable rows after `skip` in batches; refuse the others."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if row.number <= skip:
            continue
        if isinstance(row, Refusal):
            refused.add([row])
            continue
        if batch and (len(batch) == most or size + len(row.body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.body)
    if batch:
        yield batch


class Interruptions:
    """Handles Ctrl-C. Between two batches it stops the import at once; during a batch it stops after it, so that the
    number of imported rows is exact. A second Ctrl-C stops at once."""

    def __enter__(self) -> Interruptions:
        self.postpones = self.asked = False
        self.before = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self.postpones or self.asked:
            raise KeyboardInterrupt
        self.asked = True
        note("stopping after this batch ...")

    @contextmanager
    def postponed(self) -> Iterator[None]:
        self.postpones = True
        try:
            yield
        finally:
            self.postpones = False
        if self.asked:
            raise KeyboardInterrupt


class RefusedRows:
    """Counts refused rows, prints the first refusals and writes all of them to the report."""

    def __init__(self, report: TextIO | None) -> None:
        self.rows = 0
        self.broken = False
        self.lines = 0
        self.writer = csv.writer(report) if report else None
        if self.writer:
            self.writer.writerow(("row", "field", "reason"))

    def add(self, refusals: Sequence[Refusal]) -> None:
        """Add refusals. A row may be refused for several of its fields."""
        self.rows += len({refusal.number for refusal in refusals})
        self.broken = self.broken or any(refusal.last for refusal in refusals)
        for refusal in refusals:
            self.lines += 1
            if self.lines <= SHOWN:
                note(": ".join(filter(None, (f"row {refusal.number}", refusal.field, refusal.reason))))
            if self.writer:
                self.writer.writerow((refusal.number, refusal.field, refusal.reason))

    def close_list(self) -> None:
        if self.lines > SHOWN:
            kept = "all are in the report" if self.writer else "to see all, add --report FILE"
            note(f"... and {grouped(self.lines - SHOWN)} more; {kept}")


@contextmanager
def open_report(path: Path | None) -> Iterator[RefusedRows]:
    if path is None:
        yield RefusedRows(None)
        return
    with open_private(path, "w", newline="", encoding="utf-8") as file:
        yield RefusedRows(cast(TextIO, file))
