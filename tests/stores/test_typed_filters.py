"""Filters at typed paths: their values get the form in which such values are stored."""

from __future__ import annotations

from typing import Any

import pytest

from stores.definitions import parse_definition
from stores.errors import InvalidQuery
from stores.parse import MOST_COSTLY_VALUES, parse_filter
from stores.query import And, Compare, Contains, ElemMatch, Equal, Filter, In, Not

DEFINITION = parse_definition(
    {
        "name": "s",
        "open": True,
        "fields": [
            {"id": "mail", "type": "Email"},
            {"id": "phones", "type": "Phone", "many": True},
            {"id": "at", "type": "DateTime", "min": "2026-01-01 00:00:00"},
            {"id": "price", "type": "Numeric"},
            {"id": "name", "type": "Text"},
            {
                "id": "lines",
                "type": "Object",
                "many": True,
                "fields": [
                    {"id": "at", "type": "DateTime"},
                    {"id": "by", "type": "Object", "fields": [{"id": "mail", "type": "Email"}]},
                ],
            },
        ],
    }
)
UTC = "2026-11-26 05:00:00"
ISO = "2026-11-26T06:00:00.5+01:00"


def parsed(document: Any) -> Filter:
    return parse_filter(document, field_at=DEFINITION.field_at)


@pytest.mark.parametrize(
    ("document", "tree"),
    [
        ({"mail": "Ann@B.example"}, Equal(("mail",), "ann@b.example")),
        ({"mail": {"$ne": "Ann@B.example"}}, Not(Equal(("mail",), "ann@b.example"))),
        ({"mail": {"$in": ["A@b.example", "x", None]}}, In(("mail",), ("a@b.example", "x", None))),
        ({"mail": {"$nin": ["A@b.example"]}}, Not(In(("mail",), ("a@b.example",)))),
        ({"mail": {"$not": {"$eq": "A@b.example"}}}, Not(Equal(("mail",), "a@b.example"))),
        ({"mail": {"$contains": "Ann"}}, Contains(("mail",), "Ann")),
        ({"mail": 5}, Equal(("mail",), 5)),
        ({"mail": None}, Equal(("mail",), None)),
        ({"mail": ["A@b.example"]}, Equal(("mail",), ["A@b.example"])),
        (
            {"at": {"$gte": ISO, "$lt": "2026-11-27"}},
            And((Compare(("at",), "gte", UTC), Compare(("at",), "lt", "2026-11-27"))),
        ),
        ({"at": {"$gt": "2020-01-01T00:00Z"}}, Compare(("at",), "gt", "2020-01-01 00:00:00")),
        ({"at": {"$gte": "2026-11-26T06:00:00.5"}}, Compare(("at",), "gte", "2026-11-26 06:00:00")),
        ({"at": {"$gt": "2026-11-26 06:00"}}, Compare(("at",), "gt", "2026-11-26 06:00:00")),
        ({"at": {"$in": ["2026-11-26T06:00", "2026-13-26T06:00"]}},
         In(("at",), ("2026-11-26 06:00:00", "2026-13-26T06:00"))),
        ({"lines": {"at": "2026-11-26T06:00"}}, Equal(("lines",), {"at": "2026-11-26 06:00:00"})),
        ({"price": {"$gte": "1250.3305", "$lt": "9999999999999"}},
         And((Compare(("price",), "gte", 1250.3305), Compare(("price",), "lt", 9_999_999_999_999)))),
        ({"price": "1250.330"}, Equal(("price",), 1250.33)),
        ({"price": {"$lte": "cheap"}}, Compare(("price",), "lte", "cheap")),
        ({"name": ISO}, Equal(("name",), ISO)),
        ({"other": ISO}, Equal(("other",), ISO)),
        ({"mail.at": ISO}, Equal(("mail", "at"), ISO)),
        ({"phones": "001 514 555-0123"}, Equal(("phones",), "+15145550123")),
        ({"phones.0": "001 514 555-0123"}, Equal(("phones", "0"), "+15145550123")),
        ({"phones": ["123/45"]}, Equal(("phones",), ["12345"])),
        ({"phones": {"$all": ["123/45"]}}, And((Equal(("phones",), "12345"),))),
        ({"phones": {"$elemMatch": {"$eq": "123/45"}}}, ElemMatch(("phones",), Equal((), "12345"), True)),
        ({"lines.at": ISO}, Equal(("lines", "at"), UTC)),
        ({"lines.3.at": ISO}, Equal(("lines", "3", "at"), UTC)),
        ({"lines.by.mail": "A@b.example"}, Equal(("lines", "by", "mail"), "a@b.example")),
        ({"lines": {"$elemMatch": {"at": ISO}}}, ElemMatch(("lines",), Equal(("at",), UTC), False)),
        (
            {"lines": {"$elemMatch": {"by.mail": "A@b.example", "mail": "A@b.example"}}, "mail": "A@b.example"},
            And((
                ElemMatch(
                    ("lines",), And((Equal(("by", "mail"), "a@b.example"), Equal(("mail",), "A@b.example"))), False
                ),
                Equal(("mail",), "a@b.example"),
            )),
        ),
        ({"lines": {"at": ISO, "x": ISO}}, Equal(("lines",), {"at": UTC, "x": ISO})),
        ({"lines": [{"at": ISO}]}, Equal(("lines",), [{"at": UTC}])),
    ],
)  # fmt: skip
def test_values_get_the_form_of_their_type(document: Any, tree: Filter) -> None:
    assert parsed(document) == tree


@pytest.mark.parametrize(
    ("path", "type"),
    [
        ("mail", "Email"), ("lines", "Object"), ("lines.7", "Object"), ("lines.7.by", "Object"),
        ("lines.by.mail", "Email"),
        ("phones.0", "Phone"), ("mail.0", None), ("other", None), ("lines.other", None), ("name.x", None), ("", None),
    ],
)  # fmt: skip
def test_a_path_leads_to_its_field(path: str, type: str | None) -> None:
    found = DEFINITION.field_at(tuple(path.split(".")))
    assert (found and found.type) == type


def test_addresses_that_take_long_are_bounded() -> None:
    """Those in ASCII are not."""
    many = [f"a{n}@müller.example" for n in range(MOST_COSTLY_VALUES + 1)]
    with pytest.raises(InvalidQuery) as refusal:
        parsed({"$or": [{"mail": {"$in": many[1:]}}, {"lines.by.mail": many[0]}]})
    assert refusal.value.limit_name == "MOST_COSTLY_VALUES"
    plain = parsed({"mail": {"$in": [f"A{n}@b.example" for n in range(5_000)]}})
    assert isinstance(plain, In)
    assert plain.values[-1] == "a4999@b.example"
