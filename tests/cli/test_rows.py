"""Files of rows: readable rows become entities, others are refused with the number of the row."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import closing
from typing import Any

import orjson
import pytest

from hub.cli.cells import Cells
from hub.cli.definitions import Fields
from hub.cli.keys import Keys
from hub.cli.output import Failure
from hub.cli.rows import Format, Row, RowReader, format_of
from hub.cli.source import Source
from hub.cli.tables import CsvForm, Refusal
from tests.cli.endless import Endless

Outcome = dict[str, Any] | str


def read(format: Format, content: bytes, **options: Any) -> list[tuple[int, Outcome]]:
    """Return (row number, entity or reason) for each row."""
    source = Source("a file", io.BufferedReader(io.BytesIO(content)), 0)  # type: ignore[arg-type]
    rows = RowReader(format, **options).read(source.open())
    return [(row.number, row.reason if isinstance(row, Refusal) else orjson.loads(row.body)) for row in rows]


def test_ndjson_is_numbered_by_line() -> None:
    content = b'\xef\xbb\xbf{"a":1}\n\n{"a":\n[1]\n{"a":"\xff"}\n{"a":123456789012345678901}\n  {"a":2} \r\n{"a":3}'
    outcomes = read(Format.NDJSON, content)
    assert [number for number, _ in outcomes] == [1, 3, 4, 5, 6, 7, 8]
    assert [o for _, o in outcomes if isinstance(o, dict)] == [{"a": 1}, {"a": 2}, {"a": 3}]
    reasons = [o for _, o in outcomes if isinstance(o, str)]
    assert reasons[0].startswith("not valid JSON")
    assert reasons[1] == "not an object"
    assert reasons[2].startswith("not valid JSON")
    assert reasons[3] == "integers must fit in 64 bits"


def test_json_is_numbered_by_place() -> None:
    content = (
        b'\xef\xbb\xbf \n[{"a":1.5,"b":{"c":[1,null,true]}}, 7, {"a":123456789012345678901}, {"a":1e400}, {"a":2}]'
    )
    outcomes = read(Format.JSON, content)
    assert outcomes[0] == (1, {"a": 1.5, "b": {"c": [1, None, True]}})
    assert outcomes[1] == (2, "not an object")
    assert [number for number, o in outcomes if isinstance(o, str)] == [2, 3, 4]
    assert outcomes[4] == (5, {"a": 2})


def test_damaged_json_ends_there_and_says_so() -> None:
    outcomes = read(Format.JSON, b'[{"a":1},{"a":]},{"a":3}]')
    assert outcomes[0] == (1, {"a": 1})
    [(number, reason)] = outcomes[1:]
    assert number == 2
    assert "the rest of the file is not read" in str(reason)


@pytest.mark.parametrize("content", [b"", b'{"a":1}', b'{"a":1}\n{"a":2}', b"7"])
def test_json_that_is_no_array_is_refused_as_a_whole(content: bytes) -> None:
    with pytest.raises(Failure, match="one array"):
        read(Format.JSON, content)


def test_csv_is_numbered_as_a_spreadsheet_does() -> None:
    content = (
        "\ufeffname,address.city,n,on\r\n"
        'Ada,"Lon\ndon",1,true\r\n'
        "\r\n"
        "Bob,,2.5,\r\n"
        "Eve,Bern,3,true,extra\r\n"
        '"Zoe"x,Bern,3,true\r\n'
        "Kim\r\n"
    )
    assert read(Format.CSV, content.encode()) == [
        (2, {"name": "Ada", "address": {"city": "Lon\ndon"}, "n": 1, "on": True}),
        (4, {"name": "Bob", "n": 2.5}),
        (5, "5 cells under 4 columns"),
        (6, "not valid CSV: ',' expected after '\"'"),
        (7, {"name": "Kim"}),
    ]


def test_csv_may_be_separated_by_anything() -> None:
    assert read(Format.CSV, b"a;b\n1;2,5\n", form=CsvForm(";")) == [(2, {"a": 1, "b": "2,5"})]


def test_csv_that_is_not_utf8_is_refused_by_row() -> None:
    outcomes = read(Format.CSV, b"name\nZ\xfcrich\nBern\n")
    assert outcomes[0][0] == 2
    assert "UTF-8" in str(outcomes[0][1])
    assert outcomes[1] == (3, {"name": "Bern"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"a,,b\n", "without a name"), (b"a.,b\n", "without a name"), (b"a,a\n", "twice")],
)
def test_a_csv_header_must_name_each_column_once(content: bytes, message: str) -> None:
    with pytest.raises(Failure, match=message):
        read(Format.CSV, content)


def test_dropped_fields_are_left_out() -> None:
    assert read(Format.NDJSON, b'{"_id":"x","a":{"_id":1}}', dropped=frozenset({"_id"})) == [(1, {"a": {"_id": 1}})]


@pytest.mark.parametrize(
    ("name", "chosen", "format"),
    [
        ("a.json", None, Format.JSON),
        ("a.NDJSON", None, Format.NDJSON),
        ("a.jsonl", None, Format.NDJSON),
        ("dir.json/a.csv", None, Format.CSV),
        ("-", None, Format.NDJSON),
        ("a.json", Format.NDJSON, Format.NDJSON),
    ],
)
def test_the_name_tells_the_format(name: str, chosen: Format | None, format: Format) -> None:
    assert format_of(name, chosen) is format


def test_a_name_that_tells_nothing_needs_a_format() -> None:
    with pytest.raises(Failure, match="--format"):
        format_of("cities.txt", None)


@pytest.mark.parametrize(
    ("format", "head", "row", "tail"),
    [
        (Format.JSON, b"[", b'{"text":"' + b"x" * 1000 + b'"},', b'{"text":""}]'),
        (Format.NDJSON, b"", b'{"text":"' + b"x" * 1000 + b'"}\n', b'{"text":""}'),
        (Format.CSV, b"text\n", b"x" * 1000 + b"\n", b"y\n"),
    ],
)
def test_memory_does_not_grow_with_the_file(format: Format, head: bytes, row: bytes, tail: bytes) -> None:
    rows = 20_000
    source = io.BufferedReader(Endless(head, row, rows, tail))
    tracemalloc.start()
    try:
        read = sum(isinstance(each, Row) for each in RowReader(format).read(source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == rows + 1
    assert peak < 2_000_000  # of 20 MB


ALIKE: dict[str, list[Any]] = {
    "Email": ["Ann@Example.com", "ann@example.com", "ann@EXAMPLE.com"],
    "Phone": ["+1 514 555 0123", "+15145550123", "001 (514) 555-0123"],
    "DateTime": ["2026-01-31T06:00:00Z", "2026-01-31 06:00:00", "2026-01-31T07:00:00.5+01:00"],
    "Number": [1, 1.0],
    "Numeric": [1.5, "1.50", "1.500"],
    "": [1, 1.0],
}


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
@pytest.mark.parametrize("type", ALIKE)
def test_keys_that_are_stored_alike_are_one_key(type: str, format: Format) -> None:
    fields = Fields("people", ({"id": "key", "type": type},) if type else ())
    values = ALIKE[type]
    content = {
        Format.CSV: "key\n" + "".join(f"{value}\n" for value in values),
        Format.NDJSON: "".join(f'{{"key":{orjson.dumps(value).decode()}}}\n' for value in values),
        Format.JSON: orjson.dumps([{"key": value} for value in values]).decode(),
    }[format]
    first = 2 if format is Format.CSV else 1
    with closing(Keys("key", fields.key_field("key"))) as keys:
        outcomes = read(format, content.encode(), keys=keys, cells=Cells(fields.columns(), key="key"))
    assert isinstance(outcomes[0][1], dict)
    refused = [(first + n, f"row {first} has the same key") for n in range(1, len(values))]
    assert outcomes[1:] == refused


@pytest.mark.parametrize("format", [Format.NDJSON, Format.JSON])
@pytest.mark.parametrize("type", ["Number", "Email", "Select", ""])
def test_keys_that_differ_are_different_keys(type: str, format: Format) -> None:
    """Also those that their type does not take, which the hub refuses."""
    keys = b'1 1.5 -1.5 "1" "a" "A" true 9223372036854775807 9223372036854775808.0 1e20 -1e300'.split()
    fields = Fields("people", ({"id": "key", "type": type},) if type else ())
    rows = [b'{"key":' + key + b"}" for key in keys]
    content = b"\n".join(rows) if format is Format.NDJSON else b"[" + b",".join(rows) + b"]"
    with closing(Keys("key", fields.key_field("key"))) as seen:
        assert all(isinstance(outcome, dict) for _, outcome in read(format, content, keys=seen))


@pytest.mark.parametrize("format", [Format.NDJSON, Format.JSON])
def test_a_number_that_no_entity_can_hold_is_no_key(format: Format) -> None:
    content = {
        Format.NDJSON: b'{"key":123456789012345678901}\n{"key":2}',
        Format.JSON: b'[{"key":123456789012345678901},{"key":2}]',
    }[format]
    with closing(Keys("key")) as keys:
        outcomes = read(format, content, keys=keys)
    assert [(number, isinstance(outcome, str)) for number, outcome in outcomes] == [(1, True), (2, False)]
