"""Every operator on both engines, with and without an index, finds the same entities as the reference."""

from __future__ import annotations

from typing import Any

import pytest

from stores import query
from stores.matcher import matches
from stores.parse import parse_filter
from stores.protocol import Engine
from stores.query import ContainsFolded, Equal, Filter, In, Or, Query
from stores.schema import StoreDefinition
from tests.support.entities import GROUP, OTHER_USER, USER, entity, insert
from tests.support.reading import find

NUMBERS: list[Any] = [0, 1, 1.0, -1, 2.5, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1]
PLAIN: list[Any] = [None, *NUMBERS, "", "a", "ab", "B", "é", "1", "😀", "%", "a.b"]
MIXED: list[Any] = [
    *PLAIN,
    True,
    False,
    {},
    {"c": 1},
    {"c": None},
    {"c": [1, 2]},
    {"0": 1},
    {"c": 1, "d": 2},
    {"d": 2, "c": 1},
    [],
    [None],
    [1],
    [1, 2],
    [2, 1],
    ["a", "B"],
    [[1, 2]],
    [[]],
    [{"c": 1}],
    [{"c": 1}, {"c": 2}],
    [{"c": 1, "d": 2}, 5],
    [{"d": 2}],
    [{}],
    [[{"c": 1}]],
    [True],
    [{"c": [1, 2]}],
    [5, {"0": 6}],
]

OPERATORS: list[dict[str, Any]] = [
    *({"$eq": v} for v in [None, 0, 1, 1.0, True, "a", "", [], [1, 2], {}, {"c": 1}, {"c": 1, "d": 2}, 2**53 + 1, "1"]),
    *({"$ne": v} for v in [None, 1, True, "a", [1]]),
    *({op: v} for op in ("$gt", "$gte", "$lt", "$lte") for v in [None, *NUMBERS, "", "a", "é", True, False]),
    {"$in": []},
    {"$in": [1, "a", None]},
    {"$in": [True, [1, 2], {"c": 1}]},
    {"$nin": [1, "a"]},
    {"$nin": [None]},
    {"$nin": []},
    {"$all": [1]},
    {"$all": [1, 2]},
    {"$all": []},
    {"$all": [None]},
    {"$all": [[1, 2]]},
    {"$exists": True},
    {"$exists": False},
    {"$size": 0},
    {"$size": 1},
    {"$size": 2},
    {"$contains": ""},
    {"$contains": "a"},
    {"$contains": "%"},
    {"$contains": "."},
    {"$startswith": ""},
    {"$startswith": "a"},
    {"$startswith": "😀"},
    {"$elemMatch": {"$gt": 0, "$lt": 2}},
    {"$elemMatch": {"$eq": None}},
    {"$elemMatch": {"$ne": 1}},
    {"$elemMatch": {"$in": [1, "B"]}},
    {"$elemMatch": {"$size": 2}},
    {"$elemMatch": {"$contains": "B"}},
    {"$elemMatch": {"$not": {"$gt": 1}}},
    {"$elemMatch": {"$elemMatch": {"$eq": 1}}},
    {"$elemMatch": {"c": 1}},
    {"$elemMatch": {"c": 1, "d": 2}},
    {"$elemMatch": {"c": {"$gt": 1}}},
    {"$elemMatch": {"c": None}},
    {"$elemMatch": {"d": {"$exists": False}}},
    {"$elemMatch": {"0": 1}},
    {"$elemMatch": {"$or": [{"c": 2}, {"d": 2}]}},
    {"$elemMatch": {"$nor": [{"c": 1}]}},
    {"$not": {"$gt": 0}},
    {"$not": {"$eq": None}},
    {"$not": {"$elemMatch": {"$gt": 1}}},
    {"$not": {"$not": {"$exists": True}}},
    {"$gt": 0, "$lt": 2},
    {"$gte": "a", "$lte": "b"},
    {"$ne": None, "$exists": True},
]
PATHS = ["v", "v.c", "v.0", "v.0.c", "v.c.0", "v.c.d"]

TREES: list[Filter] = [
    *(parse_filter({path: operator}) for path in PATHS for operator in OPERATORS),
    *(ContainsFolded(("v",), text) for text in ("", "A", "b", "É", "%", ".")),
    *(
        parse_filter(document)
        for document in [
            {},
            {"$or": [{"v": 1}, {"v": "a"}]},
            {"$nor": [{"v": 1}, {"v": {"$exists": False}}]},
            {"$and": [{"v": {"$gt": 0}}, {"$or": [{"v": 1}, {"v.c": 1}]}]},
            {"$or": [{}, {"v": 1}]},
            {"v": {"$gt": 0}, "n": {"$lt": 5}},
            {"$nor": [{"$nor": [{"v": 1}]}]},
        ]
    ),
    query.NOTHING,
    query.Not(query.NOTHING),
    query.Not(query.EVERYTHING),
]


