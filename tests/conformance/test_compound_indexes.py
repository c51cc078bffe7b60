"""Compound indexes: the same answers as without them, uniqueness, and what they refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

from stores.compound import CompoundIndex
from stores.definitions import MAX_INDEXES, parse_definition
from stores.errors import DuplicateValue, NotAsExpected, ParallelArrays
from stores.parse import parse_filter, parse_sort
from stores.protocol import Delete, Engine, Expect, Insert, Procedure, Steps, Update, UpdateMany, Upsert, Write, do
from stores.query import CREATION_ORDER, EVERYTHING, Query
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.properties.reference import answer
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, insert, insert_one
from tests.support.reading import find, walk

ODD = 'it\'s "odd" \\ é😀 [0]!? 50% *'
OPEN: Entity = {"fields": ["number"], "unique": True, "where": {"state": "open"}}


def defined(*indexes: Any, **more: Any) -> StoreDefinition:
    return parse_definition({"name": STORE, "indexes": [*indexes], **more})


async def define(engine: Engine, *indexes: Any) -> CompoundIndex:
    """Give the store these indexes; return the first compound one."""
    definition = defined(*indexes)
    await engine.define(definition)
    return definition.compounds[0]


# Answers.

VALUES: list[Any] = [None, 1, 1.0, 2, 2**53 + 1, -3.5, "", "a", "B", "é", True, False, {"x": 1}, [], [2, "a"], [None]]
FILTERS: list[Entity] = [
    {},
    {"v": 1},
    {"v": None},
    {"v": "a"},
    {"v": 1, "w": {"$gte": 1}},
    {"v": {"$in": [1, "a"]}},
    {"s": 1},
]
SORTS = ("w", "-w", "v,-w", "v,w", "-v,w,n", "time")


@pytest.mark.parametrize("lists", [False, True], ids=["scalars", "lists"])
async def test_answers_are_the_same_before_with_and_after_an_index(engine: Engine, lists: bool) -> None:
    """Lists in pages of seven are those of the reference, whatever the values, and when they come while the index is
    there."""
    values = VALUES if lists else VALUES[:-6]
    pairs = [(v, w) for v in values for w in values if not (isinstance(v, list) and isinstance(w, list))]
    entities = [entity({"s": n % 2} if n % 3 else {}, n=n, v=v, w=w, time=n // 9) for n, (v, w) in enumerate(pairs)]
    half = len(entities) // 2
    await insert(engine, *entities[:half])
    await define(engine, ["v", "-w"], ["v", "w"], {"fields": ["w"], "where": {"s": 1}})
    await insert(engine, *entities[half:])
    for filter, sort in product(FILTERS, SORTS):
        query = Query(parse_filter(filter), parse_sort(sort) if sort != "time" else CREATION_ORDER)
        assert await walk(engine, query, 7) == answer(entities, query), query
        assert (await engine.summarize(STORE, query.where)).count == len(answer(entities, query))


async def test_odd_names(engine: Engine) -> None:
    """Any names of fields can be in a compound index, also those that differ in case only."""
    index = await define(engine, [ODD, f"-a.{ODD}", "a,b", "Code"], {"fields": [ODD, "code"], "unique": True})
    made = await insert_one(engine, {ODD: 5, "a": {ODD: "x"}, "code": 1})
    assert index.paths == (ODD, f"a.{ODD}", "a,b", "Code")
    assert await find(engine, Query(parse_filter({ODD: 5}), parse_sort("Code"))) == [made]
    with pytest.raises(DuplicateValue) as refusal:
        await insert_one(engine, {ODD: 5, "code": 1})
    assert refusal.value.fields == (ODD, "code")


async def test_long_values(engine: Engine) -> None:
    """Texts of any length can be indexed together, and be unique."""
    long = "x" * 100_000
    await define(engine, ["a", "-b"], {"fields": ["a", "c"], "unique": True})
    made = await insert_one(engine, a=long, b=long, c=long)
    assert await find(engine, Query(parse_filter({"a": long}), parse_sort("-b"))) == [made]
    with pytest.raises(DuplicateValue):
        await insert_one(engine, a=long, c=long)


async def test_a_store_takes_as_many_as_a_definition_may_ask_for(engine: Engine) -> None:
    """Also unique ones, which take two of MongoDB's, and again when all of them are exchanged."""
    for first in (0, 100):
        indexes = [{"fields": [f"f{n}", "b"], "unique": True} for n in range(first, first + MAX_INDEXES)]
        await define(engine, *indexes)
    await insert_one(engine, f100=1, b=1)
    with pytest.raises(DuplicateValue):
        await insert_one(engine, f100=1, b=1)


