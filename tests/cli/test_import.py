"""`hub import` and `hub export` on real hubs."""

from __future__ import annotations

import csv
import json
import re
import signal
import time
from pathlib import Path

import pytest

from hub.cli.output import grouped
from tests.cli.conftest import PATIENCE, CommandLine, plain
from tests.support.forkserver import StartedProcess


def lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def test_cities_are_imported_and_imported_again(hub_of_each_engine: CommandLine, cities: Path) -> None:
    hub, total = hub_of_each_engine, lines(cities)
    command = ("import", "cities", str(cities), "--create", "--key", "geonameid")
    for _ in range(2):
        assert hub(*command).last == f"{grouped(total)} imported, 0 refused"
    rows = hub.rows("cities", "geonameid", "name")
    assert len(rows) == total > 20_000
    first = json.loads(cities.read_text().split("\n", 1)[0])
    assert {"geonameid": first["geonameid"], "name": first["name"]}.items() <= rows[0].items()


def test_cities_are_imported_through_a_running_hub(hub: CommandLine, cities: Path) -> None:
    with hub.serving():
        done = hub("import", "cities", str(cities), "--create")
        assert done.last == f"{grouped(lines(cities))} imported, 0 refused"
        assert hub.count("cities") == lines(cities)
    assert len(hub.rows("cities", "_id")) == lines(cities)


def test_another_users_token_imports_from_afar(hub: CommandLine, tmp_path: Path) -> None:
    afar = CommandLine(tmp_path / "afar")
    afar.folder.mkdir()
    afar.file("rows.ndjson", '{"n": 1}\n')
    with hub.serving() as url:
        hub("store", "create", "units")
        token = hub(
            "token", "create", "t", "--scope", "POST /units/*", "--scope", "GET /units/*", "--quiet"
        ).out.strip()
        afar.variables = {"HUB_URL": url, "HUB_TOKEN": token}
        assert afar("import", "units", "rows.ndjson").last == "1 imported, 0 refused"
        assert afar.rows("units", "n")[0]["n"] == 1
        assert afar("import", "users", "rows.ndjson", code=1).err == "hub: Forbidden\n"
    assert not (afar.folder / "data").exists()


BAD_ROWS = """\
{"name": "first", "speed": 1}
{"name": "second", "speed":
{"speed": 3}
{"name": "fourth", "speed": "fast", "on": 1}
[5]

{"name": "first", "speed": 7}
{"name": "eighth", "speed": 8}
{"name": "ninth", "speed": 123456789012345678901}
"""
REFUSED = [
    (2, "", "not valid JSON"),
    (3, "name", "This field is required."),
    (4, "speed", "Must be a whole number."),
    (4, "on", "Must be true or false."),
    (5, "", "not an object"),
    (7, "name", "Another entity has this value."),
    (9, "", "integers must fit in 64 bits"),
]
FIELDS = ("--field", "name:Text:required,unique", "--field", "speed:Number", "--field", "on:Boolean")


@pytest.mark.parametrize("batch", ["2", "1000"])
def test_refused_rows_are_named_and_the_others_imported(hub_of_each_engine: CommandLine, batch: str) -> None:
    hub = hub_of_each_engine
    hub("store", "create", "units", *FIELDS)
    done = hub("import", "units", hub.file("r.ndjson", BAD_ROWS), "--batch", batch, "--report", "bad.csv", code=1)
    assert done.last == "2 imported, 6 refused"
    assert [row["speed"] for row in hub.rows("units", "speed")] == [1, 8]
    with (hub.folder / "bad.csv").open(newline="") as report:
        reported = sorted((int(row["row"]), row["field"], row["reason"]) for row in csv.DictReader(report))
    assert [row[:2] for row in reported] == sorted(row[:2] for row in REFUSED)
    for row, field, reason in REFUSED:
        assert any(found[:2] == (row, field) and reason in found[2] for found in reported)
        assert re.search(rf"^row {row}: {f'{field}: ' if field else ''}{re.escape(reason)}", done.err, re.MULTILINE)


