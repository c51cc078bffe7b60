"""Aggregations: both engines feed the same accumulator with the same entities, from one snapshot with its position."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import AsyncMongoClient

from stores.aggregation import MOST_GROUPS
from stores.definitions import parse_definition
from stores.errors import InvalidQuery, NotFound, ReadTimeout
from stores.parse import parse_filter
from stores.protocol import Delete, Engine, Update
from stores.query import EVERYTHING
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from stores.sqlite.aggregates import ordered_value
from stores.sqlite.compile import Compiler
from tests.support.aggregating import asked, groups
from tests.support.engines import OPTIONS, Database, opened
from tests.support.entities import GROUP, STORE, USER, entity, insert, insert_one, numbered
from tests.support.reading import changes_since


async def test_groups_of_a_filter(engine: Engine) -> None:
    rows = [{"s": s, "n": n} for s, n in (("a", 1), ("b", 2), ("a", 3), (None, 4), ("c", 50))]
    await insert(engine, *map(entity, rows))
    below = parse_filter({"n": {"$lt": 50}})
    assert await groups(engine, asked("count,sum:n,avg:n,min:n,max:n", "s"), below) == [
        (None, 1, 4, 4.0, 4, 4),
        ("a", 2, 4, 2.0, 1, 3),
        ("b", 1, 2, 2.0, 2, 2),
    ]
    assert await groups(engine, asked("count")) == [(5,)]
    assert await groups(engine, asked("count,sum:n"), parse_filter({"n": 0})) == [(0, 0)]
    assert await groups(engine, asked("count"), parse_filter({"n": 0})) == [(0,)]
    assert await groups(engine, asked("count", "s"), parse_filter({"n": 0})) == []
    assert await groups(engine, asked("sum:n", "s", "-sum:n", 2)) == [("c", 50), (None, 4)]


async def test_only_the_needed_parts_of_an_entity_decide(engine: Engine) -> None:
    """A path and another one inside it, with arrays on the way."""
    await insert_one(engine, lines=[{"p": "x", "n": 2, "more": "y" * 1_000}, {"p": "y", "n": 3}, 7], n=5)
    await insert_one(engine, lines={"p": "x", "n": [1, 1]})
    await insert_one(engine, lines=[])
    found = await groups(engine, asked("count,sum:lines.n,max:lines", "lines.p"))
    assert [row[:3] for row in found] == [(None, 1, 0), ("x", 2, 7), ("y", 1, 5)]
    assert found[0][3] is None


async def test_sums_are_exact(engine: Engine) -> None:
    """Integers beyond 64 bits, decimals, and doubles whose sum drifts when they are added one after the other."""
    await insert(engine, *(entity(i=2**63 - 1, d=0.1, f=0.1) for _ in range(1_000)))
    await insert_one(engine, i=-1, d=999_999_999_999.999, f=1e16)
    [(integers, decimals, doubles, average)] = await groups(engine, asked("sum:i,sum:d,sum:f,avg:d", decimals="d"))
    assert integers == 1_000 * (2**63 - 1) - 1
    assert decimals == Decimal("1000000000099.999")
    assert doubles == 1e16 + 100
    assert average == float(Decimal("1000000000099.999") / 1_001)


async def test_system_fields(engine: Engine) -> None:
    await insert(engine, entity(time=0, access=[USER, "5f00000000000000000000a9"]), entity(time=86_399_999, _rev=3))
    assert await groups(engine, asked("count,sum:_rev", "time:day,owner,group")) == [("1970-01-01", USER, GROUP, 2, 4)]
    assert await groups(engine, asked("count,max:time", "access")) == [
        (None, 1, 86_399_999),
        (USER, 1, 0),
        ("5f00000000000000000000a9", 1, 0),
    ]
    made = await insert_one(engine)
    assert (made["_id"], 1) in await groups(engine, asked("count", "_id"))
    assert await groups(engine, asked("max:_id")) == [(made["_id"],)]


async def test_the_hour_that_comes_twice(engine: Engine) -> None:
    start = round(datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp() * 1000)
    await insert(engine, *(entity(time=start + n * 1_800_000) for n in range(8)))
    assert await groups(engine, asked("count", "time:hour@America/Toronto")) == [
        ("2026-11-01 00", 2),
        ("2026-11-01 01-04:00", 2),
        ("2026-11-01 01-05:00", 2),
        ("2026-11-01 02", 2),
    ]


async def test_more_groups_than_allowed(engine: Engine) -> None:
    """Over an indexed path (`code` is unique) and over another one."""
    await insert(engine, *numbered(MOST_GROUPS))
    assert len(await groups(engine, asked("count", "n"))) == MOST_GROUPS
    await insert(engine, *(entity(code=n) for n in range(MOST_GROUPS + 1)))
    for by in ("n", "code"):
        with pytest.raises(InvalidQuery) as refused:
            await groups(engine, asked("count", by, limit=1))
        assert refused.value.limit_name == "MOST_GROUPS"


async def test_counts_by_one_field_are_as_any_others(engine: Engine) -> None:
    """The database may count, whatever the values are."""
    await engine.define(StoreDefinition("plain", indexes=("v", "a.v")))
    values: list[Any] = [None, 1, 1.0, 2**53, 2.0**53, 2**53 + 1, -0.0, 0, "1", "a", "a", "é", 0.1, 5e-324, 1e300]
    mixed = [*values, True, [], ["a", "a", 1, None], [["a"]], {"a": 1}, {"a": 1.0}, [{"v": 1}, {"v": [2]}, {}]]
    await insert(engine, *(entity(v=value, a={"v": value}) for value in values), entity(), store="plain")
    for rows in (values, mixed):
        await insert(engine, *(entity(v=value, a={"v": value}) for value in rows))
    for store in ("plain", STORE):
        for path in ("v", "a.v"):
            counted = await groups(engine, asked("count", path), store=store)
            assert counted == [row[:2] for row in await groups(engine, asked("count,max:_rev", path), store=store)]
            assert sum(row[1] for row in counted) >= len(values)


@pytest.mark.engine("sqlite")
async def test_sqlite_counts_only_what_is_in_order(engine: Engine) -> None:
    """It would sort the values of a path that is not the first one of an index."""
    assert isinstance(engine, SQLiteEngine)
    indexes = ["single", ["first", "second"], {"fields": ["part"], "where": {"n": 1}}]
    await engine.define(parse_definition({"name": "plain", "indexes": indexes, "unique": ["code"]}))
    compiler = Compiler(engine._table("plain"))
    for path in ("single", "first", "code", "time", "owner"):
        assert ordered_value(compiler, (path,)) is not None
    for path in ("second", "part", "unknown"):
        assert ordered_value(compiler, (path,)) is None
    await insert(engine, *(entity(first=1, second=n % 2) for n in range(5)), store="plain")
    assert await groups(engine, asked("count", "second"), store="plain") == [(0, 3), (1, 2)]


async def test_the_answer_is_as_of_its_position(engine: Engine) -> None:
    """The changes after it are those that the groups do not contain."""
    made = [await insert_one(engine, n=n) for n in range(3)]
    found = await engine.aggregate(STORE, EVERYTHING, asked("sum:n"))
    listing = await engine.aggregate(STORE, EVERYTHING, asked("count"))
    assert await changes_since(engine.feed, listing.position) == []
    await engine.commit([Update(STORE, made[0]["_id"], {"n": 10})], USER)
    await engine.commit([Delete(STORE, made[1]["_id"])], USER)
    total = found.groups[0].values[0]
    for change in await changes_since(engine.feed, found.position):
        total += number(change.after) - number(change.before)
    assert [(total,)] == await groups(engine, asked("sum:n")) == [(12,)]


def number(image: Entity | None) -> int:
    return image["n"] if image else 0


async def test_a_store_that_is_empty_or_not_there(engine: Engine) -> None:
    """An empty store has a position too."""
    await engine.define(StoreDefinition("empty"))
    found = await engine.aggregate("empty", EVERYTHING, asked("count,max:n", "s"))
    assert found.groups == []
    await insert_one(engine, store="empty", s=1)
    assert len(await changes_since(engine.feed, found.position)) == 1


@pytest.mark.engine("sqlite")
async def test_a_store_that_is_unknown(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.aggregate("nowhere", EVERYTHING, asked("count"))


async def test_an_aggregation_of_many_entities(engine: Engine) -> None:
    """They come in several replies of a server."""
    for start in range(0, 12_000, 3_000):
        await insert(engine, *(entity(n=n, s="odd" if n % 2 else "even") for n in range(start, start + 3_000)))
    assert await groups(engine, asked("count,sum:n,max:n", "s")) == [
        ("even", 6_000, 35_994_000, 11_998),
        ("odd", 6_000, 36_000_000, 11_999),
    ]


async def test_large_entities(engine: Engine) -> None:
    """Only the needed fields are kept in memory or sent by a server."""
    await insert(engine, *(entity(n=n, text="x" * 1_000_000) for n in range(30)))
    assert await groups(engine, asked("count,sum:n")) == [(30, 435)]
    assert await groups(engine, asked("max:text,sum:n")) == [("x" * 1_000_000, 435)]


async def test_counts_by_large_values(engine: Engine) -> None:
    """They are refused for their size, also when the database itself could not hold them."""
    for start in range(0, 120, 10):
        await insert(engine, *(entity(text=f"{n:03}" + "x" * 999_990) for n in range(start, start + 10)))
    with pytest.raises(InvalidQuery) as refused:
        await groups(engine, asked("count", "text"))
    assert refused.value.limit_name == "MOST_GROUP_BYTES"
    assert await groups(engine, asked("count,min:text")) == [(120, "000" + "x" * 999_990)]
    assert await groups(engine, asked("count", "text"), parse_filter({"text": {"$startswith": "00100"}})) == []


async def test_the_order_of_entities_does_not_decide_whether_groups_are_too_large(engine: Engine) -> None:
    """Whether the long or the short texts come first: what the groups hold in the end is bounded, as documented."""
    for store, texts in (("falling", ["z" * 50_000, "a"]), ("rising", ["a", "z" * 50_000])):
        await engine.define(StoreDefinition(store))
        for text in texts:
            await insert(engine, *(entity(n=n, s=text) for n in range(100)), store=store)
        assert await groups(engine, asked("min:s", "n"), store=store) == [(n, "a") for n in range(100)]
        with pytest.raises(InvalidQuery) as refused:
            await groups(engine, asked("max:s", "n"), store=store)
        assert refused.value.limit_name == "MOST_GROUP_BYTES"


async def test_an_aggregation_that_takes_too_long(database: Database) -> None:
    async with opened(database.engine(replace(OPTIONS, read_timeout=0.001))) as engine:
        await engine.define(StoreDefinition(STORE))
        for _ in range(6):
            await insert(engine, *numbered(5_000, v=[1, 2]))
        for aggregation in (asked("sum:n", "v"), asked("count", "n:day")):
            with pytest.raises(ReadTimeout):
                await engine.aggregate(STORE, EVERYTHING, aggregation)


async def test_the_work_on_one_entity_is_limited_too(database: Database) -> None:
    """Each of many groups takes every element of another array."""
    async with opened(database.engine(replace(OPTIONS, read_timeout=0.2))) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert_one(engine, n=[*range(90_000)], t=[*range(900)])
        with pytest.raises(ReadTimeout):
            await engine.aggregate(STORE, EVERYTHING, asked("sum:n", "t"))


@pytest.mark.engine("mongodb")
async def test_documents_of_other_programs(engine: Engine, database: Database) -> None:
    """Values that JSON lacks count as the text by which lists show them; a missing revision is 0."""
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        other = client.get_default_database()[STORE]
        id = ObjectId()
        await other.insert_many(
            [
                {"at": datetime(2026, 11, 26, 6, tzinfo=UTC), "n": Int64(5), "v": id},
                {"at": "2026-11-26", "n": Decimal128("1.5"), "v": str(id)},
                {"at": datetime(2026, 12, 1, tzinfo=UTC), "n": float("nan"), "_rev": 2.0},
            ]
        )
    assert await groups(engine, asked("count,sum:n", "at:month")) == [("2026-11", 2, 5), ("2026-12", 1, 0)]
    assert await groups(engine, asked("count", "v")) == [(None, 1), (str(id), 2)]
    assert await groups(engine, asked("count,sum:_rev", "_rev")) == [(0, 2, 0), (2, 1, 2)]