@pytest.mark.parametrize("values", [PLAIN, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("indexes", [(), ("v", "v.c", "v.c.d")], ids=["scan", "index"])
async def test_every_operator_finds_what_the_reference_finds(
    engine: Engine, indexes: tuple[str, ...], values: list[Any]
) -> None:
    """Each operator is tested with each kind of value at each kind of path."""
    await engine.define(StoreDefinition("probes", indexes=indexes))
    rows = [entity(n=n, time=n, v=value) for n, value in enumerate(values)] + [entity(n=99, time=99)]
    await insert(engine, *rows, store="probes")
    wrong = []
    for tree in TREES:
        expected = [e["n"] for e in rows if matches(tree, e)]
        found = [e["n"] for e in await find(engine, Query(tree), store="probes")]
        if found != expected:
            wrong.append((tree, "expected", expected, "got", found))
    assert not wrong


async def test_the_visibility_predicate_is_a_filter_like_any_other(engine: Engine) -> None:
    """Owner, access, group and branch each make an entity visible."""
    elsewhere = {"owner": OTHER_USER, "group": None, "branch": []}
    rows = [
        entity(elsewhere, name="hidden"),
        entity(elsewhere, name="owner", owner=USER),
        entity(elsewhere, name="access", access=[OTHER_USER, USER]),
        entity(elsewhere, name="group", group=GROUP),
        entity(elsewhere, name="branch", branch=["5f00000000000000000000b0", GROUP]),
    ]
    await insert(engine, *rows)
    visible = Or(
        (Equal(("owner",), USER), Equal(("access",), USER), In(("group",), (GROUP,)), In(("branch",), (GROUP,)))
    )
    names = {e["name"] for e in await find(engine, Query(visible))}
    assert names == {"owner", "access", "group", "branch"}


async def test_a_system_field_has_one_type(engine: Engine) -> None:
    """A number as text does not match a number, nor the reverse, although SQLite's columns would convert them."""
    rows = [entity(time=n, _at=n, _rev=n, owner=f"{n}f{n:022}", group=f"{n}f{n:022}") for n in range(10)]
    rows.append(entity(time=10, _at=10, _rev=10, owner=USER, group=None))
    await insert(engine, *rows)
    operands = [None, 5, 5.0, 9e99, -1e99, "5", "5.0", "", USER, f"5f{5:022}", True]
    conditions: list[dict[str, Any]] = [
        *({operator: v} for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte") for v in operands),
        {"$in": operands},
        {"$nin": operands},
        *({operator: v} for operator in ("$startswith", "$contains") for v in ("", "5")),
        {"$exists": True},
        {"$exists": False},
        {"$size": 1},
        {"$elemMatch": {"$gt": 5}},
    ]
    for path in ("time", "_at", "_rev", "owner", "group"):
        for condition in conditions:
            where = parse_filter({path: condition})
            found = [e["time"] for e in await find(engine, Query(where))]
            assert found == [e["time"] for e in rows if matches(where, e)], (path, condition)


async def test_the_id_filters_like_a_string_of_its_own_kind(engine: Engine) -> None:
    """Filters may use equality, lists and ranges of ids."""
    rows = sorted((entity(n=n) for n in range(5)), key=lambda e: e["_id"])
    await insert(engine, *rows)
    ids = [e["_id"] for e in rows]
    by_id = query.total((query.Sort(("_id",)),))
    for document, expected in [
        ({"_id": ids[2]}, ids[2:3]),
        ({"_id": {"$in": [ids[1], ids[4]]}}, [ids[1], ids[4]]),
        ({"_id": {"$nin": ids[:3]}}, ids[3:]),
        ({"_id": {"$ne": ids[0]}}, ids[1:]),
        ({"_id": {"$gt": ids[1], "$lte": ids[3]}}, ids[2:4]),
        ({"_id": None}, []),
        ({"_id": {"$exists": True}}, ids),
        ({"_id": {"$in": []}}, []),
    ]:
        found = await find(engine, Query(parse_filter(document), sort=by_id))
        assert [e["_id"] for e in found] == expected, document


async def test_what_was_asked_before_changes_no_answer(engine: Engine) -> None:
    """A database may reuse a query's plan for another query of the same shape with other operands, as MongoDB does."""
    await engine.define(StoreDefinition("indexed", indexes=("a",)))
    values = [[], None, "é", [1, None], *range(20)]
    await insert(engine, *(entity(a=value) for value in values), store="indexed")
    asked = [[{"$nin": ["x", "y"]}, {"$nin": [None, "é"]}], [{"$ne": "x"}, {"$ne": None}], [{"$ne": "x"}, {"$ne": []}]]
    for usual, special in asked:
        for _ in range(4):
            await engine.summarize("indexed", parse_filter({"a": usual}))
            await find(engine, Query(parse_filter({"a": usual})), store="indexed")
        where = parse_filter({"a": special})
        expected = sum(matches(where, {"a": value}) for value in values)
        assert (await engine.summarize("indexed", where)).count == expected, special
        assert len(await find(engine, Query(where), store="indexed")) == expected, special