# Uniqueness.


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1.0, "b": 2}, True),
        ({"a": "x", "b": "y"}, {"a": "x", "b": "y", "c": 1}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"a": 1, "b": "2"}, {"a": 1, "b": 2}, False),
        ({"a": 2**53, "b": 1}, {"a": 2**53 + 1, "b": 1}, False),
        ({"a": 1}, {"a": 1}, False),
        ({"a": 1, "b": None}, {"a": 1, "b": None}, False),
        ({"a": None, "b": None}, {"a": None, "b": None}, False),
        ({}, {}, False),
        ({"a": "", "b": ""}, {"a": "", "b": ""}, True),
    ],
)
async def test_values_are_unique_together(engine: Engine, one: Entity, other: Entity, collide: bool) -> None:
    """An entity that lacks one of the values is not constrained."""
    await define(engine, {"fields": ["a", "b"], "unique": True})
    await insert_one(engine, one)
    if not collide:
        await insert_one(engine, other)
        return
    with pytest.raises(DuplicateValue) as refusal:
        await insert_one(engine, other)
    assert refusal.value.fields == ("a", "b")


CONDITIONS: list[tuple[Entity, list[Entity], list[Entity]]] = [
    ({"s": "open"}, [{"s": "open"}, {"s": ["x", "open"]}], [{"s": "done"}, {}, {"s": None}, {"s": ["x"]}, {"s": {}}]),
    ({"s": True}, [{"s": True}], [{"s": 1}, {"s": False}, {"s": "true"}]),
    ({"s": 1}, [{"s": 1}, {"s": 1.0}, {"s": [0, 1]}], [{"s": True}, {"s": "1"}, {"s": 2}]),
    ({"s": None}, [{"s": None}, {}, {"s": [None]}], [{"s": 0}, {"s": ""}, {"s": []}, {"s": False}]),
    ({"s": {"$in": ["a", None, 5]}}, [{"s": "a"}, {}, {"s": 5}, {"s": [5]}], [{"s": "b"}, {"s": 4}, {"s": []}]),
    ({"s": {"$exists": True}}, [{"s": None}, {"s": 0}, {"s": []}], [{}]),
    ({"s": {"$gte": 5, "$lt": 9}}, [{"s": 5}, {"s": 8.9}, {"s": [4, 6]}], [{"s": 4}, {"s": 9}, {"s": "6"}, {}]),
    ({"s": {"$gt": "b"}}, [{"s": "c"}, {"s": "ba"}], [{"s": "b"}, {"s": 5}, {"s": None}]),
    ({"s.t": 1}, [{"s": {"t": 1}}, {"s": [{"t": 1}]}], [{"s": 1}, {"s": {"t": 2}}, {"s": [{"t": 2}]}]),
    ({"s.t": None}, [{}, {"s": {}}, {"s": [{}]}, {"s": 1}], [{"s": {"t": 1}}, {"s": [{"t": 1}]}]),
    ({"s": 'it\'s "x"', "t": 1}, [{"s": 'it\'s "x"', "t": 1}], [{"s": 'it\'s "x"'}, {"t": 1}]),
]


@pytest.mark.parametrize(("where", "inside", "outside"), CONDITIONS, ids=[str(where) for where, _, _ in CONDITIONS])
async def test_values_are_unique_in_a_part(
    engine: Engine, where: Entity, inside: list[Entity], outside: list[Entity]
) -> None:
    """What meets the condition is as in a filter; entities that do not meet it are free."""
    await define(engine, {"fields": ["number"], "unique": True, "where": where})
    await insert(engine, *(entity(one, number=1) for one in [*outside, *outside]))
    await insert_one(engine, inside[0], number=1)
    for one in inside:
        with pytest.raises(DuplicateValue) as refusal:
            await insert_one(engine, one, number=1)
        assert refusal.value.fields == ("number",)
        await insert_one(engine, one)
    found = await find(engine, Query(parse_filter({"number": 1, **where})))
    assert len(found) == 1


