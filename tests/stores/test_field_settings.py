"""Settings of fields: lists, bounds, options and objects, in checks and in definitions."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from stores.definitions import parse_definition
from stores.errors import InvalidEntity
from stores.field import Field
from stores.field_definitions import MAX_FIELDS, MAX_OBJECT_LEVELS
from stores.fields.lists import LARGEST_MAX_ITEMS
from stores.limits import MOST_VIOLATIONS
from stores.rule_texts import RULES

Json = dict[str, Any]
Mistakes = list[tuple[str, str]]


def defined(**settings: Any) -> Field:
    return parse_definition({"name": "s", "fields": [{"id": "a", **settings}]}).by_id["a"]


def mistakes(field: Field, value: Any) -> Mistakes:
    """Return (place, text) of each violation; none of a value that is taken."""
    try:
        field.check(value, "a")
    except InvalidEntity as error:
        return [(v.field, RULES[v.rule].format(detail=v.detail)) for v in error.violations]
    return []


LINE: Final[Json] = {
    "type": "Object",
    "many": True,
    "fields": [
        {"id": "product", "type": "Text", "required": True},
        {"id": "count", "type": "Number", "min": 1, "default": 1},
        {"id": "marks", "type": "Email", "many": True, "distinct": True},
    ],
}
TAKEN: list[tuple[Json, Any, Any]] = [
    ({"type": "Text", "many": True}, ["b", "a", "b"], ["b", "a", "b"]),
    ({"type": "DateTime", "many": True}, ["2026-11-26T06:00:00Z"], ["2026-11-26 06:00:00"]),
    ({"type": "JSON", "many": True, "distinct": True}, [1, True, "1", [1], {"a": 1}], [1, True, "1", [1], {"a": 1}]),
    ({"type": "Numeric", "min": -1, "max": "2.50"}, "2.5", 2.5),
    ({"type": "Date", "min": "2026-01-01", "max": "2026-12-31"}, "2026-12-31", "2026-12-31"),
    ({"type": "DateTime", "min": "2026-01-01T00:00:00Z"}, "2026-01-01 00:00:00", "2026-01-01 00:00:00"),
    ({"type": "Text", "max": 300}, "x" * 300, "x" * 300),
    ({"type": "Text", "options": [{"id": "b", "name": "B"}]}, "b", "b"),
    ({"type": "Numeric", "options": [{"id": "1.50", "name": "B"}]}, 1.5, 1.5),
    ({"type": "Email", "options": [{"id": "A@b.example", "name": "A"}]}, "a@B.example", "a@b.example"),
    ({"type": "Number", "many": True, "options": [{"id": 1, "name": "A"}]}, [1, 1.0], [1, 1]),
    ({"type": "Select", "many": True, "options": [{"id": 1, "name": "A"}]}, [1], [1]),
    (LINE, [{"product": "x"}], [{"product": "x", "count": 1}]),
    (LINE, [{"product": "x", "count": None, "marks": None}], [{"product": "x", "count": None, "marks": None}]),
    (
        LINE,
        [{"product": "x", "count": 2.0, "marks": ["A@b.example"]}],
        [{"product": "x", "count": 2, "marks": ["a@b.example"]}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "sent", "kept"), TAKEN)
def test_a_value_gets_its_canonical_form(settings: Json, sent: Any, kept: Any) -> None:
    field = defined(**settings)
    assert json.dumps(field.check(sent, "a")) == json.dumps(kept), "in this order, and 1 is not 1.0"
    assert field.check(kept, "a") == kept


REFUSED: list[tuple[Json, Any, Mistakes]] = [
    ({"type": "Text", "many": True}, "b", [("a", "Must be a list of values.")]),
    ({"type": "Text", "many": True}, [1, "b", None], [("a.0", "Must be a string."), ("a.2", "Must be a string.")]),
    ({"type": "Text", "many": True, "max_items": 2}, ["a"] * 3, [("a", "Must not hold more than 2 values.")]),
    ({"type": "Text", "many": True}, ["a"] * 1_001, [("a", "Must not hold more than 1000 values.")]),
    (
        {"type": "Email", "many": True, "distinct": True},
        ["x@b.example", "y@b.example", "X@B.example", "x@b.example"],
        [("a.2", "This value is in the list already."), ("a.3", "This value is in the list already.")],
    ),
    (
        {"type": "JSON", "many": True, "distinct": True},
        [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}, 0, False, 0.0],
        [("a.1", "This value is in the list already."), ("a.4", "This value is in the list already.")],
    ),
    (
        {"type": "MultiSelect", "distinct": True, "options": [{"id": 1, "name": "A"}]},
        [1, 1],
        [("a.1", "This value is in the list already.")],
    ),
    ({"type": "Number", "min": 0, "max": 9}, -1, [("a", "Must be at least 0.")]),
    ({"type": "Number", "min": 0, "max": 9}, 10, [("a", "Must be at most 9.")]),
    ({"type": "Number", "many": True, "max": 9}, [1, 10], [("a.1", "Must be at most 9.")]),
    ({"type": "Date", "max": "2026-12-31"}, "2027-01-01", [("a", "Must be at most 2026-12-31.")]),
    ({"type": "DateTime", "min": "2026-01-01T00:00:00+01:00"}, "2025-12-31T22:59:59Z",
     [("a", "Must be at least 2025-12-31 23:00:00.")]),
    ({"type": "Text", "min": 2, "max": 3}, "a", [("a", "Must not be shorter than 2 characters.")]),
    ({"type": "Text", "min": 2, "max": 3}, "abcd", [("a", "Must not be longer than 3 characters.")]),
    ({"type": "URL", "max": 12}, "http://abc.de", [("a", "Must not be longer than 12 characters.")]),
    ({"type": "Text", "options": [{"id": "b", "name": "B"}]}, "B", [("a", "The selected option is not valid.")]),
    (
        LINE,
        [{"product": ""}, {"count": 0, "price": 3, "marks": ["x"]}, 5],
        [
            ("a.0.product", "This field is required."),
            ("a.1.product", "This field is required."),
            ("a.1.count", "Must be at least 1."),
            ("a.1.price", "There is no such field."),
            ("a.1.marks.0", "Must be a mail address, such as ann@example.com."),
            ("a.2", "Must be an object."),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "value", "texts"), REFUSED)
def test_each_mistake_is_named_by_its_path(settings: Json, value: Any, texts: Mistakes) -> None:
    assert sorted(mistakes(defined(**settings), value)) == sorted(texts)


def test_the_mistakes_of_a_list_are_listed_up_to_a_bound() -> None:
    field = defined(type="Object", many=True, max_items=LARGEST_MAX_ITEMS, fields=[{"id": "n", "type": "Number"}])
    assert len(mistakes(field, [{"n": "x", "m": 1}] * LARGEST_MAX_ITEMS)) == MOST_VIOLATIONS


def levels(count: int) -> Json:
    field: Json = {"id": "n", "type": "Number"}
    for _ in range(count):
        field = {"id": "a", "type": "Object", "fields": [field]}
    return field


def test_objects_are_nested_to_a_bounded_depth() -> None:
    value: Any = {"n": "x"}
    for _ in range(MAX_OBJECT_LEVELS - 1):
        value = {"a": value}
    assert mistakes(defined(**levels(MAX_OBJECT_LEVELS)), value) == [
        ("a." * MAX_OBJECT_LEVELS + "n", "Must be a whole number.")
    ]
    with pytest.raises(InvalidEntity):
        defined(**levels(MAX_OBJECT_LEVELS + 1))


OPTION: Final = {"id": 1, "name": "One"}
BAD: list[tuple[Json, str, str]] = [
    ({"type": "Boolean", "min": 0}, "min", "Boolean takes no min."),
    ({"type": "Text", "fields": [{"id": "b", "type": "Text"}]}, "fields", "Text takes no fields."),
    ({"type": "MultiSelect", "many": True, "options": [OPTION]}, "many", "MultiSelect takes no many."),
    ({"type": "Object"}, "fields", "Object needs fields."),
    ({"type": "Object", "fields": []}, "fields", "Object needs fields."),
    ({"type": "Object", "unique": True, "fields": [{"id": "b", "type": "Text"}]}, "unique", "Object cannot be unique."),
    ({"type": "Text", "max_items": 5}, "max_items", "Only a field with many values has this setting."),
    ({"type": "Text", "distinct": True}, "distinct", "Only a field with many values has this setting."),
    ({"type": "Text", "many": True, "max_items": 0}, "max_items", "Must be from 1 to 10000."),
    ({"type": "Text", "many": True, "max_items": 10_001}, "max_items", "Must be from 1 to 10000."),
    ({"type": "Text", "many": True, "unique": True}, "unique", "A field with many values cannot be unique."),
    ({"type": "Text", "many": 1}, "many", "Must be true or false."),
    ({"type": "Number", "min": "x"}, "min", "Must be a whole number."),
    ({"type": "Number", "min": 2, "max": 1}, "min", "Must not be greater than the most, 1."),
    ({"type": "Date", "max": "26.11.2026"}, "max", "Must be a real date, such as 2020-11-26."),
    ({"type": "Text", "min": -1}, "min", "Must be a length from 0 to 100000."),
    ({"type": "Text", "min": 256}, "min", "Must not be greater than the most, 255."),
    ({"type": "Text", "max": 0}, "max", "Must be a length from 1 to 100000."),
    ({"type": "URL", "max": 2_001}, "max", "Must be a length from 1 to 2000."),
    ({"type": "Text", "max": 5, "length": 5}, "max", "max and length mean the same: send one."),
    ({"type": "Number", "options": [{"id": "x", "name": "X"}]}, "options.0", "Must be a whole number."),
    ({"type": "Email", "options": [{"id": i, "name": i} for i in ("a@b.example", "A@b.example")]}, "options.1",
     "This id is taken."),
    ({"type": "Number", "max": 1, "options": [{"id": 2, "name": "X"}]}, "options.0", "Must be at most 1."),
    ({"type": "Number", "many": True, "default": 1}, "default", "Must be a list of values."),
    ({"type": "Number", "many": True, "default": [1, "x"]}, "default.1", "Must be a whole number."),
    ({"type": "Object", "fields": [{"id": "b", "type": "Text", "hidden": True}]}, "fields.0.hidden",
     "Only a field of the store can be hidden, with all that it holds."),
    ({"type": "Object", "many": True, "fields": [{"id": "b", "type": "Text", "unique": True}]}, "fields.0.unique",
     "A field of objects in a list cannot be unique."),
    ({"type": "Object", "fields": [{"id": "0", "type": "Text"}]}, "fields.0.id",
     "Must be a field name, and no number: that is an array position."),
    ({"type": "Object", "fields": [{"id": "b", "type": "Blob"}]}, "fields.0.type", "Must be one of Boolean, "),
    ({"type": "Object", "fields": [{"id": "b", "type": "Text"}, {"id": "b", "type": "Text"}]}, "fields.1.id",
     "This id is taken."),
    ({"type": "Object", "fields": [{"id": f"b{n}", "type": "Text"} for n in range(MAX_FIELDS)]}, "fields",
     f"At most {MAX_FIELDS} fields."),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "place", "text"), BAD)
def test_a_setting_that_cannot_be_is_named(settings: Json, place: str, text: str) -> None:
    with pytest.raises(InvalidEntity) as refusal:
        defined(**settings)
    [violation] = refusal.value.violations
    assert violation.field == f"fields.0.{place}"
    assert RULES[violation.rule].format(detail=violation.detail).startswith(text)


def test_settings_that_earlier_hubs_ignored_stay_in_old_definitions() -> None:
    """New definitions are refused for them (tests/platform/test_field_settings.py)."""
    field = defined(type="JSON", options=[OPTION], length=5)
    assert field.check("longer than that", "a") == "longer than that"


def test_fields_inside_of_objects_have_system_names_and_indexes() -> None:
    inner = [{"id": "id", "type": "Text", "index": True}, {"id": "_id", "type": "Text", "unique": True, "search": True}]
    definition = parse_definition({"name": "s", "fields": [{"id": "a", "type": "Object", "fields": inner}]})
    assert definition.index_paths == ("a.id",)
    assert definition.unique_paths == definition.search_paths == ("a._id",)
    hidden = {"id": "a", "type": "Object", "hidden": True, "fields": inner}
    assert parse_definition({"name": "s", "fields": [hidden]}).search_paths == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"min": 1},
        {"max": 5},
        {"many": True},
        {"options": [OPTION]},
        {"type": "Numeric"},
    ],
)
def test_a_change_of_what_is_accepted_is_noticed(changes: Json) -> None:
    assert defined(type="Number").accepts != defined(**{"type": "Number", **changes}).accepts
    inside = [defined(type="Object", fields=[{"id": "b", "type": "Number", **more}]) for more in ({}, changes)]
    assert inside[0].accepts != inside[1].accepts


def test_labels_and_the_order_of_members_change_nothing_of_it() -> None:
    members = [{"id": "b", "type": "Number"}, {"id": "c", "type": "Text"}]
    one = defined(type="Object", fields=members)
    other = defined(type="Object", label="A", fields=[members[1] | {"label": "C"}, members[0] | {"index": True}])
    assert one.accepts == other.accepts
    assert defined(type="Text", many=True).accepts == defined(type="Text", many=True, max_items=1_000).accepts