def test_duplicates_are_refused_wherever_they_are(hub: CommandLine) -> None:
    numbers = [*range(40), 3, *range(40, 60), 59, 59, 0, *range(60, 100), 99]
    repeated = [place for place, number in enumerate(numbers, 1) if number in numbers[: place - 1]]
    hub("store", "create", "units", "--unique", "n")
    hub.file("rows.ndjson", "".join(json.dumps({"n": number}) + "\n" for number in numbers))
    done = hub("import", "units", "rows.ndjson", "--batch", "30", "--report", "bad.csv", code=1)
    assert done.last == f"100 imported, {len(repeated)} refused"
    with (hub.folder / "bad.csv").open(newline="") as report:
        assert sorted(int(row["row"]) for row in csv.DictReader(report)) == repeated
    assert [row["n"] for row in hub.rows("units", "n")] == list(range(100))


def test_only_the_first_refusals_are_printed(hub: CommandLine) -> None:
    rows = hub.file("rows.ndjson", "7\n" * 31)
    done = hub("import", "units", rows, "--create", code=1)
    assert [line.split(":")[0] for line in done.err.splitlines()[:-1]] == [f"row {n}" for n in range(1, 21)]
    assert done.err.splitlines()[-1] == "... and 11 more; to see all, add --report FILE"
    assert done.last == "0 imported, 31 refused"


def test_rows_too_large_for_one_request_are_split(hub: CommandLine) -> None:
    hub.variables = {"HUB_MAX_BODY_BYTES": "2000", "HUB_MAX_BULK_BODY_BYTES": "2000"}
    rows = [json.dumps({"n": n, "text": "x" * (3000 if n == 25 else 100)}) for n in range(50)]
    done = hub("import", "units", hub.file("rows.ndjson", "\n".join(rows)), "--create", code=1)
    assert done.last == "49 imported, 1 refused"
    assert "row 26: body: The body must not exceed 2000 bytes" in done.err
    assert [row["n"] for row in hub.rows("units", "n")] == [n for n in range(50) if n != 25]


def test_csv_is_typed_by_the_store(hub: CommandLine) -> None:
    hub("store", "create", "units", *FIELDS, "--open")
    hub.file("rows.csv", 'name,speed,on,address.city,zip\n007,7,true,Bern,0123\n"a, b",,false,,"""12"""\n')
    assert hub("import", "units", "rows.csv").last == "2 imported, 0 refused"
    assert plain(hub.rows("units")) == [
        {"name": "007", "speed": 7, "on": True, "address": {"city": "Bern"}, "zip": "0123"},
        {"name": "a, b", "on": False, "zip": "12"},
    ]


def test_rows_come_from_standard_input(hub: CommandLine) -> None:
    assert hub("import", "units", "-", "--create", input='{"n":1}\n{"n":2}').last == "2 imported, 0 refused"
    assert hub("import", "units", "-", "--format", "json", input='[{"n":3}]').last == "1 imported, 0 refused"
    assert hub("import", "units", "-", "--format", "csv", "--delimiter", ";", input="n;m\n4;5\n").last.startswith("1 ")
    assert [row["n"] for row in hub.rows("units", "n")] == [1, 2, 3, 4]


ODD = [
    {"n": 1, "text": "007", "nested": {"a": {"b": None}, "empty": {}}, "list": [1, {"a": "x"}, []]},
    {"n": -2.5, "text": "", "yes": True, "line": "a\nb,\"c\"\r\n", "when": "true"},
    {"text": "Zürich 東京 😀", "null": None, "number": 2**63 - 1, "json": "[1]"},
]  # fmt: skip


@pytest.mark.parametrize("name", ["out.ndjson", "out.json", "out.csv"])
def test_an_export_can_be_imported(served_hub: CommandLine, name: str) -> None:
    hub, store = served_hub, "odd" + name.rpartition(".")[2]
    rows = "\n".join(map(json.dumps, ODD))
    hub("import", store, "-", "--create", input=rows)
    assert hub("export", store, name).err == "3 exported\n"
    assert hub("import", f"{store}-again", name, "--create").last == "3 imported, 0 refused"
    assert plain(hub.rows(f"{store}-again")) == ODD
    ids = [{row["_id"] for row in hub.rows(s, "_id")} for s in (store, f"{store}-again")]
    assert not ids[0] & ids[1]


