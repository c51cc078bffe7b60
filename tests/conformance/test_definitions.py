"""Stores, their indexes and their unique paths."""

from __future__ import annotations

import pytest

from stores.definitions import MAX_INDEXES
from stores.errors import DuplicateValue, NotAsExpected, StoreNotEmpty, Unavailable
from stores.field import Field
from stores.protocol import Delete, Engine, Expect, Insert, Update
from stores.query import EVERYTHING, Compare, Equal, Query
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, insert, insert_one
from tests.support.reading import find, get

ODD_NAME = 'it\'s "odd" \\ é😀 [0] 50% *'


async def test_defining_again_changes_nothing(engine: Engine) -> None:
    """An equal definition changes nothing, including the entities and the feed's position."""
    definition = StoreDefinition("units", indexes=("a", "b.c"), unique=("code",))
    await engine.define(definition)
    made = await insert_one(engine, store="units", code="x")
    position = await engine.feed.position()
    await engine.define(definition)
    assert await get(engine, made["_id"], "units") == made
    assert (await engine.feed.read(position)).changes == []


async def test_indexes_come_and_go_without_changing_answers(engine: Engine) -> None:
    """A query has the same answer before, with and after an index."""
    entities = [entity(n=n % 7, d={"x": n}) for n in range(50)]
    await insert(engine, *entities)
    query = Query(Compare(("n",), "gte", 5))
    before = await find(engine, query)
    for indexes in (("n",), ("n", "d.x"), ("d.x",), ()):
        await engine.define(StoreDefinition(STORE, indexes=indexes, unique=("code",)))
        assert await find(engine, query) == before
    assert len(before) == 14


async def test_a_store_takes_as_many_indexes_as_a_definition_may_ask_for(engine: Engine) -> None:
    """The maximum number of indexes can be created, including odd names."""
    paths = (ODD_NAME, f"a.{ODD_NAME}", *(f"f{n}" for n in range(MAX_INDEXES - 2)))
    await engine.define(StoreDefinition("wide", indexes=paths))
    made = await insert_one(engine, {ODD_NAME: 5, "a": {ODD_NAME: "x"}}, store="wide", f3=1)
    for path, value in (((ODD_NAME,), 5), (("a", ODD_NAME), "x"), (("f3",), 1)):
        assert await find(engine, Query(Equal(path, value)), store="wide") == [made]


async def test_a_store_with_all_indexes_may_have_others_instead(engine: Engine) -> None:
    """As many as a definition may ask for can be replaced at once, with what is written."""
    unique = tuple(f"u{n}" for n in range(5))
    for first in (0, 1, 100):
        indexes = tuple(f"f{n}" for n in range(first, first + MAX_INDEXES - len(unique)))
        writes = [Insert("wide", entity({"f100": first, "u0": first}))] if first else []
        await engine.define(StoreDefinition("wide", indexes=indexes, unique=unique), writes=writes)
    assert len(await find(engine, Query(Equal(("f100",), 100)), store="wide")) == 1
    with pytest.raises(DuplicateValue):
        await insert_one(engine, store="wide", u0=100)


async def test_fields_ask_for_indexes_too(engine: Engine) -> None:
    """A unique field of a typed store is unique."""
    field = Field("email", "Text", unique=True)
    await engine.define(StoreDefinition("people", fields=(field, Field("age", "Number", index=True))))
    await insert_one(engine, store="people", email="a@b.c", age=3)
    with pytest.raises(DuplicateValue):
        await insert_one(engine, store="people", email="a@b.c")


async def test_a_unique_index_is_refused_where_values_repeat(engine: Engine) -> None:
    """DuplicateValue names the path, and the store works as before."""
    await insert(engine, entity(email="x"), entity(email="x"))
    with pytest.raises(DuplicateValue) as refusal:
        await engine.define(StoreDefinition(STORE, unique=("code", "email")))
    assert refusal.value.field == "email"
    await insert_one(engine, email="x")
    assert len(await find(engine)) == 3


async def test_a_unique_path_may_become_ordinary_again(engine: Engine) -> None:
    """Without the unique index values may repeat. It can be created again when they do not."""
    await engine.define(StoreDefinition(STORE, indexes=("code",)))
    first = await insert_one(engine, code="x")
    await insert_one(engine, code="x")
    with pytest.raises(DuplicateValue):
        await engine.define(StoreDefinition(STORE, unique=("code",)))
    await engine.commit([Delete(STORE, first["_id"])], USER)
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    with pytest.raises(DuplicateValue):
        await insert_one(engine, code="x")


