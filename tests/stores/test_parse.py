"""Parsing of filters, sorts and projections."""

from __future__ import annotations

from typing import Any

import pytest

from stores import query
from stores.errors import InvalidQuery
from stores.parse import FilterLimits, parse_filter, parse_only, parse_path, parse_sort, scalar
from stores.query import And, Compare, Contains, ElemMatch, Equal, Exists, In, Not, Or, Size, Sort, StartsWith

A = ("a",)
ID = "5f0000000000000000000abc"


@pytest.mark.parametrize(
    ("document", "tree"),
    [
        ({}, query.EVERYTHING),
        ({"a": 1}, Equal(A, 1)),
        ({"a": {"$eq": 1}}, Equal(A, 1)),
        ({"a": None}, Equal(A, None)),
        ({"a": {"b": 1}}, Equal(A, {"b": 1})),
        ({"a": {}}, Equal(A, {})),
        ({"a": [1, 2]}, Equal(A, [1, 2])),
        ({"a.b.0": 1}, Equal(("a", "b", "0"), 1)),
        ({"a": {"$ne": 1}}, Not(Equal(A, 1))),
        ({"a": {"$gt": 1}}, Compare(A, "gt", 1)),
        ({"a": {"$gte": "x"}}, Compare(A, "gte", "x")),
        ({"a": {"$lt": None}}, Compare(A, "lt", None)),
        ({"a": {"$lte": True}}, Compare(A, "lte", True)),
        ({"a": {"$gt": 1, "$lt": 5}}, And((Compare(A, "gt", 1), Compare(A, "lt", 5)))),
        ({"a": {"$in": [1, None]}}, In(A, (1, None))),
        ({"a": {"$nin": []}}, Not(In(A, ()))),
        ({"a": {"$all": [1, 2]}}, And((Equal(A, 1), Equal(A, 2)))),
        ({"a": {"$all": []}}, query.NOTHING),
        ({"a": {"$exists": True}}, Exists(A)),
        ({"a": {"$exists": False}}, Not(Exists(A))),
        ({"a": {"$size": 0}}, Size(A, 0)),
        ({"a": {"$contains": "x"}}, Contains(A, "x")),
        ({"a": {"$startswith": ""}}, StartsWith(A, "")),
        ({"a": {"$not": {"$gt": 1}}}, Not(Compare(A, "gt", 1))),
        ({"a": {"$not": {"$not": {"$gt": 1}}}}, Not(Not(Compare(A, "gt", 1)))),
        ({"a": {"$elemMatch": {"$gt": 1}}}, ElemMatch(A, Compare((), "gt", 1), True)),
        ({"a": {"$elemMatch": {"b": 1}}}, ElemMatch(A, Equal(("b",), 1), False)),
        ({"a": {"$elemMatch": {"$or": [{"b": 1}]}}}, ElemMatch(A, Or((Equal(("b",), 1),)), False)),
        ({"$and": [{"a": 1}, {"b": 2}]}, And((Equal(A, 1), Equal(("b",), 2)))),
        ({"$or": [{"a": 1}, {}]}, Or((Equal(A, 1), query.EVERYTHING))),
        ({"$nor": [{"a": 1}]}, Not(Or((Equal(A, 1),)))),
        ({"a": 1, "b": 2}, And((Equal(A, 1), Equal(("b",), 2)))),
        ({"_id": ID.upper()}, Equal(("_id",), ID)),
        ({"_id": {"$in": [ID]}}, In(("_id",), (ID,))),
        ({"_id": None}, Equal(("_id",), None)),
        ({"a": {"$elemMatch": {"_id": "ABC"}}}, ElemMatch(A, Equal(("_id",), "ABC"), False)),
        ({"a": {"$elemMatch": {"_id": ID.upper()}}}, ElemMatch(A, Equal(("_id",), ID.upper()), False)),
        ({"a": {"$elemMatch": {"_id": {"$contains": "b"}}}}, ElemMatch(A, Contains(("_id",), "b"), False)),
        (
            {"a": {"$elemMatch": {"b": 1}}, "_id": ID.upper()},
            And((ElemMatch(A, Equal(("b",), 1), False), Equal(("_id",), ID))),
        ),
    ],
)
def test_a_document_becomes_its_tree(document: Any, tree: query.Filter) -> None:
    """Every operator has one meaning in the tree."""
    assert parse_filter(document) == tree


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "filter"),
        (None, "filter"),
        ("a", "filter"),
        ({"$where": "1"}, "$where"),
        ({"$expr": {}}, "$expr"),
        ({"$text": {}}, "$text"),
        ({"a": {"$regex": "x"}}, "$regex"),
        ({"a": {"$mod": [2, 0]}}, "$mod"),
        ({"a": {"$gt": 1, "b": 2}}, "b"),
        ({"a": {"b": {"$gt": 1}}}, "$gt"),
        ({"a": {"b": 1, "$gt": 1}}, "$gt"),
        ({"a": [{"$gt": 1}]}, "$gt"),
        ({"a": {"$in": [{"$gt": 1}]}}, "$gt"),
        ({"a": {"$in": 1}}, "$in"),
        ({"a": {"$nin": None}}, "$nin"),
        ({"a": {"$all": 1}}, "$all"),
        ({"a": {"$exists": 1}}, "$exists"),
        ({"a": {"$size": -1}}, "$size"),
        ({"a": {"$size": 1.0}}, "$size"),
        ({"a": {"$size": True}}, "$size"),
        ({"a": {"$size": 2**63}}, "$size"),
        ({"a": {"$not": {"$size": 10**20}}}, "$size"),
        ({"a": {"$contains": 1}}, "$contains"),
        ({"a": {"$startswith": None}}, "$startswith"),
        ({"a": {"$contains": "\0"}}, "$contains"),
        ({"a": {"$not": 1}}, "$not"),
        ({"a": {"$not": {}}}, "$not"),
        ({"a": {"$not": {"b": 1}}}, "$not"),
        ({"a": {"$elemMatch": 1}}, "$elemMatch"),
        ({"a": {"$elemMatch": {}}}, "$elemMatch"),
        ({"a": {"$elemMatch": {"$exists": True}}}, "$exists"),
        ({"a": {"$elemMatch": {"$all": [1]}}}, "$all"),
        ({"a": {"$elemMatch": {"$where": "1"}}}, "$where"),
        ({"a": {"$gt": []}}, "$gt"),
        ({"a": {"$lte": {"b": 1}}}, "$lte"),
        ({"a": 2**63}, "$eq"),
        ({"a": {"$in": [-(2**63) - 1]}}, "$in"),
        ({"$and": []}, "$and"),
        ({"$or": {}}, "$or"),
        ({"$nor": [1]}, "filter"),
        ({"": 1}, "filter"),
        ({"a..b": 1}, "a..b"),
        ({"a.$b": 1}, "a.$b"),
        ({"a\0": 1}, "a\0"),
        ({"_id": "x"}, "_id"),
        ({"_id": 5}, "_id"),
        ({"_id": {"$gt": ID[:-1]}}, "_id"),
        ({"_id": {"$contains": "5f"}}, "$contains"),
    ],
)
def test_a_mistake_is_named(document: Any, fault: str) -> None:
    """InvalidQuery names the operator or the path at fault."""
    with pytest.raises(InvalidQuery) as refusal:
        parse_filter(document)
    assert refusal.value.field == fault