def test_a_definition_can_be_moved_completely(served_hub: CommandLine) -> None:
    """As docs/mongodb.md does it for another hub."""
    hub = served_hub
    hidden = {"id": "comment", "type": "Textarea", "hidden": True}
    fields = [{"id": "station", "type": "Text", "required": True, "default": "x"}, hidden]
    parts = {"open": True, "indexes": ["place.city"], "unique": ["code"], "search": ["station"], "label": "To be moved"}
    definition = {"name": "moved", "fields": fields, **parts}
    hub("import", "stores", "-", input=json.dumps(definition))
    hub("export", "stores", "stores.ndjson", "--filter", '{"name": "moved"}')
    hub("store", "delete", "moved", "--yes")
    assert hub("import", "stores", "stores.ndjson").last == "1 imported, 0 refused"
    assert plain([json.loads(hub("store", "show", "moved", "--json").out)]) == [definition]


def test_system_fields_are_sent_when_asked_for(served_hub: CommandLine) -> None:
    row = '{"_id": "0123456789abcdef01234567", "n": 1}'
    done = served_hub("import", "kept", "-", "--create", "--keep-system", input=row, code=1)
    assert "row 1: _id: " in done.err
    assert served_hub("import", "kept", "-", input=row).last == "1 imported, 0 refused"


def test_an_export_is_selected_and_sorted(served_hub: CommandLine) -> None:
    rows = "".join(f'{{"n": {n}, "even": {json.dumps(n % 2 == 0)}, "at": {{"x": {n}}}}}\n' for n in range(2_500))
    served_hub("import", "numbers", "-", "--create", input=rows)
    asked = ("--filter", '{"even": true}', "--only", "at.x,n", "--sort", "-n", "--format", "csv")
    done = served_hub("export", "numbers", *asked)
    assert done.out.splitlines() == ["at.x,n", *(f"{n},{n}" for n in range(2498, -1, -2))]
    assert done.err == "1 250 exported\n"


def test_columns_that_come_late_are_exported(served_hub: CommandLine) -> None:
    rows = '{"n": 1}\n' * 1_000 + '{"late": 1}\n'
    served_hub("import", "late", "-", "--create", input=rows)
    done = served_hub("export", "late", "--format", "csv")
    assert done.err == "1 001 exported\n"
    head, *lines = csv.reader(done.out.splitlines())
    assert head[-1] == "late"
    assert [line[-1] for line in lines] == [""] * 1_000 + ["1"]


def test_an_empty_store_is_exported(served_hub: CommandLine) -> None:
    served_hub("store", "create", "empty")
    assert served_hub("export", "empty").out == ""
    assert json.loads(served_hub("export", "empty", "--format", "json").out) == []


def test_an_export_that_fails_leaves_no_file(served_hub: CommandLine) -> None:
    served_hub.file("kept.json", "before")
    done = served_hub("export", "nosuch", "kept.json", code=1)
    assert re.fullmatch(r"hub: Not Found[^\n]*\n", done.err)
    assert [file.name for file in served_hub.folder.glob("kept*")] == ["kept.json"]
    assert (served_hub.folder / "kept.json").read_text() == "before"


def test_a_reader_that_has_had_enough_ends_an_export_quietly(served_hub: CommandLine) -> None:
    rows = "".join(f'{{"n": {n}, "text": "{"x" * 200}"}}\n' for n in range(2_000))
    served_hub("import", "long", "-", "--create", input=rows)
    export = served_hub.start("export", "long")
    assert export.stdout is not None
    export.stdout.readline()
    export.stdout.close()
    assert export.stdin is not None
    assert export.stderr is not None
    with export.stdin, export.stderr:
        assert export.stderr.read() == b""
    assert export.wait(PATIENCE) != 0


