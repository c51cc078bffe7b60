"""CSV cells: a value that is written is read back unchanged."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.cli.cells import ABSENT, Cells, by_path, flatten, nest, pick
from hub.cli.extended_json import plain
from stores.records import same
from tests.cli.strategies import NAMES, TRICKY, VALUES


@pytest.mark.parametrize("text", TRICKY)
def test_text_that_looks_like_something_else_survives_its_cell(text: str) -> None:
    assert Cells().read("a", Cells().write("a", text)) == text


@given(VALUES)
@settings(max_examples=500)
def test_an_untyped_value_survives_its_cell(value: Any) -> None:
    cells = Cells()
    assert same(cells.read("a", cells.write("a", value)), value)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_an_entity_survives_its_columns(entity: dict[str, Any]) -> None:
    flat = flatten(entity)
    assert same(nest(list(flat), list(flat.values())), entity)


TYPED = Cells(
    by_path(
        [
            {"id": "zip", "type": "Text"},
            {"id": "speed", "type": "Number"},
            {"id": "price", "type": "Numeric"},
            {"id": "on", "type": "Boolean"},
            {"id": "day", "type": "Date"},
            {"id": "grade", "type": "Select", "options": [{"id": "1", "name": "One"}, {"id": 2, "name": "Two"}]},
            {"id": "tags", "type": "MultiSelect", "options": [{"id": 1, "name": "One"}]},
            {"id": "mail", "type": "Email"},
            {"id": "phones", "type": "Phone", "many": True},
            {"id": "counts", "type": "Number", "many": True},
            {"id": "days", "type": "Date", "many": True},
            {
                "id": "address",
                "type": "Object",
                "fields": [{"id": "zip", "type": "Text"}, {"id": "floor", "type": "Number"}],
            },
            {"id": "lines", "type": "Object", "many": True, "fields": [{"id": "code", "type": "Text"}]},
        ]
    )
)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("zip", "01234", "01234"),
        ("zip", "true", "true"),
        ("zip", '"quoted"', '"quoted"'),
        ("speed", "12", 12),
        ("speed", "fast", "fast"),  # left for the hub to refuse
        ("price", "9.95", 9.95),
        ("on", "true", True),
        ("day", "2026-01-31", "2026-01-31"),
        ("grade", "1", "1"),
        ("grade", "2", 2),
        ("grade", "3", 3),
        ("tags", "[1]", [1]),
        ("mail", "Ann@example.com", "Ann@example.com"),
        ("phones", "0151 23456", ["0151 23456"]),
        ("phones", '["+15145550123", "12345"]', ["+15145550123", "12345"]),
        ("phones", "[]", []),
        ("phones", "[12", ["[12"]),
        ("counts", "7", [7]),
        ("counts", "[7, 8]", [7, 8]),
        ("counts", "null", None),
        ("address.zip", "01234", "01234"),
        ("address.floor", "12", 12),
        ("address", '{"zip": "1"}', {"zip": "1"}),
        ("lines", '[{"code": "01"}]', [{"code": "01"}]),
        ("lines.code", "01", "01"),
        ("other", "01234", "01234"),
        ("other", "1234", 1234),
        ("other", '"1234"', "1234"),
        ("other", "[1, {}]", [1, {}]),
        ("other", "[1, ", "[1, "),
        ("other", "[123456789012345678901234567890]", "[123456789012345678901234567890]"),
    ],
)
def test_a_cell_is_read_by_its_field(path: str, text: str, value: Any) -> None:
    assert same(TYPED.read(path, text), value)


@pytest.mark.parametrize("path", ["zip", "speed", "other"])
def test_an_empty_cell_is_no_value(path: str) -> None:
    assert TYPED.read(path, "") is ABSENT


@pytest.mark.parametrize(
    ("path", "value"), [("zip", "1234"), ("zip", '"a"'), ("speed", 12), ("grade", "1"), ("grade", 2), ("tags", [1])]
)
def test_a_typed_value_survives_its_cell(path: str, value: Any) -> None:
    assert same(TYPED.read(path, TYPED.write(path, value)), value)


def test_a_value_and_an_object_cannot_share_a_place() -> None:
    with pytest.raises(ValueError, match="a has a value already"):
        nest(["a", "a.b"], [1, 2])
    with pytest.raises(ValueError, match="a has a value already"):
        nest(["a.b", "a"], [1, 2])
    assert nest(["a", "a.b"], [ABSENT, 2]) == {"a": {"b": 2}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": 1}),
        ("a.b", 1),
        ("list.n", [1, 2]),
        ("list", [{"n": 1}, {"n": 2}, {}]),
        ("a.b.c", ABSENT),
        ("x", ABSENT),
    ],
)
def test_a_column_may_be_any_path(path: str, value: Any) -> None:
    assert pick({"a": {"b": 1}, "list": [{"n": 1}, {"n": 2}, {}]}, path) == value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mail", "ann@example.com"),
        ("phones", ["+15145550123", "12345"]),
        ("phones", []),
        ("counts", [1, 2]),
        ("address.zip", "01234"),
        ("lines", [{"code": "01"}]),
    ],
)
def test_a_value_of_a_defined_field_survives_its_cell(path: str, value: Any) -> None:
    assert TYPED.read(path, TYPED.write(path, value)) == value


def test_a_cell_of_a_sheet_is_one_value_of_a_list() -> None:
    assert TYPED.read("counts", 7) == [7]
    assert TYPED.read("phones", 12345) == ["12345"]
    assert TYPED.read("days", datetime(2026, 11, 26)) == ["2026-11-26"]


def test_times_of_extended_json_get_the_form_of_their_field() -> None:
    """Also in lists and inside of objects."""
    types = {"days": "Date", "at.first": "DateTime"}
    time = {"$date": "2026-11-26T06:00:00Z"}
    row = {"days": [time, time], "at": {"first": time, "last": time}, "other": [time]}
    assert plain(row, types) == {
        "days": ["2026-11-26", "2026-11-26"],
        "at": {"first": "2026-11-26 06:00:00", "last": "2026-11-26T06:00:00.000Z"},
        "other": ["2026-11-26T06:00:00.000Z"],
    }
