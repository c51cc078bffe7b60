"""CSV cells: a value that is written is read back unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.cli.cells import ABSENT, Cells, by_path, flatten, nest, pick
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
