"""Compound indexes serve the queries that they are for: neither engine reads more than a page, nor sorts."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest

from stores.cursor import sort_key_of
from stores.definitions import parse_definition
from stores.parse import parse_filter, parse_sort
from stores.protocol import Engine
from stores.query import CREATION_ORDER, Query, both
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.sqlite.connection import connect
from stores.sqlite.lists import read_page
from stores.sqlite.tables import StoreTable
from tests.properties.reference import answer
from tests.support.engines import Database
from tests.support.entities import GROUP, STORE, USER, entity, insert
from tests.support.plans import plan_of
from tests.support.reading import find
from tests.support.sharing import seen_by

COUNT = 2_000
PAGE = 20

INDEXES: list[Any] = [
    "status",
    "region",
    ["status", "-price"],
    ["region", "status", "time"],
    ["status", "day", "-price"],
    {"fields": ["room", "night"], "unique": True},
    {"fields": ["n"], "where": {"status": "open", "flag": {"$exists": True}}},
    ["group", "-n"],
]

SERVED: list[tuple[Entity, str, str]] = [
    ({"status": "open"}, "-price", '["status","-price"]'),
    ({"status": "open"}, "price", '["status","-price"]'),
    ({"status": "open"}, "status,-price", '["status","-price"]'),
    ({"status": "open", "price": {"$gte": 3}}, "-price", '["status","-price"]'),
    ({}, "status,-price", '["status","-price"]'),
    ({}, "-status,price", '["status","-price"]'),
    ({"region": "north", "status": "open"}, "", '["region","status","time"]'),
    ({"region": "north", "status": "open"}, "-time", '["region","status","time"]'),
    ({"status": "open", "day": 3}, "-price", '["status","day","-price"]'),
    ({"status": "open"}, "day,-price", '["status","day","-price"]'),
    ({"status": "open"}, "-day,price", '["status","day","-price"]'),
    ({}, "status,day,-price", '["status","day","-price"]'),
    ({"room": 5}, "night", '["room","night"]'),
    ({"status": "open", "flag": {"$exists": True}}, "n", '["n"]'),
    ({"status": {"$in": ["open"]}, "flag": 1}, "-n", '["n"]'),
    ({"group": GROUP}, "-n", '["group","-n"]'),
]


def made(n: int) -> Entity:
    fields: Entity = {
        "n": n,
        "status": ("open", "held", "done")[n % 3],
        "price": None if n % 40 == 0 else n * 7 % 10,
        "day": n % 5,
        "region": ("north", "south")[n % 2],
        "room": n % 10,
        "night": n // 10,
        "time": 1_700_000_000_000 + n // 50,
    }
    return entity(fields | ({"flag": 1} if n % 2 == 0 else {}))


@pytest.fixture
async def entities(engine: Engine) -> list[Entity]:
    await engine.define(parse_definition({"name": STORE, "indexes": INDEXES}))
    entities = [made(n) for n in range(COUNT)]
    await insert(engine, *entities)
    return entities


def query_of(filter: Entity, sort: str) -> Query:
    return Query(parse_filter(filter), parse_sort(sort) if sort else CREATION_ORDER, limit=PAGE)


async def check_served(engine: Engine, query: Query, index: str, expected: list[Entity]) -> None:
    plan = await plan_of(engine, query)
    assert any(index in name for name in plan.indexes), (query, plan.text)
    assert not plan.sorts, (query, plan.text)
    assert plan.read < 8 * PAGE, (query, plan)
    assert await find(engine, query) == expected, query


async def test_a_page_at_any_depth_reads_a_page(engine: Engine, entities: list[Entity]) -> None:
    """The first page, one from the middle and the last one read a few entries of the index, in its order, although
    many entities have equal values."""
    for filter, sort, index in SERVED:
        query = query_of(filter, sort)
        whole = answer(entities, query)
        await check_served(engine, query, index, whole[:PAGE])
        for place in {len(whole) // 2, max(0, len(whole) - PAGE // 2)} - {0}:
            after = replace(query, after=sort_key_of(whole[place - 1], query.sort))
            await check_served(engine, after, index, whole[place : place + PAGE])


async def test_a_unique_index_leads_to_its_entity(engine: Engine, entities: list[Entity]) -> None:
    query = query_of({"room": 5, "night": 7}, "")
    plan = await plan_of(engine, query)
    assert any('["room","night"]' in name for name in plan.indexes), plan.text
    assert plan.read < 10, plan
    assert [e["n"] for e in await find(engine, query)] == [75]


async def test_it_serves_users_who_see_much(engine: Engine, entities: list[Entity]) -> None:
    """The condition of a user is tested on the entries that the index leads to."""
    for filter in ({"status": "open"}, {"status": "open", "day": 3}):
        query = query_of(filter, "-price")
        seen = replace(query, where=both(query.where, seen_by(USER, GROUP)))
        plan = await plan_of(engine, seen)
        assert not plan.sorts, plan.text
        assert plan.read < 20 * PAGE, plan
        assert await find(engine, seen) == answer(entities, query)[:PAGE]


async def test_an_index_of_a_part_serves_no_more_than_this_part(engine: Engine, entities: list[Entity]) -> None:
    """A filter that reaches beyond the part is answered without the index."""
    for status in ({"status": {"$in": ["open", "held"]}}, {}, {"status": "held"}):
        query = query_of({**status, "flag": 1}, "n")
        plan = await plan_of(engine, query)
        assert not any('["n"]' in name for name in plan.indexes), plan.text
        assert await find(engine, query) == answer(entities, query)[:PAGE]


@pytest.mark.engine("sqlite")
async def test_a_unique_index_of_system_fields_is_not_read_for_its_order(engine: Engine) -> None:
    """It has expressions in the place of columns, so that its errors bear its name: no query can seek in it."""
    index = {"fields": ["owner", "time"], "unique": True}
    await engine.define(parse_definition({"name": STORE, "indexes": [index]}))
    entities = [made(n) | {"time": 1_700_000_000_000 + n, "owner": GROUP if n % 100 else USER} for n in range(COUNT)]
    await insert(engine, *entities)
    query = query_of({"owner": USER}, "")
    plan = await plan_of(engine, query)
    assert plan.read < 8 * PAGE, plan.text
    assert await find(engine, query) == answer(entities, query)[:PAGE]


@pytest.mark.engine("sqlite")
async def test_a_list_while_the_index_goes(
    engine: Engine, entities: list[Entity], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list may be read when the index is gone from the file, but the engine does not know it yet."""
    query = query_of({"status": "open", "flag": {"$exists": True}}, "n")
    wanted, read = answer(entities, query)[:PAGE], []
    adopt = StoreTable.adopt

    def adopted(known: StoreTable, changed: StoreTable) -> StoreTable:
        with closing(connect(Path(database.location))) as connection, suppress(apsw.Error):
            read.append(read_page(connection, known, query, PAGE, None)[1])
        return adopt(known, changed)

    monkeypatch.setattr(StoreTable, "adopt", adopted)
    assert await find(engine, query) == wanted
    await engine.define(StoreDefinition(STORE))
    assert [[orjson.loads(doc) for doc in docs] for docs in read] == [wanted]
    assert await find(engine, query) == wanted


async def test_a_list_without_the_index_reads_all(engine: Engine, entities: list[Entity]) -> None:
    """The measure of these tests tells an index from a scan."""
    await engine.define(parse_definition({"name": STORE}))
    query = query_of({"status": "open"}, "-price")
    plan = await plan_of(engine, query)
    assert plan.sorts
    assert plan.read > COUNT / 2
    assert await find(engine, query) == answer(entities, query)[:PAGE]