@pytest.mark.parametrize("operator", ["$not", "$elemMatch", "$and"])
def test_nesting_is_bounded(operator: str) -> None:
    """A filter nested deeper than the limit is refused rather than followed."""
    document: Any = {"$gt": 1} if operator == "$not" else {"a": 1}
    for _ in range(30):
        document = {operator: [document]} if operator == "$and" else {operator: document}
        document = {"a": document} if operator == "$elemMatch" else document
    with pytest.raises(InvalidQuery):
        parse_filter({"a": document} if operator == "$not" else document)


def test_a_deeply_nested_operand_is_refused() -> None:
    """An operand nested deeper than the limit is refused."""
    operand: Any = 1
    for _ in range(200):
        operand = [operand]
    with pytest.raises(InvalidQuery, match="nested too deep"):
        parse_filter({"a": operand})


def test_the_number_of_conditions_is_bounded() -> None:
    """A filter of more conditions than allowed is refused."""
    with pytest.raises(InvalidQuery, match="more than 10 conditions"):
        parse_filter({"$or": [{"a": 1}] * 20}, limits=FilterLimits(nodes=10))


def test_the_number_of_list_items_is_bounded() -> None:
    """A list operand of more items than allowed is refused."""
    with pytest.raises(InvalidQuery, match="at most 3 values"):
        parse_filter({"a": {"$in": [1, 2, 3, 4]}}, limits=FilterLimits(items=3))


def test_a_condition_on_a_field_is_one_condition() -> None:
    """A field's name and its value or operator count once, so that the documented number of conditions fits."""
    parse_filter({f"f{n}": 1 for n in range(1_000)})
    parse_filter({f"f{n}": {"$gt": 1} for n in range(1_000)})
    with pytest.raises(InvalidQuery, match="more than 1000 conditions"):
        parse_filter({f"f{n}": 1 for n in range(1_001)})


