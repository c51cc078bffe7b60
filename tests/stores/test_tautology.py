"""Filters that are true of every entity that may stand in a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stores.definitions import parse_definition
from stores.errors import InvalidQuery
from stores.matcher import compile_filter
from stores.parse import parse_filter
from stores.records import SYSTEM_FIELDS, Entity
from stores.tautology import is_tautology

ID, OTHER = "6b03c48bc153bcada89413a9", "6b03c48bc153bcada89413aa"
OPTIONS = [{"id": 1, "name": "open"}, {"id": "b", "name": "done"}]
DAY: dict[str, Any] = {"id": "day", "type": "Date"}
CITY: dict[str, Any] = {"id": "city", "type": "Text"}
FIELDS: list[dict[str, Any]] = [
    {"id": "n", "type": "Number"},
    {"id": "few", "type": "Number", "min": 1, "max": 3},
    {"id": "price", "type": "Numeric"},
    {"id": "serial", "type": "Serial"},
    {"id": "changed", "type": "Stamp"},
    DAY,
    {"id": "due", "type": "Date", "required": True},
    {"id": "at", "type": "DateTime"},
    {"id": "name", "type": "Text"},
    {"id": "title", "type": "Text", "required": True},
    {"id": "size", "type": "Text", "options": [{"id": "S", "name": "small"}, {"id": "L", "name": "large"}]},
    {"id": "mail", "type": "Email"},
    {"id": "phone", "type": "Phone"},
    {"id": "color", "type": "ColorSwatch"},
    {"id": "site", "type": "URL"},
    {"id": "zone", "type": "Timezone"},
    {"id": "done", "type": "Boolean"},
    {"id": "sure", "type": "Boolean", "required": True},
    {"id": "state", "type": "Select", "options": OPTIONS},
    {"id": "states", "type": "MultiSelect", "options": OPTIONS},
    {"id": "tags", "type": "Text", "many": True, "max_items": 2},
    {"id": "days", "type": "Date", "many": True, "required": True},
    {"id": "customer", "type": "Reference", "store": "users"},
    {"id": "customers", "type": "Reference", "store": "users", "many": True},
    {"id": "key", "type": "Reference", "store": "users", "by": "login"},
    {"id": "extra", "type": "JSON"},
    {"id": "place", "type": "Object", "fields": [CITY]},
    {"id": "kept", "type": "Object", "required": True, "fields": [CITY | {"required": True}]},
    {"id": "lines", "type": "Object", "many": True, "fields": [DAY, {"id": "no", "type": "Number", "required": True}]},
]
DEFINITION = parse_definition({"name": "s", "open": True, "fields": FIELDS, "unique": ["code"]})
EMPTY: Entity = {
    "_id": ID, "owner": ID, "group": None, "access": [], "branch": [], "time": 1, "_at": 1, "_rev": 1,
    "due": "2020-11-26", "title": "x", "sure": True, "days": [], "kept": {"city": "x"},
}  # fmt: skip

NEVER_MET: dict[str, list[Any]] = {
    "any": [{"$gt": None}, {"$lt": None}, {"$lt": ""}, {"$gt": True}, {"$elemMatch": {"$gt": None}}, {"$all": []}],
    "_id": [{"$gt": None}, {"$gte": None}, {"$size": 1}, {"$elemMatch": {"$eq": ID}}],
    "owner": [{"$size": 1}, {"$elemMatch": {"$eq": ID}}, {"$gt": 5}, {"$gt": "undefined"}, {"$contains": "undefined"}],
    "access": [None, {"$elemMatch": {"$eq": "undefined"}}, {"$eq": "undefined"}],
    "_rev": [{"$eq": 1.5}, {"$lt": 0}, {"$eq": -1}],
    "n": ["undefined", {"$gt": "undefined"}, {"$contains": "1"}, {"$size": 1}, 1.5, True],
    "few": [0, 4, {"$gt": 3}, {"$lt": 1}],
    "price": ["undefined", 0.0001],
    "day": ["undefined", "", "2020-02-30", {"$gt": "undefined"}, {"$contains": "undefined"}, 5],
    "due": [None, {"$exists": False}, {"$lte": None}],
    "title": ["", None],
    "at": ["undefined", "2020-11-26", {"$gt": "undefined"}],
    "name": [5, {"$gt": 5}, {"$size": 0}],
    "size": ["M", {"$contains": "undefined"}, {"$gt": "undefined"}],
    "mail": ["undefined", ""],
    "phone": ["undefined", {"$startswith": "undefined"}],
    "color": ["undefined"],
    "site": ["undefined", {"$gt": "undefined"}],
    "zone": ["undefined"],
    "done": ["undefined", 1],
    "state": [2, "undefined", {"$size": 1}],
    "states": [2, [2], {"$elemMatch": {"$eq": 2}}],
    "tags": [{"$size": 3}, 5],
    "customer": ["undefined", {"$gt": "undefined"}, {"$startswith": "undefined"}],
    "customers": ["undefined", {"$elemMatch": {"$eq": "undefined"}}],
    "code": [True, {"$size": 1}, {"a": 1}],
    "place.city": [5],
    "kept.city": ["", None, 5],
    "lines.day": ["undefined"],
    "lines": [{"$elemMatch": {"day": "undefined"}}, {"$elemMatch": {"no": None}}],
}
ALWAYS_MET: list[Any] = [
    {"_rev": {"$gte": 0}},
    {"time": {"$gte": 0}},
    {"due": {"$lt": "undefined"}},
    {"due": {"$exists": True}},
    {"kept.city": {"$ne": None}},
    {"sure": {"$in": [True, False]}},
    {"done": {"$in": [True, False, None]}},
    {"$or": [{"n": 1}, {"customer": {"$ne": "undefined"}}]},
]
CONDITIONS: list[Any] = [
    {"any": {"$not": {"$gte": None}}},
    {"any": {"$not": {"$gt": ""}}},
    {"owner": {"$ne": None}},
    {"owner": {"$not": {"$gt": "6b"}}},
    {"owner": {"$not": {"$contains": "6b"}}},
    {"access": {"$not": {"$size": 1}}},
    {"access": {"$ne": []}},
    {"access.0": {"$exists": True}},
    {"n": {"$ne": 1e17}},
    {"n": {"$ne": None}},
    {"state": {"$ne": 1.0}},
    {"states": {"$not": {"$elemMatch": {"$eq": "b"}}}},
    {"day": {"$lt": "undefined"}},
    {"customer": {"$ne": ID}},
    {"tags": {"$ne": ""}},
    {"name": {"$ne": ""}},
    {"days": {"$exists": True}, "days.0": {"$exists": True}},
    {"done": {"$in": [True, False]}},
    {"extra": {"$ne": "undefined"}},
    {"code": {"$ne": "undefined"}},
    {"_id": {"$ne": ID}},
]


@pytest.mark.parametrize(
    "document",
    [*ALWAYS_MET, *({"$nor": [{path: condition}]} for path, given in NEVER_MET.items() for condition in given)],
    ids=json.dumps,
)
def test_what_no_entity_may_fail_is_no_condition(document: Any) -> None:
    assert is_tautology(parsed(document), DEFINITION)


@pytest.mark.parametrize("document", CONDITIONS, ids=json.dumps)
def test_what_an_entity_may_fail_is_a_condition(document: Any) -> None:
    assert not is_tautology(parsed(document), DEFINITION)


def parsed(document: Any) -> Any:
    return parse_filter(document, check, field_at=DEFINITION.field_at)


def check(path: str) -> None:
    if end := DEFINITION.dead_end(path.split(".")):
        raise InvalidQuery(path, str(end))


OPERANDS: list[Any] = [
    None, "", "undefined", "NaN", "a", "b", "S", 0, 1, 2, 4, -1, 1.0, 1.5, 1e17, True, False, ID, "0" * 24, "f" * 24,
    "2020-11-26", "2020-11-26 06:00:00", "2020-11-26T06:00:00Z", "+15145550123", "Ann@example.com", "#333333",
    "https://example.com/", "America/Toronto", [], [1], ["a"], {}, {"city": "a"},
]  # fmt: skip
MORE: list[Any] = [
    3, "1", "L", "0001-01-01", "9999-12-31", "0001-01-01 00:00:00", "9999-12-31 23:59:59", -(2**63), 2**63 - 1, "x",
    999_999_999_999.999, -999_999_999_999.999, "+10000", "999999999999999", "#000000", "#ffffff", "http://a/",
    "HTTP://a/", "\U0010ffff", "Africa/Abidjan", "Zulu", 1.7976931348623157e308, OTHER,
    "2" * 24, "a" * 24, 10**17, "2a", ["a", 1], [{}] * 3,
    "https://6b2.undefined.com/", "2a@undefined.com", "undefined@a.com", "6b@example.com", "zed@example.com",
    "!a@example.com", "#22aa6b", [1, "b"], [{"no": 1}] * 2,
]  # fmt: skip
TOPS = [*SYSTEM_FIELDS, *(field["id"] for field in FIELDS), "free", "code"]
INSIDE = ["tags.0", "access.0", "extra.a", "free.a", "place.city", "kept.city", "lines.day", "lines.no", "lines.0.day"]
scalars = st.sampled_from([each for each in OPERANDS if not isinstance(each, list | dict)])
values = st.sampled_from(OPERANDS)
texts = st.sampled_from(["undefined", "", "a", "2", "6b"])
simple = st.one_of(
    st.builds(lambda v: {"$eq": v}, values),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), scalars),
    st.builds(lambda v: {"$in": v}, st.lists(values, max_size=3)),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$contains", "$startswith"]), texts),
    st.builds(lambda v: {"$size": v}, st.integers(0, 3)),
)
leaves = st.one_of(
    simple,
    simple,
    st.builds(lambda v: {"$exists": v}, st.booleans()),
    st.builds(lambda v: {"$all": v}, st.lists(values, max_size=1)),
    st.builds(lambda v: {"$elemMatch": v}, simple),
    st.builds(lambda v: {"$elemMatch": {"$not": v}}, simple),
    st.builds(lambda name, v: {"$elemMatch": {name: v}}, st.sampled_from(["day", "no", "a"]), simple),
)
conditions = st.builds(
    lambda path, leaf, negated: {path: {"$not": leaf} if negated else leaf},
    st.sampled_from([*TOPS, *INSIDE]),
    leaves,
    st.sampled_from([True, True, False]),
)
several = st.lists(conditions, min_size=2, max_size=2, unique_by=lambda each: top_of(next(iter(each))))
documents = conditions | st.builds(
    lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$or", "$nor"]), several
)


def top_of(path: str) -> str:
    return path.split(".", 1)[0]


def values_of(name: str) -> Iterator[Any]:
    """Yield values of a field, valid or not, with all operands in each place."""
    for value in [*OPERANDS, *MORE]:
        yield value
        yield [value]
        yield [value, "a"]
        yield [value, OTHER]
        yield [value] * 3
        yield {"city": value} if name in ("place", "kept") else {"a": value}
        yield {"a": [value] * 3}
        yield {"a": [value, "a"]}
        yield [{"no": 1, "day": value}]
        yield [{"no": 1, "a": value}] if name != "lines" else [{"no": 1}] * 3
        yield {"a": [{"day": value}]}
        yield {"a": [{"no": value}]}
        yield {"a": [{"a": [value] * 2}]}
        yield {"a": [{"a": [value] * 3}]}
        yield [{"a": [value] * 3}]
        yield [{"no": value}]
        yield [{"a": value}]


def is_system_value(name: str, value: Any) -> bool:
    def is_id(each: Any) -> bool:
        return isinstance(each, str) and len(each) == 24

    if name in ("access", "branch"):
        return isinstance(value, list) and all(map(is_id, value))
    if name in ("time", "_at", "_rev"):
        return type(value) is int and value >= 0
    return is_id(value) or (value is None and name in ("owner", "group"))


def possible_values(name: str) -> list[Entity]:
    """Return the fields of an entity by which it may differ from EMPTY: one value of this name, or none."""
    if name in SYSTEM_FIELDS:
        return [{name: value} for value in values_of(name) if is_system_value(name, value)]
    if name == "serial":
        return [*({name: value} for value in values_of(name) if type(value) is int), {}]
    if name == "changed":
        return [*({name: value} for value in values_of(name) if type(value) is int and 0 <= value < 2**53), {}]
    found = []
    for value in values_of(name):
        checked, violations = DEFINITION.check_new({**EMPTY, name: value})
        if not violations:
            found.append({name: checked[name]})
    return [*found, {}]


POSSIBLE = {name: possible_values(name) for name in TOPS}


def has_empty_text(document: Any) -> bool:
    return any(f'"{operator}": ""' in json.dumps(document) for operator in ("$contains", "$startswith"))


@pytest.mark.generated(0.15)
@given(document=documents)
def test_a_filter_is_a_condition_exactly_if_an_entity_fails_it(document: Any) -> None:
    """As the matcher judges entities with all sorts of values. An empty text is no condition, though numbers fail
    it."""
    assume(not has_empty_text(document))
    try:
        where = parsed(document)
    except InvalidQuery:
        assume(False)
    match = compile_filter(where)
    parts: Any = document if next(iter(document))[0] != "$" else next(iter(document.values()))
    names = [top_of(path) for part in (parts if isinstance(parts, list) else [parts]) for path in part]
    entities = (
        {**EMPTY, **{name: value for each in chosen for name, value in each.items()}}
        for chosen in product(*(POSSIBLE[name] for name in names))
    )
    failing = next((entity for entity in entities if not match(entity)), None)
    assert is_tautology(where, DEFINITION) == (failing is None), failing
