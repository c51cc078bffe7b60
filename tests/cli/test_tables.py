"""Import and export of real tables: CSV files of any origin and Excel sheets."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import re
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.packages import npm_packages
from hub.cli import exports
from hub.cli.cells import Cells
from hub.cli.columns import Columns
from hub.cli.exports import ExportColumns
from hub.cli.output import Failure, open_private
from hub.cli.sheet import LONGEST_TEXT
from hub.cli.tables import read_csv
from hub.cli.xlsx_text import escape, unescape
from stores.records import Entity, same
from tests.cli.conftest import CommandLine, plain
from tests.cli.endless import Endless
from tests.cli.strategies import LEAVES, VALUES

JS = Path(__file__).parent / "js"


@pytest.fixture(scope="session")
def airports() -> Path:
    """A file of 3 376 airports; `0E0` and `0E8` are among the codes."""
    return npm_packages(JS) / "node_modules" / "vega-datasets" / "data" / "airports.csv"


@pytest.mark.parametrize("defined", [False, True])
def test_codes_that_look_like_numbers_stay_codes(
    hub_of_each_engine: CommandLine, airports: Path, defined: bool
) -> None:
    hub = hub_of_each_engine
    if defined:
        hub("store", "create", "airports", "--field", "iata:Text:required,unique", "--open")
    for _ in range(2):
        done = hub("import", "airports", str(airports), "--create", "--key", "iata")
        assert done.last == "3 376 imported, 0 refused"
        assert "numbers: latitude, longitude" in done.err
    found = [row["iata"] for row in hub.rows("airports", "iata")]
    with airports.open(newline="") as file:
        assert found == [row["iata"] for row in csv.DictReader(file)]
    assert {"0E0", "0E8"} <= set(found)


def test_a_column_has_one_type_over_the_whole_file(served_hub: CommandLine) -> None:
    table = "code,zip,n,mixed,on,list,none\n" + "1000,1234,1,1,TRUE,[1],\n" * 3_000 + "1E3,01234,2.50,x,false,{},null\n"
    done = served_hub("import", "columns", served_hub.file("t.csv", table), "--create")
    kinds = "text: code, zip, mixed; numbers: n; true or false: on; JSON: list; empty: none"
    assert done.err.splitlines()[0] == f"t.csv: CSV, separated by commas, UTF-8; 3 001 rows; {kinds}"
    rows = plain(served_hub.rows("columns"))
    assert rows[0] == {"code": "1000", "zip": "1234", "n": 1, "mixed": "1", "on": True, "list": [1]}
    assert rows[-1] == {"code": "1E3", "zip": "01234", "n": 2.5, "mixed": "x", "on": False, "list": {}, "none": None}


def test_the_type_of_a_column_can_be_given(served_hub: CommandLine) -> None:
    table = served_hub.file("t.csv", "code,n\n1,1e3\n2,007\n3,x\n")
    done = served_hub("import", "given", table, "--create", "--type", "code=text", "--type", "n=number", code=1)
    assert done.last == "2 imported, 1 refused"
    assert "row 4: n: not a number: x" in done.err
    assert plain(served_hub.rows("given")) == [{"code": "1", "n": 1000.0}, {"code": "2", "n": 7.0}]
    assert "--type n: write COLUMN=KIND" in served_hub("import", "given", table, "--type", "n", code=2).err
    assert "--type m: there is no such column" in served_hub("import", "given", table, "--type", "m=text", code=1).err


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson", "t.json"])
def test_rows_with_one_key_are_reported(hub_of_each_engine: CommandLine, name: str) -> None:
    hub = hub_of_each_engine
    file = hub.file(name, written(name, "code", ["0E0", "1E3", "0E0", "1000", "0E0"]))
    done = hub("import", "units", file, "--create", "--key", "code", "--batch", "2", code=1)
    assert done.last == "3 imported, 2 refused"
    first = 2 if name == "t.csv" else 1
    for again in (first + 2, first + 4):
        assert f"row {again}: code: row {first} has the same key" in done.err
    assert [(row["code"], row["n"]) for row in hub.rows("units", "code", "n")] == [("0E0", 0), ("1E3", 1), ("1000", 3)]


def test_keys_are_compared_as_they_are_stored(hub_of_each_engine: CommandLine) -> None:
    """Rows whose keys are stored alike would overwrite each other. A reference has the type of its key, which may be a
    reference itself."""
    hub = hub_of_each_engine
    mail = {"id": "mail", "type": "Email", "unique": True}
    account = {"id": "account", "type": "Reference", "store": "accounts", "by": "mail", "unique": True}
    customer = {"id": "customer", "type": "Reference", "store": "customers", "by": "account", "unique": True}
    with hub.serving():
        for store, key in (("accounts", mail), ("customers", account), ("orders", customer)):
            field = key["id"]
            fields = json.dumps([key, {"id": "n", "type": "Number"}])
            hub("store", "create", store, "--fields", hub.file("fields.json", fields))
            table = written("t.csv", str(field), ["Ann@Example.com", "bob@example.com", "ann@example.com"])
            done = hub("import", store, hub.file("t.csv", table), "--key", str(field), code=1)
            assert done.last == "2 imported, 1 refused"
            assert f"row 4: {field}: row 2 has the same key" in done.err
            found = [(row[field], row["n"]) for row in hub.rows(store, str(field), "n")]
            assert found == [("ann@example.com", 0), ("bob@example.com", 1)]


def written(name: str, key: str, values: list[str]) -> str:
    """Return the text of a file whose rows have these values of a key, and their places as `n`."""
    rows = [{key: value, "n": n} for n, value in enumerate(values)]
    if name == "t.csv":
        return f"{key},n\n" + "".join(f"{row[key]},{row['n']}\n" for row in rows)
    return json.dumps(rows) if name == "t.json" else "".join(f"{json.dumps(row)}\n" for row in rows)


def test_a_key_that_the_file_does_not_have_is_refused_by_name(served_hub: CommandLine) -> None:
    served_hub("store", "create", "keyed", "--unique", "Code")
    table = served_hub.file("t.csv", "code,name\n1,a\n")
    for _ in range(2):
        done = served_hub("import", "keyed", table, "--key", "Code", code=1)
        assert re.fullmatch(
            r"hub: t.csv: --key Code: there is no such column; did you mean code\?; there are: code, name\n", done.err
        )
        rows = served_hub.file("t.ndjson", '{"code": 1}\n{"code": 2}\n')
        done = served_hub("import", "keyed", rows, "--key", "Code", code=1)
        assert done.last == "0 imported, 2 refused"
        assert "row 1: Code: the key is empty" in done.err
    assert served_hub.rows("keyed") == []


def test_rows_without_a_key_are_refused_and_never_double(served_hub: CommandLine) -> None:
    served_hub("store", "create", "partly", "--unique", "code")
    table = served_hub.file("t.csv", 'code,name\na,1\n,2\nnull,3\n"""""",4\n')
    for _ in range(2):
        done = served_hub("import", "partly", table, "--key", "code", code=1)
        assert done.last == "2 imported, 2 refused"
        assert "row 3: code: the key is empty" in done.err
        assert "row 5: code: the key is empty" in done.err
    assert [row["code"] for row in served_hub.rows("partly", "code")] == ["a", "null"]
    rows = served_hub.file("t.ndjson", '{"code": null}\n{"code": ["x"]}\n{"code": {}}\n{"code": 1.0}\n{"code": 1}\n')
    assert served_hub("import", "partly", rows, "--key", "code", code=1).last == "1 imported, 4 refused"


def test_keys_are_read_as_those_that_are_in_the_store(served_hub: CommandLine) -> None:
    served_hub("import", "codes", served_hub.file("a.csv", "code,n\n1000,1\n1E3,2\n"), "--create", "--key", "code")
    served_hub("import", "codes", served_hub.file("b.csv", "code,n\n1000,3\n2000,4\n"), "--key", "code")
    assert [row["code"] for row in served_hub.rows("codes", "code")] == ["1000", "1E3", "2000"]
    served_hub("import", "numbers", served_hub.file("c.csv", "code,n\n1000,1\n"), "--create", "--key", "code")
    done = served_hub("import", "numbers", "a.csv", "--key", "code", code=1)
    assert "the store has numbers there and this file has text" in done.err
    assert len(served_hub.rows("numbers")) == 1


def open_quote(rows: int, place: int) -> str:
    lines = [f"{n},name {n},{n}\n" for n in range(rows)]
    lines[place] = f'{place},"open {place},{place}\n'
    return "id,name,n\n" + "".join(lines)


BROKEN = {
    "a stray quote": ('a,b\n1,"x\n2,y\n3,z"\n4,u\n', "2", "1 cell has line breaks, the first in row 2"),
    "behind others": ('a,b\n1,x\n"2\r3","y\nz"\n4,"u\nv"\n', "3", "3 cells have line breaks, the first in row 3"),
    "behind a separator": ('sep=,\na,b\n1,x\n2,"y\n"\n', "2", "1 cell has line breaks, the first in row 3"),
    "in the header": ('a,"b\nc"\n1,x\n', "1", "1 cell has line breaks, the first in row 1"),
    "none": ('a,b\n1,"x"\n\n2,y\n', "2", ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_line_breaks_in_cells_are_told(served_hub: CommandLine, case: str) -> None:
    """Quotes that swallow rows may be valid CSV."""
    table, rows, told = BROKEN[case]
    done = served_hub("import", "lines", served_hub.file("t.csv", table), "--create")
    assert done.last == f"{rows} imported, 0 refused"
    lines = [f"t.csv: {told}; a stray quote puts rows into a cell"] if told else []
    assert done.err.splitlines()[1:] == lines


def test_an_open_quote_in_a_long_file_stops_the_import_and_names_the_lines(hub: CommandLine) -> None:
    table = hub.file("long.csv", open_quote(200_000, 1))
    done = hub("import", "units", table, "--create", "--key", "id", code=1)
    assert done.out == "0 imported, 0 refused, 200 000 lines left out\n"
    assert "lines 3 to 200 001 of 200 001: a quote that opens in line 3" in done.err
    assert len(done.err.splitlines()) == 1
    assert "units" not in hub("store", "list").out


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('a,b\n1,"x"\n2,"y\n3,"z"\n4,"u"\n', "lines 3 to 4 of 5"),
        ('a,b,c\n1,"x,1\n2,y,2\n3,z,3\n4,u,4\n5,v,5\n6,w",6\n7,q,7\n', "lines 2 to 7 of 8"),
        ('a,"b\n1,2\n3,4\n', "lines 1 to 3 of 3"),
        ('sep=;\na;b\n1;"2\n3;4\n5;6\n', "lines 3 to 5 of 5"),
    ],
)
def test_an_open_quote_is_never_passed_over(served_hub: CommandLine, text: str, lines: str) -> None:
    done = served_hub("import", "quotes", served_hub.file("t.csv", text), "--create", code=1)
    assert re.fullmatch(rf"hub: t.csv: {lines}: a quote [^\n]+; nothing has been imported\n", done.err)
    assert re.fullmatch(r"0 imported, 0 refused, \d lines left out\n", done.out)


def test_cells_of_several_lines_are_taken(served_hub: CommandLine) -> None:
    table = served_hub.file("t.csv", 'a,b,c\n1,"x\n\ny\nz\nu",3\n4,"1,2,3\n4,5,6\n7,8,9\n1,2,3\n4,5,6",6\n')
    assert "lines 7 to 11" in served_hub("import", "several", table, "--create", code=1).err
    assert served_hub("import", "several", table, "--create", "--multiline").last == "2 imported, 0 refused"


TABLE = "code;name\n1;Zürich – Genève\n2;Łódź\n"


@pytest.mark.parametrize(
    ("delimiter", "encoding", "found"),
    [
        (",", "utf-8", "UTF-8"),
        (";", "cp1252", "Windows-1252"),
        (";", "utf-8-sig", "UTF-8"),
        ("\t", "utf-16", "UTF-16"),
        ("|", "utf-16-le", "UTF-16"),
    ],
)
def test_delimiter_encoding_and_compression_are_recognised(
    served_hub: CommandLine, delimiter: str, encoding: str, found: str
) -> None:
    text = TABLE.replace(";", delimiter)
    text = text.replace("Łódź", "Köln") if encoding == "cp1252" else text
    store = f"known-{encoding}-{' ,;|'.find(delimiter)}"
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    for name, content in (("t.csv", text.encode(encoding)), ("t.csv.gz", gzip.compress(text.encode(encoding)))):
        done = served_hub("import", store, served_hub.file(name, content), "--create")
        packed = ", gzip" if name.endswith("gz") else ""
        shown = f"{name}: CSV, separated by {names[delimiter]}, {found}{packed}; 2 rows; numbers: code; text: name\n"
        assert done.err == shown
    assert [row["name"] for row in served_hub.rows(store, "name")] == [
        line.split(delimiter)[1] for line in text.split("\n")[1:3]
    ] * 2


def test_delimiter_and_encoding_can_be_given(served_hub: CommandLine) -> None:
    table = served_hub.file("t.csv", "a:b,c\n1:2;3,ж\n".encode("koi8-r"))
    served_hub("import", "given-form", table, "--create", "--delimiter", ":", "--encoding", "koi8-r")
    assert plain(served_hub.rows("given-form")) == [{"a": 1, "b,c": "2;3,ж"}]
    assert "--encoding nosuch: no such encoding" in served_hub("import", "x", table, "--encoding", "nosuch", code=2).err
    for name in ("tab", "\\t"):
        tabs = served_hub.file("t.tsv", "a\tb\n1\t2\n")
        served_hub("import", "tabs", tabs, "--create", "--delimiter", name)
    assert plain(served_hub.rows("tabs")) == [{"a": 1, "b": 2}] * 2


@pytest.mark.parametrize("name", ["t.ndjson", "t.json"])
def test_json_of_any_encoding_is_recognised(served_hub: CommandLine, name: str) -> None:
    text = '{"n": 1, "name": "Zürich"}' if name == "t.ndjson" else '[{"n": 1, "name": "Zürich"}]'
    for encoding in ("utf-8", "utf-16", "cp1252"):
        content = gzip.compress(text.encode(encoding))
        done = served_hub("import", f"any-{name[2:]}", served_hub.file(f"{name}.gz", content), "--create")
        assert done.last == "1 imported, 0 refused"
    assert {row["name"] for row in served_hub.rows(f"any-{name[2:]}", "name")} == {"Zürich"}


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.csv.gz", gzip.compress(os.urandom(9_000).hex().encode(), mtime=0)[:3_000], (), "is damaged or ends"),
        ("t.ndjson.gz", gzip.compress(b'{"a": 1}\n' * 9_000, mtime=0)[:60], (), "damaged or ends too early"),
        ("t.csv", b"PK\x03\x04rest", (), "an Excel file or an archive"),
        ("t.csv", b"a,b\n\x81\x8d,\xff\xfe\n", (), "neither UTF-8 nor Windows-1252"),
        ("t.csv", "a,b\n1,ü\n".encode("cp1252"), ("--encoding", "utf-16"), "not utf-16"),
        ("t.xlsx", b"no archive", (), "not a readable .xlsx file"),
        ("t.csv", b"", (), "the CSV file is empty"),
        ("t.csv", b"a,,b\n", (), "a column without a name"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    served_hub: CommandLine, name: str, content: bytes, options: tuple[str, ...], message: str
) -> None:
    done = served_hub("import", "unreadable", served_hub.file(name, content), "--create", *options, code=1)
    assert message in done.err
    assert re.fullmatch(r"(t[^\n]+gzip\n)?hub: [^\n]+\n", done.err)


def test_a_row_with_broken_utf8_does_not_change_the_encoding_of_the_file(served_hub: CommandLine) -> None:
    table = served_hub.file("t.csv", "name\nZürich\nGenève\n".encode() + b"K\xf6ln\n")
    done = served_hub("import", "broken", table, "--create", code=1)
    assert done.last == "2 imported, 1 refused"
    assert [row["name"] for row in served_hub.rows("broken", "name")] == ["Zürich", "Genève"]


def test_tables_come_from_standard_input(served_hub: CommandLine) -> None:
    done = served_hub("import", "piped", "-", "--format", "csv", "--create", input="code;n\n0E0;1\n7;2\n")
    assert done.err == "standard input: CSV, separated by semicolons, UTF-8; 2 rows; text: code; numbers: n\n"
    assert [row["code"] for row in served_hub.rows("piped", "code")] == ["0E0", "7"]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("name", ["out.ndjson", "out.json", "out.csv", "out.xlsx"])
def test_what_is_exported_is_for_its_owner_alone(served_hub: CommandLine, name: str, exists: bool) -> None:
    """Also in a file that others could read before."""
    files = [served_hub.folder / name, served_hub.folder / f"{name}.bad"]
    for each in files:
        each.unlink(missing_ok=True)
        if exists:
            each.touch()
            each.chmod(0o644)
    before = os.umask(0o022)
    try:
        served_hub("export", "users", name)
        rows = served_hub.file("rows.ndjson", "7\n")
        served_hub("import", "reported", rows, "--create", "--report", f"{name}.bad", code=1)
    finally:
        os.umask(before)
    for each in files:
        assert each.stat().st_mode & 0o777 == 0o600


def test_pipes_and_standard_output_keep_their_modes(tmp_path: Path) -> None:
    pipe, output = tmp_path / "pipe", tmp_path / "output"
    os.mkfifo(pipe)
    pipe.chmod(0o644)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with open_private(pipe, "w") as file:
        file.write("x")
    os.close(reader)
    assert pipe.stat().st_mode & 0o777 == 0o644
    kept = os.dup(1)
    with output.open("w") as file:
        output.chmod(0o644)
        os.dup2(file.fileno(), 1)
    try:
        open_private(Path("/dev/stdout"), "w").close()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert output.stat().st_mode & 0o777 == 0o644


NAMES = {" name ": 1, "a b": 2, "=x": 3, "Name": 4, "'q": 5}


@pytest.mark.parametrize(("name", "options"), [("out.csv", ()), ("out.csv", ("--excel",)), ("out.xlsx", ())])
def test_names_stay_exact(served_hub: CommandLine, name: str, options: tuple[str, ...]) -> None:
    store = f"names-{name[4:]}-{len(options)}"
    served_hub("import", store, "-", "--create", input=json.dumps(NAMES))
    served_hub("export", store, name, *options)
    served_hub("import", f"{store}-again", name, "--create", *options)
    assert plain(served_hub.rows(f"{store}-again")) == [NAMES]


TEXTS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "'", "plain", '"quoted"', "007", "1E3", "a;b,c", "x\ny"]


@pytest.mark.parametrize("typed", [False, True])
def test_no_text_is_a_formula_for_excel_and_all_comes_back(served_hub: CommandLine, typed: bool) -> None:
    store = f"formulas-{typed}"
    for each in (store, f"{store}-again"):
        served_hub("store", "create", each, *(("--field", "text:Textarea", "--open") if typed else ()))
    served_hub("import", store, "-", input="".join(json.dumps({"text": t, "n": -1}) + "\n" for t in TEXTS))
    served_hub("export", store, "x.csv", "--excel", "--only", "text,n", "--delimiter", ";")
    content = (served_hub.folder / "x.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert not [row["text"] for row in rows if row["text"].startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {row["n"] for row in rows} == {"-1"}
    served_hub("import", f"{store}-again", "x.csv", "--excel")
    assert [row["text"] for row in served_hub.rows(f"{store}-again", "text")] == TEXTS
    assert "--excel is about CSV" in served_hub("export", store, "x.json", "--excel", code=2).err


SHEET = [
    {"text": "007", "n": 1, "x": 0.1, "on": True, "at": {"city": "Zürich"}, "list": [1, {"a": None}], "odd": "\u0007"},
    {"text": "=1+1", "n": -(2**40), "x": 1e300, "on": False, "at": {"city": "null"}, "list": [], "odd": "_x0041_"},
    {"text": "true", "n": 3, "x": -5e-324, "at": {"city": "1"}, "list": [[]], "odd": " \n\t "},
]  # fmt: skip


def test_a_sheet_of_excel_goes_out_and_comes_back(served_hub: CommandLine) -> None:
    served_hub("import", "sheets", "-", "--create", input="\n".join(map(json.dumps, SHEET)))
    served_hub("export", "sheets", "s.xlsx")
    sheet = openpyxl.load_workbook(served_hub.folder / "s.xlsx").worksheets[0]
    assert [cell.data_type for cell in sheet["B"]] == ["s"] * 4  # no formula
    done = served_hub("import", "sheets-again", "s.xlsx", "--create")
    assert re.search(r"^s\.xlsx: Excel, sheet 'sheets'; 3 rows; left out: _id, .*text: text, ", done.err)
    assert plain(served_hub.rows("sheets-again")) == SHEET


def make_workbook(hub: CommandLine, rows: list[list[Any]]) -> str:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    book.create_sheet("Notes").append(["note"])
    book.save(hub.folder / "made.xlsx")
    return "made.xlsx"


def test_a_sheet_that_people_made_is_read_by_the_types_of_its_cells(served_hub: CommandLine) -> None:
    when = datetime(2026, 1, 31, 6, 30)
    rows = [["code", "day", "at", "n", None], ["1E3", datetime(2026, 1, 31), when, 1], [], [1000, None, when, 2.5]]
    done = served_hub("import", "made", make_workbook(served_hub, rows), "--create", "--key", "code")
    kinds = "2 rows; text: code, day, at; numbers: n"
    assert done.err == f"made.xlsx: Excel, sheet 'Sheet', other sheets left out: 'Notes'; {kinds}\n"
    assert plain(served_hub.rows("made")) == [
        {"code": "1E3", "day": "2026-01-31", "at": "2026-01-31 06:30:00", "n": 1},
        {"code": "1000", "at": "2026-01-31 06:30:00", "n": 2.5},
    ]
    fields = ("--field", "code:Text", "--field", "day:DateTime", "--field", "at:Date", "--field", "n:Numeric")
    served_hub("store", "create", "made-typed", *fields)
    served_hub("import", "made-typed", "made.xlsx")
    [first, _] = plain(served_hub.rows("made-typed"))
    assert (first["day"], first["at"]) == ("2026-01-31 00:00:00", "2026-01-31")
    served_hub("import", "notes", "made.xlsx", "--sheet", "Notes", "--create")
    refused = served_hub("import", "made", "made.xlsx", "--sheet", "Nosuch", code=1).err
    assert "there is no sheet 'Nosuch', only 'Sheet', 'Notes'" in refused
    rows = [["code", "n"], ["a", 1, "beyond"], ["a", 1]]
    done = served_hub("import", "made", make_workbook(served_hub, rows), "--key", "code", code=1)
    assert "row 2: 3 cells under 2 columns" in done.err


@pytest.mark.parametrize("name", ["late.csv", "late.xlsx"])
def test_a_table_has_the_fields_of_every_entity(served_hub: CommandLine, name: str) -> None:
    """Some fields may be only in entities far beyond the first page."""
    rows = [{"n": n} | ({"late": n, "at": {"city": "x"}} if n >= 2_000 else {}) for n in range(2_500)]
    store = name.replace(".", "-")
    served_hub("import", store, "-", "--create", input="\n".join(map(json.dumps, rows)))
    done = served_hub("export", store, name)
    assert done.err == "2 500 exported\n"
    served_hub("import", f"{store}-again", name, "--create")
    assert plain(served_hub.rows(f"{store}-again")) == rows


def test_a_table_without_a_field_that_came_meanwhile_is_no_success() -> None:
    columns = ExportColumns(["n"], [])
    assert columns.rows([{"n": 1}]) == [{"n": 1}]
    columns.check_complete()
    columns.rows([{"n": 2, "late": 3}])
    with pytest.raises(Failure, match="written during the export: late; export it again"):
        columns.check_complete()


def test_a_table_of_too_many_columns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_COLUMNS", 9)

    class Pages:
        async def pages(self, store: str, params: object) -> AsyncIterator[list[Entity]]:
            yield [{"a": 1}]
            yield [{f"f{number}": 1} for number in range(9)]

    with pytest.raises(Failure, match="more than 9 columns: name some in --only, or export NDJSON"):
        asyncio.run(exports.column_names(cast(Any, Pages()), "s", {}))


def test_what_a_sheet_cannot_hold_is_refused_and_not_cut(served_hub: CommandLine) -> None:
    served_hub("import", "wide", "-", "--create", input=json.dumps({"text": "x" * (LONGEST_TEXT + 1)}))
    assert "a cell of Excel holds 32 767 characters" in served_hub("export", "wide", "w.xlsx", code=1).err
    assert not list(served_hub.folder.glob("w.xlsx*"))
    served_hub("import", "digits", "-", "--create", input=json.dumps({"n": 2**63 - 1}))
    served_hub("export", "digits", "d.xlsx", "--only", "n")
    sheet = openpyxl.load_workbook(served_hub.folder / "d.xlsx").worksheets[0]
    assert sheet["B2"].value in (str(2**63 - 1), None) or sheet["A2"].value == str(2**63 - 1)


MONGOEXPORT = """\
{"_id":{"$oid":"65b1c0ffee65b1c0ffee0001"},"n":{"$numberLong":"5"},"when":{"$date":"2026-01-31T06:00:00Z"},"x":{"$numberDouble":"1.5"}}
{"_id":{"$oid":"65b1c0ffee65b1c0ffee0002"},"n":{"$numberInt":"6"},"when":{"$date":{"$numberLong":"1769839200000"}},"of":[{"$oid":"65b1c0ffee65b1c0ffee0001"}]}
{"_id":{"$oid":"65b1c0ffee65b1c0ffee0003"},"n":7,"when":{"$date":1769839200000},"price":{"$numberDecimal":"9.95"},"deep":{"at":{"$date":"2026-01-31T06:00:00.250Z"}}}
{"n":8,"when":{"$date":"yesterday"}}
{"n":9,"when":{"$nosuch":1}}
"""


@pytest.mark.parametrize("name", ["m.ndjson", "m.json"])
def test_extended_json_of_mongoexport_is_understood(served_hub: CommandLine, name: str) -> None:
    content = MONGOEXPORT if name == "m.ndjson" else f"[{','.join(MONGOEXPORT.splitlines())}]"
    fields = ("--field", "when:DateTime", "--open")
    for store, options in ((f"mongo-{name[2:]}", ()), (f"mongo-typed-{name[2:]}", fields)):
        served_hub("store", "create", store, *options)
        done = served_hub("import", store, served_hub.file(name, content), code=1)
        assert done.last == "3 imported, 2 refused"
        assert "row 4: not valid extended JSON" in done.err
        when = "2026-01-31 06:00:00" if options else "2026-01-31T06:00:00.000Z"
        assert plain(served_hub.rows(store)) == [
            {"n": 5, "when": when, "x": 1.5},
            {"n": 6, "when": when, "of": ["65b1c0ffee65b1c0ffee0001"]},
            {"n": 7, "when": when, "price": 9.95, "deep": {"at": "2026-01-31T06:00:00.250Z"}},
        ]


def test_damaged_json_is_not_passed_over(served_hub: CommandLine) -> None:
    done = served_hub(
        "import", "damaged", served_hub.file("d.json", '[{"n": 1}, {"n": ]}, {"n": 3}]'), "--create", code=1
    )
    assert done.last == "1 imported, 1 refused, the rest of the file was not read"


def test_looking_at_a_table_takes_the_same_memory_whatever_its_size() -> None:
    source = io.BufferedReader(Endless(b"code,text\n", b"1," + b"x" * 1_000 + b"\n", 20_000, b"0E0,y\n"))
    tracemalloc.start()
    try:
        table = read_csv(source)
        columns = Columns(["code", "text"])
        next(table)
        columns.observe(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert columns.rows == 20_001
    assert columns.kinds == {"code": "text", "text": "text"}
    assert peak < 2_000_000  # of 20 MB


def kind(value: Any) -> str:
    if isinstance(value, list | dict):
        return "json"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@given(st.lists(LEAVES | VALUES, min_size=1, max_size=8))
def test_a_column_of_one_kind_survives_its_file(values: list[Any]) -> None:
    column = [value for value in values if value is None or kind(value) == kind(values[0])]
    cells = Cells()
    texts = [cells.write("a", value) for value in column]
    columns = Columns(["a"])
    columns.observe((number, [text]) for number, text in enumerate(texts))
    reading = Cells(kinds=columns.all_kinds)
    assert all(same(reading.read("a", text), value) for text, value in zip(texts, column, strict=True))


@given(st.text() | st.from_regex(r"(_x00[0-9a-f]{2}_|_|x0041_){1,4}"))
def test_any_text_survives_a_cell_of_a_sheet(text: str) -> None:
    assert unescape(escape(text)) == text