async def test_a_unique_path_is_unique_until_a_definition_without_it_is_committed(engine: Engine) -> None:
    """A definition whose commit fails leaves the unique index in force."""
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    await insert_one(engine, code="x")
    ordinary = StoreDefinition(STORE)
    with pytest.raises(NotAsExpected):
        await engine.define(ordinary, writes=[Expect(STORE, EVERYTHING, least=5)])
    with pytest.raises(DuplicateValue):
        await insert_one(engine, code="x")
    await engine.define(ordinary, writes=[Insert(STORE, entity(code="y"))])
    await insert_one(engine, code="x")


async def test_an_empty_store_can_be_dropped_and_made_again(engine: Engine) -> None:
    """The new store has none of the former indexes."""
    await engine.define(StoreDefinition("units", unique=("code",)))
    await engine.drop("units")
    await engine.define(StoreDefinition("units"))
    await insert(engine, entity(code="x"), entity(code="x"), store="units")
    assert len(await find(engine, store="units")) == 2


async def test_a_store_with_entities_cannot_be_dropped(engine: Engine) -> None:
    """It raises StoreNotEmpty and keeps everything."""
    made = await insert_one(engine)
    with pytest.raises(StoreNotEmpty):
        await engine.drop(STORE)
    assert await find(engine) == [made]


async def test_stores_keep_apart(engine: Engine) -> None:
    """Names that differ only in case or contain odd characters are different stores."""
    names = ["units", "Units", "UNITS", "units-2", "units_2", "order", "select", "a" * 63]
    for name in names:
        await engine.define(StoreDefinition(name, indexes=("n",), unique=("code",)))
        await insert_one(engine, store=name, code="x", n=name)
    for name in names:
        assert [e["n"] for e in await find(engine, Query(Equal(("n",), name)), store=name)] == [name]
        assert len(await find(engine, store=name)) == 1


async def test_the_same_id_may_live_in_two_stores(engine: Engine) -> None:
    """An id is unique only within its store."""
    await engine.define(StoreDefinition("units"))
    made = entity(n=1)
    await engine.commit([Insert(STORE, made), Insert("units", made)], USER)
    await engine.commit([Update("units", made["_id"], {"n": 2})], USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 1


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("code", {"code": "x"}, {"code": "x"}),
        ("n", {"n": 1}, {"n": 1.0}),
        ("a.b", {"a": {"b": "x"}}, {"a": {"b": "x", "c": 1}}),
        (ODD_NAME, {ODD_NAME: "x"}, {ODD_NAME: "x"}),
        ("n", {"n": 2**53 + 1}, {"n": 2**53 + 1}),
    ],
)
async def test_a_unique_value_is_held_once(engine: Engine, path: str, one: dict, other: dict) -> None:
    """Equal values conflict; numbers are compared by value."""
    await engine.define(StoreDefinition("units", unique=(path,)))
    await insert_one(engine, one, store="units")
    with pytest.raises(DuplicateValue) as refusal:
        await insert_one(engine, other, store="units")
    assert refusal.value.field == path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"n": None}, {"n": None}),
        ({}, {"n": None}),
        ({"n": "x"}, {"n": "X"}),
        ({"n": 1}, {"n": "1"}),
        ({"n": 2**53}, {"n": 2**53 + 1}),
        ({"n": 2**53 + 1}, {"n": 2.0**53}),
        ({"n": "é"}, {"n": "e\u0301"}),
        ({"n": "x"}, {"n": "x "}),
        ({"n": ""}, {}),
    ],
)
async def test_different_and_absent_values_do_not_collide(engine: Engine, one: dict, other: dict) -> None:
    """Any number of entities may have null or no value at a unique path."""
    await engine.define(StoreDefinition("units", unique=("n",)))
    await insert_one(engine, one, store="units")
    await insert_one(engine, other, store="units")
    assert len(await find(engine, store="units")) == 2


async def test_everything_is_there_after_a_restart(database: Database) -> None:
    """Entities, definitions, unique values and the feed outlive the process."""
    definition = StoreDefinition(STORE, indexes=("n",), unique=("code",))
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        start = await engine.feed.position()
        made = await insert_one(engine, code="x", n=1)
    async with opened(database.engine()) as engine:
        await engine.define(definition)
        assert await find(engine, Query(Equal(("n",), 1))) == [made]
        assert [c.id for c in (await engine.feed.read(start)).changes] == [made["_id"]]
        with pytest.raises(DuplicateValue):
            await insert_one(engine, code="x")


async def test_a_closed_engine_says_so(database: Database) -> None:
    """It raises Unavailable, and closing it again does nothing."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await engine.ping()
        await engine.close()
        with pytest.raises(Unavailable):
            await engine.ping()
        with pytest.raises(Unavailable):
            await find(engine)
        with pytest.raises(Unavailable):
            await insert(engine, entity())
