"""Stored values as values of another field type: canonical, and refused where something would be lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.field import Field
from stores.fields import FIELD_TYPES, Rejected
from stores.fields.conversion import converter_of
from stores.records import same

OPTIONS = ((1, "one"), ("two", "Two"), (3, "three"))
SETTINGS: dict[str, dict[str, Any]] = {
    **{type: {"options": OPTIONS} for type in ("Checkbox", "MultiSelect", "Radio", "Select")},
    "Object": {"fields": (Field("n", "Number"), Field("at", "DateTime"))},
    "Reference": {"store": "customers"},
}
ID = "6b03c48bc153bcada89413a9"
VALUES: list[Any] = [
    *(each.example for each in FIELD_TYPES.values()),
    *(True, False, 0, 1, -1, 42, 1.5, 12.0, 2**53 + 1, 10**20, 999_999_999_999.999, 1e300),
    *("", "  ", "12.5", " 12 ", "007", "-0", "1e3", "true", "False", "null", '"5"', "two", "1", "[1]", '{"n":"1"}'),
    *("2020-11-26", "2020-11-26 00:00:00", "2020-11-26T07:00:00.5+01:00", "2020-11-26T00:00:00Z", "2021-02-30"),
    *("Ann@Example.COM", " ann@example.com ", "(514) 555-0123", "0015145550123", "#AABBCC", " https://example.com/ "),
    *([], [1], ["1"], [1, "two"], ["a", "b"], [None], [[1]], {"n": "7"}, {"n": "x"}, {"other": 1}, [{"n": 1.0}], ID),
]
values = st.one_of(
    st.sampled_from(VALUES),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.from_regex(r"\s?-?[0-9]{0,14}(\.[0-9]{0,5})?\s?", fullmatch=True),
    st.datetimes().map(lambda at: at.isoformat(sep=" ")),
    st.lists(st.sampled_from(VALUES), max_size=3),
)


def field(type: str, **settings: Any) -> Field:
    return Field("f", type, **{**SETTINGS.get(type, {}), **settings})


@st.composite
def fields(draw: st.DrawFn) -> Field:
    kind = draw(st.sampled_from([*FIELD_TYPES.values()]))
    many = "many" in kind.takes and draw(st.booleans())
    bounds = draw(st.sampled_from([{}, {"length": 5}])) if "length" in kind.takes else {}
    return field(kind.name, many=many, distinct=many and draw(st.booleans()), **bounds)


@given(fields(), values)
def test_a_converted_value_is_canonical(new: Field, value: Any) -> None:
    """The type accepts it as it is, and another conversion leaves it."""
    convert = converter_of(new)
    try:
        made = convert(value)
    except Rejected:
        return
    if made is not None:
        assert same(new.checker(made), made)
        assert same(convert(made), made)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("old", FIELD_TYPES)
def test_the_values_of_each_type_as_those_of_each_other(old: str, many: bool) -> None:
    """Whatever converts is canonical; at least a text takes every single value, and JSON everything."""
    example = FIELD_TYPES[old].example
    convertible: set[str] = set()
    for kind in FIELD_TYPES.values():
        new = field(kind.name, many=many and "many" in kind.takes)
        try:
            made = converter_of(new)(example)
        except Rejected:
            continue
        convertible.add(kind.name)
        assert same(new.check(made, "f"), made)
        assert same(converter_of(new)(made), made)
    assert "JSON" in convertible
    is_single = not isinstance(example, list | dict)
    assert ("Textarea" in convertible) is (is_single or (many and isinstance(example, list)))


@given(fields(), values)
def test_a_value_that_the_type_accepts_is_its_canonical_form(new: Field, value: Any) -> None:
    try:
        accepted = new.checker(value)
    except Rejected:
        return
    assert same(converter_of(new)(value), accepted)


CONVERTED: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("Numeric", {}, "12.5", 12.5),
    ("Numeric", {}, " 1250.330 ", 1250.33),
    ("Numeric", {}, 3, 3),
    ("Number", {}, "12", 12),
    ("Number", {}, 12.0, 12),
    ("Number", {}, "12.0", 12),
    ("Number", {}, True, 1),
    ("Number", {}, "", None),
    ("Text", {}, 42, "42"),
    ("Text", {}, 1250.33, "1250.33"),
    ("Text", {}, True, "true"),
    ("Text", {}, "", ""),
    ("Text", {}, " a ", " a "),
    ("Textarea", {}, 1.5e10, "15000000000"),
    ("Boolean", {}, "TRUE", True),
    ("Boolean", {}, 0, False),
    ("DateTime", {}, "2020-11-26T07:00:00.5+01:00", "2020-11-26 06:00:00"),
    ("DateTime", {}, "2020-11-26", "2020-11-26 00:00:00"),
    ("Date", {}, "2020-11-26 00:00:00", "2020-11-26"),
    ("Date", {}, "2020-11-26T01:00:00+01:00", "2020-11-26"),
    ("Email", {}, " Ann@Example.COM ", "ann@example.com"),
    ("Phone", {}, "00 1 (514) 555-0123", "+15145550123"),
    ("Phone", {}, 5145550123, "5145550123"),
    ("URL", {}, " https://example.com/ ", "https://example.com/"),
    ("Select", {}, "1", 1),
    ("Select", {}, "two", "two"),
    ("Select", {}, 1, 1),
    ("MultiSelect", {}, "1", [1]),
    ("MultiSelect", {}, ["1", "two"], [1, "two"]),
    ("Serial", {}, "7", 7),
    ("Stamp", {}, "1764547200000000", 1764547200000000),
    ("JSON", {}, {"any": 1}, {"any": 1}),
    ("Text", {"many": True}, "a", ["a"]),
    ("Text", {"many": True}, [1, "a"], ["1", "a"]),
    ("Number", {"many": True}, "", []),
    ("Number", {}, ["5"], 5),
    ("Number", {}, [], None),
    ("Object", {}, {"n": "7", "at": "2020-11-26"}, {"n": 7, "at": "2020-11-26 00:00:00"}),
    ("Object", {"many": True}, {"n": "7"}, [{"n": 7}]),
    ("Reference", {}, ID, ID),
]


@pytest.mark.parametrize(("type", "settings", "value", "expected"), CONVERTED, ids=lambda value: str(value)[:30])
def test_values_are_read_as_the_new_type(type: str, settings: dict[str, Any], value: Any, expected: Any) -> None:
    made = converter_of(field(type, **settings))(value)
    assert same(made, expected)
    assert isinstance(made, bool) is isinstance(expected, bool)


LOST: list[tuple[str, dict[str, Any], Any]] = [
    ("Number", {}, "12.5"),
    ("Number", {}, "007"),
    ("Number", {}, "many"),
    ("Number", {}, 1.5),
    ("Number", {}, [1, 2]),
    ("Numeric", {}, "1.0001"),
    ("Numeric", {}, "1,5"),
    ("Boolean", {}, 2),
    ("Boolean", {}, "yes"),
    ("Text", {}, {"a": 1}),
    ("Text", {}, ["a", "b"]),
    ("Text", {"length": 3}, "abcd"),
    ("Date", {}, "2020-11-26 06:00:00"),
    ("DateTime", {}, "2021-02-30"),
    ("Email", {}, "Ann"),
    ("Select", {}, "four"),
    ("Select", {}, True),
    ("Number", {"options": ((1, "one"),)}, "2"),
    ("Number", {"max": 5}, "6"),
    ("Text", {"many": True, "distinct": True}, ["1", 1]),
    ("Object", {}, {"n": "x"}),
    ("Object", {}, {"other": 1}),
    ("Object", {}, "{}"),
]


@pytest.mark.parametrize(("type", "settings", "value"), LOST, ids=lambda value: str(value)[:30])
def test_a_value_that_the_type_cannot_hold_is_rejected(type: str, settings: dict[str, Any], value: Any) -> None:
    with pytest.raises(Rejected):
        converter_of(field(type, **settings))(value)
