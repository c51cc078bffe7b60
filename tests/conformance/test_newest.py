"""The newest entities for each of several values: what expansions of references read, in both directions."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from pymongo import AsyncMongoClient

from stores.errors import ReadTooLarge
from stores.field import Field
from stores.mongo.newest import lookup
from stores.newest import Newest, Texts
from stores.protocol import Engine, Insert
from stores.query import EVERYTHING, WHOLE, Equal, Filter, In, Or, Projection
from stores.records import Entity, new_id
from stores.schema import StoreDefinition
from stores.sqlite.connection import connect
from stores.sqlite.newest import newest_sql
from stores.sqlite.tables import load_tables
from tests.support.engines import Database
from tests.support.entities import OTHER_USER, USER, entity

ORDERS, PRODUCTS = "orders", "products"
MOST = 1_000_000

A, B, C = new_id(), new_id(), new_id()
SHARED = Or((Equal(("owner",), USER), Equal(("access",), USER)))


@pytest.fixture
async def engine(engine: Engine) -> Engine:
    fields = (
        Field("customer", "Reference", store="customers"),
        Field("tags", "Reference", store="tags", by="code", many=True),
        Field("lines", "Object", many=True, fields=(Field("product", "Reference", store=PRODUCTS),)),
        Field("n", "Number"),
    )
    await engine.define(StoreDefinition(ORDERS, fields, open=False), StoreDefinition(PRODUCTS, unique=("code",)))
    return engine


async def create(engine: Engine, store: str, *entities: Entity) -> None:
    await engine.commit([Insert(store, each) for each in entities], USER)


def order(n: int, **fields: Any) -> Entity:
    return entity(n=n, time=1_700_000_000_000 + n, **fields)


def wanted(path: str, *values: str | int, each: int = 2, most_bytes: int = MOST, **more: Any) -> Newest:
    return Newest(tuple(path.split(".")), values, each, most_bytes, **more)


def numbers(texts: Texts) -> dict[Any, list[int]]:
    return {value: [orjson.loads(text)["n"] for text in found] for value, found in texts.items()}


async def test_each_value_has_its_newest_entities_first(engine: Engine) -> None:
    await create(engine, ORDERS, *(order(n, customer=(A, B)[n % 5 == 0]) for n in range(20)))
    await create(engine, ORDERS, order(-1, customer=None), order(50, customer=C))
    texts = await engine.newest(ORDERS, wanted("customer", A, B, new_id(), each=3))
    assert numbers(texts) == {A: [19, 18, 17], B: [15, 10, 5]}
    assert numbers(await engine.newest(ORDERS, wanted("customer", C, each=100))) == {C: [50]}
    assert numbers(await engine.newest(ORDERS, wanted("customer", A, C, each=1))) == {A: [19], C: [50]}
    assert await engine.newest(ORDERS, wanted("customer")) == {}


async def test_entities_of_one_moment_are_ordered_by_id(engine: Engine) -> None:
    made = [order(0, customer=A) | {"n": n} for n in range(5)]
    await create(engine, ORDERS, *made)
    by_id = [each["n"] for each in sorted(made, key=lambda each: str(each["_id"]), reverse=True)]
    assert numbers(await engine.newest(ORDERS, wanted("customer", A, each=3))) == {A: by_id[:3]}
    assert numbers(await engine.newest(ORDERS, wanted("customer", A, each=1))) == {A: by_id[:1]}


async def test_values_in_lists_and_in_objects_in_lists(engine: Engine) -> None:
    await create(
        engine,
        ORDERS,
        order(1, tags=["a", "b"], lines=[{"product": A}, {"product": B}]),
        order(2, tags=["b", "b"], lines=[{"product": B}, {"product": B}]),
        order(3, tags=["b", 5], lines=[]),
        order(4, tags=[], lines=[{"product": None}]),
    )
    for each, tags, products in ((1, [3], [2]), (2, [3, 2], [2, 1]), (9, [3, 2, 1], [2, 1])):
        texts = await engine.newest(ORDERS, wanted("tags", "a", "b", 5, "5", each=each))
        assert numbers(texts) == {"a": [1], "b": tags, 5: [3]}
        texts = await engine.newest(ORDERS, wanted("lines.product", A, B, C, each=each))
        assert numbers(texts) == {A: [1], B: products}


@pytest.mark.parametrize("count", [20, 600])
async def test_only_what_meets_the_condition_counts(engine: Engine, count: int) -> None:
    """Also for a reader who sees a small part of a large store."""
    shared = Or((Equal(("owner",), OTHER_USER), Equal(("access",), OTHER_USER)))
    seen = {7: {"owner": OTHER_USER}, 9: {"access": [OTHER_USER]}, 12: {"owner": OTHER_USER}}
    await create(engine, ORDERS, *(order(n, customer=A, **seen.get(n, {})) for n in range(count)))
    for each in (1, 2, 5):
        texts = await engine.newest(ORDERS, wanted("customer", A, each=each, where=shared))
        assert numbers(texts) == {A: [12, 9, 7][:each]}
    odd = In(("n",), (3, 5))
    assert numbers(await engine.newest(ORDERS, wanted("customer", A, where=odd))) == {A: [5, 3]}
    assert numbers(await engine.newest(ORDERS, wanted("customer", A, each=1, where=odd))) == {A: [5]}


@pytest.mark.parametrize("each", [1, 2])
async def test_entities_are_found_by_id_and_by_a_unique_field(engine: Engine, each: int) -> None:
    made = [entity(code=code, n=n) for n, code in enumerate(("a", 5, "5", None))]
    await create(engine, PRODUCTS, *made)
    ids = [each["_id"] for each in made]
    assert numbers(await engine.newest(PRODUCTS, wanted("_id", *ids[:2], new_id(), each=each))) == {
        ids[0]: [0],
        ids[1]: [1],
    }
    assert numbers(await engine.newest(PRODUCTS, wanted("code", "a", 5, 6, each=each))) == {"a": [0], 5: [1]}


@pytest.mark.parametrize("each", [1, 3])
async def test_a_projection_applies(engine: Engine, each: int) -> None:
    made = order(1, customer=A, lines=[{"product": B}])
    await create(engine, ORDERS, made)
    hidden = Projection(hidden=frozenset({"customer", "time"}))
    for projection, shown in (
        (WHOLE, made),
        (Projection(only=(("n",),)), {"_id": made["_id"], "n": 1}),
        (Projection(only=()), {"_id": made["_id"]}),
        (Projection(only=(("_id",),)), {"_id": made["_id"]}),
        (hidden, {name: value for name, value in made.items() if name not in hidden.hidden}),
    ):
        for path, value in (("customer", A), ("_id", made["_id"])):
            texts = await engine.newest(ORDERS, wanted(path, value, each=each), projection)
            assert [orjson.loads(text) for text in texts[value]] == [shown]


@pytest.mark.parametrize("each", [1, 2])
async def test_the_bytes_of_the_answer_are_bounded(engine: Engine, each: int) -> None:
    made = [order(n, customer=customer, tags=["x" * 1_000]) for n, customer in enumerate((A, A, B, B))]
    await create(engine, ORDERS, *made)
    texts = await engine.newest(ORDERS, wanted("customer", A, B, each=each))
    size = sum(len(text) for found in texts.values() for text in found)
    assert await engine.newest(ORDERS, wanted("customer", A, B, each=each, most_bytes=size)) == texts
    with pytest.raises(ReadTooLarge):
        await engine.newest(ORDERS, wanted("customer", A, B, each=each, most_bytes=size - 1))
    # An entity counts once for each of its values.
    await create(engine, ORDERS, order(9, tags=["a", "b", "c"], customer=C))
    with pytest.raises(ReadTooLarge):
        await engine.newest(ORDERS, wanted("tags", "a", "b", "c", each=each, most_bytes=800))


async def test_many_values_and_many_entities(engine: Engine) -> None:
    customers = [new_id() for _ in range(1_200)]
    await create(engine, ORDERS, *(order(n, customer=customers[n % 1_200]) for n in range(3_600)))
    for each in (1, 2):
        texts = await engine.newest(ORDERS, wanted("customer", *customers, each=each))
        assert len(texts) == 1_200
        assert numbers(texts)[customers[7]] == [2_407, 1_207][:each]


@pytest.mark.engine("sqlite")
@pytest.mark.parametrize("where", [EVERYTHING, SHARED], ids=["all", "shared"])
async def test_sqlite_reads_the_index_of_each_value_from_its_end(
    engine: Engine, database: Database, where: Filter
) -> None:
    with closing(connect(Path(database.location))) as connection:
        table = load_tables(connection)[ORDERS]
        sql, values = newest_sql(table, wanted("customer", A, B, where=where))
        steps = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert any("INDEX xc_orders:customer (<expr>=?)" in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps
    assert "SEARCH found USING INTEGER PRIMARY KEY (rowid=?)" in steps, steps


@pytest.mark.engine("mongodb")
@pytest.mark.parametrize("path", ["customer", "tags", "lines.product"])
async def test_mongodb_reads_the_index_of_each_value_from_its_end(
    engine: Engine, database: Database, path: str
) -> None:
    fields = [{"customer": each, "tags": ["x", each], "lines": [{"product": each}]} for each in (A, B)]
    await create(engine, ORDERS, *(order(n, **fields[n % 2]) for n in range(400)))
    command = lookup(ORDERS, wanted(path, A, B, each=5, where=SHARED), WHOLE) | {"cursor": {}}
    async with AsyncMongoClient[Entity](database.location) as client:
        plan = await client.get_default_database().command({"explain": command, "verbosity": "executionStats"})
    [stage] = [each for each in plan["stages"] if "$lookup" in each]
    assert (stage["nReturned"], stage["indexesUsed"]) == (10, [f"hub_ix_{path}"]), stage
    assert stage["totalKeysExamined"] <= 10, stage
    assert stage["totalDocsExamined"] <= 10, stage