async def test_an_entity_may_come_into_the_part(engine: Engine) -> None:
    """Every kind of write that makes two entities of the part equal is refused, and changes nothing."""
    await define(engine, OPEN)
    await insert_one(engine, number=1, state="open")
    done = await insert_one(engine, number=1, state="done", code="c")
    before = await find(engine)
    writes: list[Write] = [
        Insert(STORE, entity(number=1, state="open")),
        Update(STORE, done["_id"], {"state": "open"}),
        Update(STORE, done["_id"], {"number": 1, "state": "open"}, replace=True),
        UpdateMany(STORE, parse_filter({"state": "done"}), {"state": "open"}, 10),
    ]
    for write in writes:
        with pytest.raises(DuplicateValue) as refusal:
            await engine.commit([write], USER)
        assert refusal.value.fields == ("number",)
        with pytest.raises(DuplicateValue) as refusal:
            await engine.commit([Insert(STORE, entity(n=1)), write], USER)
        assert refusal.value.index == 1
    assert await find(engine) == before
    await engine.commit([Update(STORE, done["_id"], {"state": "open", "number": 2})], USER)


async def test_an_upsert_meets_a_unique_path_and_a_compound_index(engine: Engine) -> None:
    """The key decides which entity is changed; the other index refuses it."""
    await engine.define(defined({"fields": ["a", "b"], "unique": True}, unique=["code"]))
    await insert(engine, entity(code="x", a=1, b=1), entity(code="y", a=1, b=2))
    for changes in ({"code": "y", "b": 1}, {"code": "z", "a": 1, "b": 1}):
        with pytest.raises(DuplicateValue) as refusal:
            await engine.commit([Upsert(STORE, "code", entity(changes), changes)], USER)
        assert refusal.value.fields == ("a", "b")


# Lists.

Attempt = Callable[[Engine, Entity], Awaitable[Any]]


async def create(engine: Engine, held: Entity) -> None:
    await insert(engine, entity(a=[1], b=[2]))


async def create_all(engine: Engine, held: Entity) -> None:
    await insert(engine, entity(a=1), entity(a=[1], b=[2]), entity(a=3))


async def change(engine: Engine, held: Entity) -> None:
    await engine.commit([Update(STORE, held["_id"], {"b": [2]})], USER)


async def replace(engine: Engine, held: Entity) -> None:
    await engine.commit([Update(STORE, held["_id"], {"a": [], "b": []}, replace=True)], USER)


async def change_all(engine: Engine, held: Entity) -> None:
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"b": [2]}, 10)], USER)


async def upsert(engine: Engine, held: Entity) -> None:
    await engine.commit([Upsert(STORE, "code", entity(code="x", b=[2]), {"code": "x", "b": [2]})], USER)


async def upsert_all(engine: Engine, held: Entity) -> None:
    writes = [Upsert(STORE, "code", entity(code=c, b=[2]), {"code": c, "b": [2]}) for c in ("y", "x")]
    await engine.commit(writes, USER)


@pytest.mark.parametrize("attempt", [create, create_all, change, replace, change_all, upsert, upsert_all])
async def test_an_index_holds_one_list_of_an_entity(engine: Engine, attempt: Attempt) -> None:
    """A write that makes two fields of an index lead to lists is refused, and changes nothing."""
    await engine.define(defined(["a", "-b"], unique=["code"]))
    held = await insert_one(engine, code="x", a=[1, 2], b=5)
    before = await find(engine)
    with pytest.raises(ParallelArrays) as refusal:
        await attempt(engine, held)
    [violation] = refusal.value.violations
    assert (violation.field, violation.rule, violation.detail) == ("b", "parallel", "a")
    assert refusal.value.index == (1 if attempt in (create_all, upsert_all) else 0)
    assert await find(engine) == before


async def test_the_paths_of_parallel_lists_are_named(engine: Engine) -> None:
    """With the definition at hand, the error names the whole paths."""
    definition = defined(["l.p", "l.q"], ["x.a", "-y.b"])
    await engine.define(definition)
    await insert_one(engine, l=[{"p": 1, "q": 2}, {"p": 3, "q": 4}])
    for fields, named in (({"l": [{"p": [1], "q": [2]}]}, "l.q"), ({"x": {"a": [1]}, "y": [{"b": 1}]}, "y")):
        with pytest.raises(ParallelArrays) as refusal:
            await engine.commit([Insert(STORE, entity(fields))], USER, None, definition)
        assert refusal.value.later.startswith(named)
        explained: list[str] = []
        procedure = Procedure(STORE, partial(explaining, entity(fields), explained))
        with pytest.raises(ParallelArrays):
            await engine.commit([procedure], USER, None, definition)
        assert explained == [refusal.value.later], "a procedure gets the same"


def explaining(made: Entity, explained: list[str]) -> Steps:
    """Insert an entity, and note the path that is refused."""
    try:
        return (yield from do(Insert(STORE, made)))
    except ParallelArrays as error:
        explained.append(error.later)
        raise