def interrupt_midway(hub: CommandLine, importing: StartedProcess, number: int) -> tuple[int, str, str]:
    """Send a signal during the import; return the exit code, standard output and standard error."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and hub.count("cities") < 500:
        assert importing.poll() is None, "too quick for this test"
    importing.send_signal(number)
    out, err = importing.communicate(timeout=PATIENCE)
    return importing.returncode, out.decode(), err.decode()


def test_ctrl_c_says_exactly_how_to_go_on(hub: CommandLine, some_cities: Path) -> None:
    with hub.serving():
        hub("store", "create", "cities")
        command = ("import", "cities", str(some_cities), "--batch", "5")
        code, out, err = interrupt_midway(hub, hub.start(*command), signal.SIGINT)
        assert code == 130
        [skip] = re.findall(r"hub: stopped; to go on, add --skip (\d+)\n", err)
        assert out == f"{grouped(int(skip))} imported, 0 refused\n"
        assert 500 <= int(skip) == hub.count("cities") < lines(some_cities)
        assert hub(*command[:-1], "1000", "--skip", skip).code == 0
        assert [row["geonameid"] for row in hub.rows("cities", "geonameid")] == [
            json.loads(line)["geonameid"] for line in some_cities.read_text().splitlines()
        ]


def test_an_import_that_was_killed_is_run_again(hub: CommandLine, some_cities: Path) -> None:
    with hub.serving():
        hub("store", "create", "cities", "--unique", "geonameid")
        command = ("import", "cities", str(some_cities), "--key", "geonameid")
        code, _, _ = interrupt_midway(hub, hub.start(*command, "--batch", "5"), signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert hub.count("cities") < lines(some_cities)
        assert hub(*command).last == f"{grouped(lines(some_cities))} imported, 0 refused"
        assert hub.count("cities") == lines(some_cities)


def test_ctrl_c_does_not_wait_for_input(hub: CommandLine) -> None:
    with hub.serving():
        hub("store", "create", "units")
        importing = hub.start("import", "units", "-", "--batch", "1")
        assert importing.stdin is not None
        importing.stdin.write(b'{"n": 1}\n{"n": 2}\n')
        importing.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while hub.count("units") < 1 and time.monotonic() < deadline:
            pass
        importing.send_signal(signal.SIGINT)
        assert importing.wait(PATIENCE) == 130
        importing.communicate()


def test_a_hub_that_goes_away_ends_an_import_in_one_line(hub: CommandLine, some_cities: Path) -> None:
    with hub.serving():
        hub("store", "create", "cities")
        importing = hub.start("import", "cities", str(some_cities), "--batch", "5")
        while hub.count("cities") < 500:
            assert importing.poll() is None, "too quick for this test"
    out, err = importing.communicate(timeout=PATIENCE)
    assert importing.returncode == 1
    assert b"imported, 0 refused" in out
    assert re.fullmatch(rb"hub: .*; to go on, add --skip \d+.*\n", err)


@pytest.fixture(scope="module")
def hub_with_units(served_hub: CommandLine) -> CommandLine:
    served_hub("store", "create", "units")
    served_hub.file("rows.ndjson", '{"n": 1}\n')
    served_hub.file("object.json", '{"n": 1}\n')
    return served_hub


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import", "units", "nosuch.json"), 1, "nosuch.json: No such file or directory"),
        (("import", "units", "rows.txt"), 1, "rows.txt: cannot tell the format"),
        (("import", "nosuch", "rows.ndjson"), 1, "no store is called nosuch: add --create"),
        (("import", "units", "object.json"), 1, "one array of objects"),
        (("import", "units", "rows.ndjson", "--key", "n"), 1, "is not a unique field of units"),
        (("import", "bad name", "rows.ndjson", "--create"), 1, "name: Must be 1 to 63 letters"),
        (("import", "units", "rows.ndjson", "--delimiter", ";;"), 2, "--delimiter takes one character"),
        (("import", "units", "rows.ndjson", "--batch", "0"), 2, "--batch"),
        (("import", "units?upsert=n", "rows.ndjson"), 1, "no store is called units?upsert=n"),
        (("export", "../../metrics"), 1, "Not Found"),
        (("import", "units"), 2, "Missing argument 'file'"),
        (("import", "units", "rows.ndjson", "--fast"), 2, "No such option: --fast"),
        (("import", "units", "rows.ndjson", "--report", "no/such/dir.csv"), 1, "no/such/dir.csv: No such file"),
        (("export", "units", "--filter", "{"), 1, "filter"),
        (("export", "units", "--filter", '{"$where": "1"}'), 1, "$where"),
        (("export", "units", "no/such/dir.json"), 1, "No such file or directory"),
    ],
)
def test_whatever_is_wrong_is_said_in_one_line(
    hub_with_units: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = hub_with_units(*arguments, code=code)
    assert message in done.err
    assert re.fullmatch(r"hub: [^\n]+\n", done.err)
