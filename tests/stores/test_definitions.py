"""Parsing of definitions: its costs and bounds."""

from __future__ import annotations

from typing import Any

import pytest

from hub.services.key_fields import with_keys
from hub.services.system_stores.definitions import check_parts
from stores.definitions import parse_definition
from stores.errors import InvalidEntity
from stores.field_definitions import MAX_FIELDS, MAX_OPTIONS
from stores.limits import MOST_VIOLATIONS
from stores.schema import StoreDefinition
from tests.support.steps import counted_steps


def select(count: int) -> dict[str, Any]:
    options = [{"id": n, "name": "x"} for n in range(count)]
    return {"name": "s", "fields": [{"id": "f", "type": "Select", "options": options}]}


def texts(count: int) -> dict[str, Any]:
    return {"name": "s", "fields": [{"id": f"f{n}", "type": "Text"} for n in range(count)]}


def steps(document: dict[str, Any]) -> int:
    with counted_steps() as taken:
        try:
            parse_definition(document)
        except InvalidEntity:
            pass
    return taken.count


@pytest.mark.parametrize(("made", "most"), [(select, MAX_OPTIONS), (texts, MAX_FIELDS)])
def test_ten_times_as_many_parts_take_ten_times_the_steps(made: Any, most: int) -> None:
    assert steps(made(most)) < 12 * steps(made(most // 10))


def test_many_paths_are_not_compared_with_each_other() -> None:
    def document(count: int) -> dict[str, Any]:
        return {"name": "s", "unique": [f"a{n}" for n in range(count)], "indexes": [f"b{n}" for n in range(count)]}

    assert steps(document(2_000)) < 12 * steps(document(200))


@pytest.mark.parametrize(
    ("made", "most", "place"), [(select, MAX_OPTIONS, "fields.0.options"), (texts, MAX_FIELDS, "fields")]
)
def test_too_many_parts_are_refused_before_they_are_looked_at(made: Any, most: int, place: str) -> None:
    parse_definition(made(most))
    with pytest.raises(InvalidEntity) as refusal:
        parse_definition(made(most + 1))
    assert place in [violation.field for violation in refusal.value.violations]
    assert steps(made(20 * most)) < 10_000


def test_violations_are_counted_beyond_those_that_are_listed() -> None:
    """A field behind them is refused as it would be alone."""
    fields = [{"id": "f", "type": "Nothing", **{f"x{n}": 1 for n in range(MOST_VIOLATIONS)}}]
    with pytest.raises(InvalidEntity) as refusal:
        parse_definition({"name": "s", "fields": fields})
    assert len(refusal.value.violations) == MOST_VIOLATIONS


@pytest.mark.parametrize("name", ["indexes", "unique", "search"])
@pytest.mark.parametrize(("path", "number"), [("0", "0"), ("a.007", "007"), ("a.1.b", "1")])
def test_a_path_with_a_number_is_told_why_it_is_refused(name: str, path: str, number: str) -> None:
    with pytest.raises(InvalidEntity) as refusal:
        parse_definition({"name": "s", name: ["a", path]})
    [violation] = refusal.value.violations
    assert violation.field == f"{name}.1"
    assert violation.detail == f"Must be a field path without {number!r}: a number is an array position."


@pytest.mark.parametrize("path", ["access", "branch"])
def test_system_fields_that_hold_lists_are_not_unique(path: str) -> None:
    with pytest.raises(InvalidEntity) as refusal:
        parse_definition({"name": "s", "unique": ["a", path]})
    assert [violation.field for violation in refusal.value.violations] == ["unique.1"]


def test_the_id_is_not_searched() -> None:
    """A hub of an earlier version took it in definitions: these stay valid, new ones are refused."""
    old = parse_definition({"name": "s", "search": ["a", "_id"]})
    assert old.search_paths == ("a",)
    check_parts(old, parse_definition({"name": "s", "search": ["a", "_id"], "label": "s"}))
    with pytest.raises(InvalidEntity) as refusal:
        check_parts(None, old)
    assert [violation.field for violation in refusal.value.violations] == ["search.1"]


CLOSED: dict[str, Any] = {
    "name": "s",
    "fields": [
        {"id": "a", "type": "Text"},
        {"id": "customer", "type": "Reference", "store": "customers"},
        {"id": "extra", "type": "JSON"},
        {"id": "lines", "type": "Object", "many": True, "fields": [{"id": "n", "type": "Number"}]},
    ],
}
UNKNOWN = "s has no field 'zip'."
BEYOND = "customer is a Reference, and a path does not reach into customers."


@pytest.mark.parametrize(
    ("parts", "refused"),
    [
        ({"indexes": ["a", "extra.x", "lines.n", "time", ["a", "-lines.n"]]}, {}),
        ({"indexes": ["a", "zip"]}, {"indexes.1": UNKNOWN}),
        ({"indexes": ["zip"], "open": True}, {}),
        ({"indexes": ["customer.name"], "open": True}, {"indexes.0": BEYOND}),
        ({"indexes": [["a", "-zip"]]}, {"indexes.0.1": UNKNOWN}),
        ({"indexes": [["zip"]]}, {"indexes.0.0": UNKNOWN}),
        (
            {"indexes": [{"fields": ["a", "customer.name"], "where": {"a": "x", "zip": 1}}]},
            {"indexes.0.fields.1": BEYOND, "indexes.0.where.zip": UNKNOWN},
        ),
        ({"indexes": [{"fields": ["lines.m"], "unique": True}]}, {"indexes.0.fields.0": "lines has no field 'm'."}),
        ({"unique": ["a.x"]}, {"unique.0": "a has no fields, because its type is Text."}),
        (
            {"search": ["zip", "owner.name"]},
            {"search.0": UNKNOWN, "search.1": "owner is a system field and has no fields."},
        ),
    ],
)
def test_paths_at_which_no_entity_has_a_value_are_not_indexed_or_searched(
    parts: dict[str, Any], refused: dict[str, str]
) -> None:
    definition = parse_definition(CLOSED | parts)
    if not refused:
        check_parts(None, definition)
        return
    with pytest.raises(InvalidEntity) as refusal:
        check_parts(None, definition)
    assert {violation.field: violation.detail for violation in refusal.value.violations} == refused


TYPED: dict[str, Any] = {
    "name": "s",
    "fields": [
        *({"id": type, "type": type} for type in ("Text", "Email", "JSON", "Number", "Numeric", "Serial", "Boolean")),
        {"id": "numbers", "type": "Number", "many": True},
        {"id": "kind", "type": "Select", "options": [{"id": 1, "name": "one"}]},
        {"id": "size", "type": "MultiSelect", "options": [{"id": 1, "name": "one"}, {"id": "two", "name": "two"}]},
        {"id": "of", "type": "Reference", "store": "others"},
        {"id": "by", "type": "Reference", "store": "s", "by": "Serial"},
        {
            "id": "place",
            "type": "Object",
            "fields": [{"id": "city", "type": "Text"}, {"id": "floor", "type": "Number"}],
        },
    ],
}


def test_what_holds_no_text_is_not_searched() -> None:
    """Definitions of an earlier version that do stay valid, if the path has the same type."""
    texts = ["Text", "Email", "JSON", "JSON.x", "size", "of", "place.city", "owner"]
    others = {
        "Number": "Number", "Numeric": "Numeric", "Serial": "Serial", "Boolean": "Boolean", "numbers": "Number",
        "kind": "Select", "by": "Serial", "place": "Object", "place.floor": "Number", "time": "a number",
    }  # fmt: skip
    stores = {"s": parse_definition(TYPED)}

    def searching(*paths: str, **more: Any) -> StoreDefinition:
        return with_keys(parse_definition(TYPED | {"search": [*paths]} | more), stores)

    check_parts(None, searching(*texts))
    with pytest.raises(InvalidEntity) as refusal:
        check_parts(None, searching("Text", *others))
    assert {violation.field: violation.detail for violation in refusal.value.violations} == {
        f"search.{n}": f"Must not be {path}, which is not text: its type is {type}."
        for n, (path, type) in enumerate(others.items(), 1)
    }
    check_parts(searching(*others), searching("Text", *reversed(others), label="s"))
    with pytest.raises(InvalidEntity):
        check_parts(searching("Text"), searching("Text", fields=[{"id": "Text", "type": "Number"}]))


def test_such_paths_of_an_earlier_definition_stay() -> None:
    """Also at another place. They are not searched, and other parts of the definition may not name them."""
    old = parse_definition(CLOSED | {"search": ["a", "zip"], "indexes": ["zip"]})
    assert (old.search_paths, old.index_paths) == (("a",), ("customer", "zip"))
    check_parts(old, parse_definition(CLOSED | {"search": ["zip"], "indexes": ["a", "zip"], "label": "s"}))
    for parts in ({"unique": ["zip"]}, {"search": ["zip", "zap"]}):
        with pytest.raises(InvalidEntity):
            check_parts(old, parse_definition(CLOSED | parts))
    fewer = CLOSED | {"fields": CLOSED["fields"][1:], "indexes": ["a"]}
    with pytest.raises(InvalidEntity):
        check_parts(parse_definition(CLOSED | {"indexes": ["a"]}), parse_definition(fewer))


def test_the_id_gets_no_index_but_that_of_every_store() -> None:
    definition = parse_definition({"name": "s", "unique": ["a", "_id"], "indexes": ["_id", "b"]})
    assert (definition.unique_paths, definition.index_paths) == (("a",), ("b",))