async def test_lists_are_free_outside_of_the_part(engine: Engine) -> None:
    await define(engine, {"fields": ["a", "b"], "where": {"state": "open"}})
    made = await insert_one(engine, a=[1], b=[2])
    with pytest.raises(ParallelArrays):
        await engine.commit([Update(STORE, made["_id"], {"state": "open"})], USER)


# Definitions.


async def test_an_index_is_refused_where_values_repeat(engine: Engine) -> None:
    """DuplicateValue names the paths and the index; the store works as before, and the duplicates can be counted."""
    await insert(engine, *(entity(number=n // 2, state="open" if n < 5 else "done") for n in range(10)))
    index = defined(OPEN).compounds[0]
    with pytest.raises(DuplicateValue) as refusal:
        await engine.define(defined(["state", "number"], OPEN))
    assert (refusal.value.fields, refusal.value.key) == (("number",), index.name)
    assert (await engine.count_duplicates(STORE, "number", where=index.where))[0] == 4
    assert (await engine.count_duplicates(STORE, "number", "state"))[0] == 8
    assert (await engine.count_duplicates(STORE, "number", "missing"))[0] == 0
    await insert_one(engine, number=0, state="open")
    await define(engine, {"fields": ["number"], "unique": True, "where": {"state": "held"}})


async def test_an_index_goes_after_its_definition(engine: Engine) -> None:
    """It holds until the definition without it is committed, and then no more."""
    await define(engine, OPEN)
    await insert_one(engine, number=1, state="open")
    with pytest.raises(NotAsExpected):
        await engine.define(StoreDefinition(STORE), writes=[Expect(STORE, EVERYTHING, least=5)])
    with pytest.raises(DuplicateValue):
        await insert_one(engine, number=1, state="open")
    await engine.define(StoreDefinition(STORE), writes=[Insert(STORE, entity(n=1))])
    again = await insert_one(engine, number=1, state="open")
    with pytest.raises(DuplicateValue):
        await define(engine, OPEN)
    await engine.commit([Delete(STORE, again["_id"])], USER)
    await define(engine, OPEN)


async def test_indexes_that_share_fields_come_and_go(engine: Engine) -> None:
    """An index may become that of a path, change its direction, its condition, and be unique or not."""
    await insert(engine, *(entity(status=n % 3, n=n) for n in range(30)))
    steps: list[list[Any]] = [
        ["status"],
        ["status", ["status", "time"], ["status", "_id"], ["time", "_id"], ["owner", "time"]],
        [["status", "time"], ["status", "_id"]],
        [["status", "-time"], ["-status", "-time"]],
        [["status", "time"], {"fields": ["status", "n"], "unique": True}],
        [["status", "n"], {"fields": ["status", "n"], "where": {"n": {"$gt": 5}}}],
        [{"fields": ["status", "n"], "unique": True, "where": {"n": {"$gt": 5}}}, "n"],
        [{"fields": ["status", "n"], "unique": True, "where": {"n": {"$gte": 5}}}, ["group", "time"], "group"],
        [],
    ]
    for indexes in steps:
        await engine.define(defined(*indexes))
        found = await find(engine, Query(parse_filter({"status": 1}), parse_sort("-n")))
        assert [e["n"] for e in found] == [*range(28, 0, -3)]


async def test_all_is_there_after_a_restart(database: Database) -> None:
    """Indexes and the kinds of values in them outlive the process."""
    definition = defined(["a", "-b"], OPEN, {"fields": ["c", "d"], "unique": True})
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        held = [await insert_one(engine, a=1, b=b, number=n, state="open") for n, b in enumerate([5, [7, 1], True])]
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        query = Query(parse_filter({"a": 1}), parse_sort("b"))
        assert await find(engine, query) == answer(held, query)
        with pytest.raises(DuplicateValue):
            await insert_one(engine, number=1, state="open")
        with pytest.raises(ParallelArrays):
            await insert_one(engine, a=[1], b=[2])


async def test_a_renamed_store_keeps_its_indexes(engine: Engine) -> None:
    await define(engine, ["a", "-b"], OPEN)
    await insert_one(engine, a=1, b=2, number=1, state="open")
    await engine.rename(STORE, "renamed", [])
    await engine.define(parse_definition({"name": "renamed", "indexes": [["a", "-b"], OPEN]}))
    for fields, error in (({"number": 1, "state": "open"}, DuplicateValue), ({"a": [1], "b": [1]}, ParallelArrays)):
        with pytest.raises(error):
            await insert_one(engine, fields, store="renamed")
    assert len(await find(engine, Query(parse_filter({"a": 1}), parse_sort("-b")), store="renamed")) == 1
