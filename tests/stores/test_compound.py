"""Compound indexes of definitions: how they are written, refused, and matched with queries."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stores.compound import ArrayCheck, CompoundIndex, condition_document, implies, named_by, ordered, sought
from stores.compound import stored_index as stored
from stores.definitions import MAX_INDEXES, parse_definition
from stores.errors import InvalidEntity, ParallelArrays
from stores.parse import parse_filter, parse_sort
from stores.paths import parallel_arrays
from stores.query import EVERYTHING, Sort
from stores.records import Entity
from stores.schema import StoreDefinition


def defined(*indexes: Any, **more: Any) -> StoreDefinition:
    return parse_definition({"name": "x", "indexes": [*indexes], **more})


def index_of(*fields: str, unique: bool = False, where: Entity | None = None) -> CompoundIndex:
    [index] = defined({"fields": [*fields], "unique": unique, "where": where}).compounds
    return index


def test_the_three_ways_to_write_an_index() -> None:
    """A path, a list of paths with directions, and an object."""
    unique = {"fields": ["number"], "unique": True, "where": {"state": "open"}}
    definition = defined("address.city", ["status", "-price"], unique)
    assert definition.indexes == ("address.city",)
    by_status, number = definition.compounds
    assert by_status.sorts == (Sort(("status",)), Sort(("price",), True))
    assert (number.paths, number.unique) == (("number",), True)
    assert condition_document(number.where) == {"$and": [{"state": {"$eq": "open"}}]}


def test_an_index_of_one_path_is_that_of_the_path() -> None:
    definition = defined(["a"], ["-b"], {"fields": ["c"]}, {"fields": ["d"], "unique": True}, ["_id"], unique=["e"])
    assert definition.compounds == ()
    assert definition.indexes == ("a", "b", "c")
    assert definition.unique == ("e", "d")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["-a", "b"], ["a", "-b"]),
        ({"fields": ["a"], "where": {"b": 1, "c": 2}}, {"fields": ["-a"], "where": {"c": 2.0, "b": 1}}),
        ({"fields": ["a"], "where": {"b": {"$in": [1, 1.0]}}}, {"fields": ["a"], "where": {"b": 1}}),
        (
            {"fields": ["a"], "where": {"b": {"$in": ["x", "y"]}}},
            {"fields": ["a"], "where": {"b": {"$in": ["y", "x"]}}},
        ),
        ({"fields": ["a", "b"], "unique": False, "where": {}}, ["a", "b"]),
    ],
)
def test_the_same_index_written_twice_is_one(one: Any, other: Any) -> None:
    """Two definitions of the same index are equal, whatever the order of its conditions."""
    assert defined(one) == defined(other)
    assert len(defined(one, other).compounds) == 1


CANONICAL: list[tuple[Entity, Any, Any]] = [
    ({"type": "Email"}, "Ann@Example.com", "ann@example.com"),
    ({"type": "Phone"}, "001 514 555 0123", "+15145550123"),
    ({"type": "Numeric"}, "1.50", 1.5),
    ({"type": "DateTime"}, "2026-11-27T07:00:00+01:00", "2026-11-27 06:00:00"),
    ({"type": "DateTime"}, {"$gte": "2026-11-27T06:00:00Z"}, {"$gte": "2026-11-27 06:00:00"}),
    ({"type": "Email", "many": True}, {"$in": ["Ann@Example.com", "x"]}, {"$in": ["ann@example.com", "x"]}),
]


@pytest.mark.parametrize("path", ["a", "o.a"])
@pytest.mark.parametrize(("field", "written", "stored_as"), CANONICAL)
def test_a_condition_has_values_as_they_are_stored(field: Entity, written: Any, stored_as: Any, path: str) -> None:
    """An index of the entities that have another form of a value would hold none."""
    fields = [field | {"id": "a"}, {"id": "o", "type": "Object", "fields": [field | {"id": "a"}]}]
    one, other = (
        defined({"fields": ["n"], "unique": True, "where": {path: value}}, fields=fields)
        for value in (written, stored_as)
    )
    assert one.compounds == other.compounds
    untyped = defined({"fields": ["n"], "unique": True, "where": {path: written}})
    assert one.compounds != untyped.compounds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["a", "-b"]),
        (["a", "b"], ["b", "a"]),
        (["a,b", "c"], ["a", "b,c"]),
        ({"fields": ["a"], "where": {"b": 1}}, {"fields": ["a"], "where": {"b": True}}),
        ({"fields": ["a", "b"], "unique": True}, {"fields": ["a", "b"]}),
        ({"fields": ["a", "b"], "where": {"c": None}}, ["a", "b"]),
    ],
)
def test_different_indexes_are_told_apart(one: Any, other: Any) -> None:
    assert defined(one) != defined(other)
    assert len(defined(one, other).compounds) == 2


REFUSED: list[tuple[Any, str]] = [
    (5, "indexes.0"),
    (None, "indexes.0"),
    ([], "indexes.0"),
    ([*"abcdefghi"], "indexes.0"),
    (["a", 5], "indexes.0.1"),
    (["a", ""], "indexes.0.1"),
    (["a", "-"], "indexes.0.1"),
    (["a", "b.0"], "indexes.0.1"),
    (["a", "$b"], "indexes.0.1"),
    (["a", "-a"], "indexes.0.1"),
    (["a", "access"], "indexes.0.1"),
    (["branch", "a"], "indexes.0.0"),
    ({}, "indexes.0.fields"),
    ({"fields": "a"}, "indexes.0.fields"),
    ({"fields": []}, "indexes.0.fields"),
    ({"fields": [1]}, "indexes.0.fields.0"),
    ({"fields": ["a", "b"], "unique": "yes"}, "indexes.0.unique"),
    ({"fields": ["a"], "sparse": True}, "indexes.0.sparse"),
    ({"fields": ["a", "_id"], "unique": True}, "indexes.0.fields.1"),
    ({"fields": ["a", "flag"], "unique": True}, "indexes.0.fields.1"),
    ({"fields": ["a"], "where": 5}, "indexes.0.where"),
    ({"fields": ["a"], "where": []}, "indexes.0.where"),
    ({"fields": ["a"], "where": {"b": [1]}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"c": 1}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$ne": 1}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$in": []}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$in": [{}]}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$exists": False}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$gt": None}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$gt": True}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$contains": "x"}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$size": 1}}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"$or": [{"b": 1}, {"c": 1}]}}, "indexes.0.where.b"),
    ({"fields": ["a"], "where": {"b": {"$regex": "x"}}}, "indexes.0.where.$regex"),
    ({"fields": ["a"], "where": {"b.0": 1}}, "indexes.0.where.b.0"),
    ({"fields": ["a"], "where": {"_rev": 1}}, "indexes.0.where._rev"),
    ({"fields": ["a"], "where": {"_id": "5f00000000000000000000a1"}}, "indexes.0.where._id"),
    ({"fields": ["a"], "where": {f"f{n}": n for n in range(17)}}, "indexes.0.where"),
    ({"fields": ["a"], "where": {"b": {"$in": [*range(101)]}}}, "indexes.0.where.$in"),
]


@pytest.mark.parametrize(("index", "place"), REFUSED, ids=[str(index)[:60] for index, _ in REFUSED])
def test_a_wrong_index_is_refused_by_its_place(index: Any, place: str) -> None:
    fields = [{"id": "a", "type": "Text"}, {"id": "flag", "type": "Boolean"}]
    with pytest.raises(InvalidEntity) as refusal:
        defined(index, fields=fields, open=True)
    assert [violation.field for violation in refusal.value.violations] == [place]


def test_compound_indexes_count_as_indexes() -> None:
    """As many as the bound are accepted, and one more is refused."""
    indexes = [[f"a{n}", "b"] for n in range(MAX_INDEXES - 2)]
    assert len(defined("c", *indexes, unique=["d"]).compounds) == MAX_INDEXES - 2
    with pytest.raises(InvalidEntity) as refusal:
        defined("c", "e", *indexes, unique=["d"])
    assert refusal.value.violations[0].field == "indexes"


def test_a_unique_index_takes_scalars_only() -> None:
    """Its paths are checked like unique ones; those of other indexes take anything."""
    definition = defined({"fields": ["a", "b.c"], "unique": True}, ["d", "e"])
    assert definition.scalar_paths == ("a", "b.c")
    _, violations = definition.check_values({"a": [1], "b": {"c": True}, "d": [1], "e": {}})
    assert [(v.field, v.rule) for v in violations] == [("a", "not_scalar"), ("b.c", "not_scalar")]
    assert definition.check_values({"a": None, "b": 5})[1] == []


@pytest.mark.parametrize(
    "index",
    [
        index_of("a", "-b.c"),
        index_of('it\'s "odd" é😀]!?', "b", unique=True),
        index_of("a", where={"b": None, "c": {"$in": ["x", True, 1.5]}, "d": {"$exists": True}, "e": {"$lt": "z"}}),
    ],
)
def test_an_index_can_be_stored(index: CompoundIndex) -> None:
    """The name and the condition give the same index again."""
    again = stored(index.name, orjson.dumps(condition_document(index.where)).decode())
    assert again == index
    assert (again.sorts, again.unique, again.where) == (index.sorts, index.unique, index.where)


@pytest.mark.parametrize(
    ("filter", "condition", "expected"),
    [
        ({"s": "open"}, {"s": "open"}, True),
        ({"s": "open", "n": 5}, {"s": "open"}, True),
        ({"n": 5}, {"s": "open"}, False),
        ({"s": "done"}, {"s": "open"}, False),
        ({"s": {"$in": ["open"]}}, {"s": "open"}, True),
        ({"s": {"$in": ["open", "done"]}}, {"s": "open"}, False),
        ({"s": "open"}, {"s": {"$in": ["open", "held"]}}, True),
        ({"s": 1}, {"s": True}, False),
        ({"s": 1.0}, {"s": 1}, True),
        ({"s": None}, {"s": None}, True),
        ({"s": {"$exists": False}}, {"s": None}, False),
        ({"n": 5}, {"n": {"$gte": 5}}, True),
        ({"n": 5}, {"n": {"$gt": 5}}, False),
        ({"n": {"$gt": 5}}, {"n": {"$gte": 5}}, True),
        ({"n": {"$gte": 5}}, {"n": {"$gt": 5}}, False),
        ({"n": {"$gt": 6}}, {"n": {"$gt": 5}}, True),
        ({"n": {"$lt": 4}}, {"n": {"$lte": 5}}, True),
        ({"n": {"$lt": 6}}, {"n": {"$lte": 5}}, False),
        ({"n": {"$gt": 5}}, {"n": {"$lt": 9}}, False),
        ({"n": {"$gt": "5"}}, {"n": {"$gt": 5}}, False),
        ({"n": {"$gt": 5}}, {"n": {"$exists": True}}, True),
        ({"n": 5}, {"n": {"$exists": True}}, True),
        ({"n": None}, {"n": {"$exists": True}}, False),
        ({"n": [5]}, {"n": 5}, False),
        ({"$or": [{"s": "open"}]}, {"s": "open"}, False),
        ({"$and": [{"$and": [{"s": "open"}]}]}, {"s": "open"}, True),
        ({"s": {"$ne": "open"}}, {"s": "open"}, False),
    ],
)
def test_which_filters_an_index_of_a_part_may_serve(filter: Entity, condition: Entity, expected: bool) -> None:
    """Only filters that no entity outside of the part meets."""
    assert implies(parse_filter(filter), index_of("a", where=condition).where) is expected


@pytest.mark.parametrize(
    ("filter", "sort", "count"),
    [
        ({"a": 1}, "b", 2),
        ({"a": 1}, "-b", 2),
        ({"a": 1}, "a,-b", 3),
        ({}, "a,-b", 3),
        ({}, "-a,b", 3),
        ({}, "a,b", 1),
        ({}, "b", 0),
        ({"a": {"$gt": 1}}, "b", 0),
        ({"a": 1}, "c", 0),
        ({"b": 1}, "a", 1),  # `_id` has the direction of the last path
        ({"a": [1]}, "b", 0),
    ],
)
def test_in_whose_order_an_index_is(filter: Entity, sort: str, count: int) -> None:
    assert ordered(index_of("a", "-b"), parse_filter(filter), parse_sort(sort)) == count


def test_how_many_paths_a_filter_bounds() -> None:
    index = index_of("a", "b", "c")
    for filter, count in (({}, 0), ({"b": 1}, 0), ({"a": 1}, 1), ({"a": {"$gt": 1}, "b": 1}, 1), ({"a": 1, "b": 2}, 2)):
        assert sought(index, parse_filter(filter)) == count
    assert sought(index, parse_filter({"a": 1, "b": {"$in": [1, 2]}, "c": 5})) == 2


@pytest.mark.parametrize(
    ("entity", "found"),
    [
        ({}, None),
        ({"a": [1], "b": 2}, None),
        ({"a": [1], "b": [2]}, ("b", "a")),
        ({"a": [], "b": []}, ("b", "a")),
        ({"a": [{"x": 1}], "b": {"y": [1]}}, None),
        ({"a": 1, "b": [2], "c": {"d": [1]}}, ("c.d", "b")),
        ({"l": [{"p": 1, "q": 2}, {"p": 3}]}, None),
        ({"l": [{"p": 1}, {"p": [1], "q": [2]}]}, ("l.q", "l.p")),
        ({"l": [{"p": [1], "q": 2}, {"p": 1, "q": [2]}]}, None),
        ({"l": [[{"p": [1], "q": [1]}]]}, None),
    ],
)
def test_an_index_holds_one_list(entity: Entity, found: tuple[str, str] | None) -> None:
    """Two paths into different lists are found, the later one first; two into the same list are none."""
    index = index_of("a", "b", "c.d", "l.p", "l.q")
    check = ArrayCheck([index])
    assert check.refuses(entity) is (found is not None)
    if found is None:
        return
    with pytest.raises(ParallelArrays) as refusal:
        check.check(entity)
    assert (refusal.value.later, refusal.value.earlier) == found
    segments = [tuple(path.split(".")) for path in index.paths]
    assert parallel_arrays(entity, segments) == tuple(tuple(path.split(".")) for path in found)
    assert named_by([index], *(path.split(".")[-1] for path in found)) == found


def test_an_index_of_a_part_takes_any_lists_elsewhere() -> None:
    check = ArrayCheck([index_of("a", "b", where={"s": "open"})])
    assert not check.refuses({"a": [1], "b": [1]})
    assert check.refuses({"a": [1], "b": [1], "s": ["x", "open"]})
    assert index_of("a", "b").where == EVERYTHING