@pytest.mark.parametrize(
    "document",
    [
        {"$or": [{"a": {"$in": list(range(10_000))}} for _ in range(11)]},
        {"a": {"$in": [list(range(100_000)), 1]}},
        {"a": {"$eq": {"b": list(range(50_000)), "c": list(range(50_000))}}},
    ],
)
def test_the_values_of_a_filter_are_bounded_together(document: Any) -> None:
    """The values of all lists and composite values are counted together."""
    with pytest.raises(InvalidQuery, match="more than 100000 values"):
        parse_filter(document)


@pytest.mark.parametrize("operator", ["$contains", "$startswith"])
def test_text_to_search_for_is_bounded(operator: str) -> None:
    """Two thousand characters are accepted; one more is refused with the operator's name."""
    parse_filter({"a": {operator: "x" * 2_000}})
    with pytest.raises(InvalidQuery, match=r"at most 2000 characters"):
        parse_filter({"a": {operator: "x" * 2_001}})


def test_paths_and_sorts_are_bounded_before_they_are_looked_at() -> None:
    """A path of very many segments and a sort by very many fields are refused."""
    with pytest.raises(InvalidQuery, match="more than 100 segments"):
        parse_path(".".join("a" * 101))
    with pytest.raises(InvalidQuery, match="at most 16 fields"):
        parse_sort(",".join(f"f{n}" for n in range(30_000)))
    with pytest.raises(InvalidQuery, match="at most 1000 paths"):
        parse_only(",".join(f"f{n}" for n in range(1_001)))
    assert len(parse_only(",".join(f"f{n}" for n in range(1_000)))) == 1_000


def refuse_secret(path: str) -> None:
    if path.split(".")[0] == "secret":
        raise InvalidQuery(path, "no such field")


@pytest.mark.parametrize(
    "document",
    [
        {"secret": 1},
        {"secret.x": {"$exists": True}},
        {"$or": [{"a": 1}, {"$nor": [{"secret": 1}]}]},
        {"secret": {"$elemMatch": {"a": 1}}},
    ],
)
def test_a_forbidden_path_is_refused_wherever_it_stands(document: Any) -> None:
    """The check is called for every path of the filter."""
    with pytest.raises(InvalidQuery, match="no such field"):
        parse_filter(document, refuse_secret)


def test_paths_inside_elemmatch_are_relative() -> None:
    """Inside $elemMatch names are those of the element's fields, so the check does not apply."""
    assert parse_filter({"a": {"$elemMatch": {"secret": 1}}}, refuse_secret) == ElemMatch(
        A, Equal(("secret",), 1), False
    )


def test_a_sort_ends_in_the_id() -> None:
    """The id breaks ties in the direction of the last field."""
    assert parse_sort("-price,name") == (Sort(("price",), True), Sort(("name",)), Sort(("_id",)))
    assert parse_sort("name,-price") == (Sort(("name",)), Sort(("price",), True), Sort(("_id",), True))
    assert parse_sort("-_id") == (Sort(("_id",), True),)


@pytest.mark.parametrize("text", ["", "a,", "-", "a,-a", "a.0", "a..b", "$a", ",".join(f"f{i}" for i in range(17))])
def test_a_bad_sort_is_refused(text: str) -> None:
    """Empty sorts, repeated fields, array indexes and too many fields are refused."""
    with pytest.raises(InvalidQuery):
        parse_sort(text)


def test_only_is_a_list_of_paths() -> None:
    """Commas separate paths, dots separate segments, and spaces around them are ignored."""
    assert parse_only("name, address.city") == (("name",), ("address", "city"))
    with pytest.raises(InvalidQuery):
        parse_only("name,")
    with pytest.raises(InvalidQuery, match="no such field"):
        parse_only("name,secret.x", refuse_secret)


def test_a_path_may_hold_odd_characters() -> None:
    """A name may contain everything but dots, NUL and a leading dollar sign."""
    assert parse_path("a b.\"c'.é😀.d$") == ("a b", "\"c'", "é😀", "d$")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ('"5"', "5"),
        ('""', ""),
        ('"', '"'),
        ("", ""),
        ("007", "007"),
        ("1e999", "1e999"),
        ("+5", "+5"),
        ("-", "-"),
        ("5 ", "5 "),
        ("True", "True"),
        ("NaN", "NaN"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("2026-01-01", "2026-01-01"),
    ],
)
def test_a_parameter_is_typed_by_its_looks(text: str, value: object) -> None:
    """Numbers, true, false and null have their JSON types; everything else, and all quoted text, is a string."""
    typed = scalar(text)
    assert typed == value
    assert type(typed) is type(value)
