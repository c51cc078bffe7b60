"""Aggregations for which MongoDB collects the values give the answers that its documents give one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import AsyncMongoClient

from stores.mongo import MongoEngine, grouping
from stores.mongo.aggregates import DocumentReading, GroupReading
from stores.mongo.grouping import CannotGroup, is_groupable
from stores.protocol import Engine
from stores.query import EVERYTHING
from stores.records import same
from tests.support.aggregating import asked, groups
from tests.support.engines import Database
from tests.support.entities import STORE, entity, insert, numbered

pytestmark = pytest.mark.engine("mongodb")

ID: Final = ObjectId()
VALUES: Final[list[Any]] = [
    None, 0, -0.0, 1, 1.0, Int64(1), 2.5, True, False, "a", "1", "", 2**31, 2**53, 2.0**53, Int64(2**53 + 1), 2**63 - 1,
    2.0**63, 1e300, -1e300, 1.7e308, 5e-324, 0.1, 0.2, 0.3, [], [1, 1.0, "a", None], [[1], 2], [[1], 2.0], {},
    {"b": 1}, {"b": 1.0}, {"b": [1, 2]}, {"b": [[1], 2]}, {"b": None}, {"b": {"c": 3}}, {"b": [{"c": 3}, {"c": [4]}]},
    [{"b": 1}, {"b": [2, 3]}, {}, {"b": None}, 7, [{"b": 9}]], [{"b": {"c": 5}}, {"b": [{"c": 6}, 1]}], [{"x": 1}],
    {"b": 1, "at": 1, "is": [1]}, {"c": 1}, float("nan"), float("inf"), float("-inf"), [float("nan"), 1], b"bytes", ID,
    str(ID), datetime(2026, 11, 26, 6, tzinfo=UTC), "2026-11-26T06:00:00.000Z",
]  # fmt: skip
"""Values of the hub, and values of other programs."""

EXTREMES: Final = "count,sum:v,avg:v,min:v,max:v"
ASKED: Final = [
    (f"{EXTREMES},max:w.b,sum:v.b,sum:v.b.c,max:v.b.c", by)
    for by in ("", "kind", "_rev", "v", "v.b", "v.b.c", "kind,v", "v.b,w.b", "w.b.c,kind")
]


async def write(database: Database, documents: list[dict[str, Any]]) -> None:
    """Write documents as another program does."""
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        await client.get_default_database()[STORE].insert_many(documents)


def documents() -> list[dict[str, Any]]:
    """Return a document for each value, and some without."""
    found = [{"v": v, "w": VALUES[-n], "kind": ["a", "b", ["a", "b"]][n % 3]} for n, v in enumerate(VALUES)]
    return [*found, {"v": 1}, {"kind": "a", "_rev": 2.0}, {"kind": "b", "_rev": "x"}, {}]


def readings(engine: Engine, aggregate: str, by: str = "") -> tuple[GroupReading, DocumentReading]:
    """Return both ways to read an aggregation."""
    assert isinstance(engine, MongoEngine)
    aggregation = asked(aggregate, by)
    assert is_groupable(aggregation)
    given = (engine._connection, STORE, EVERYTHING, aggregation)
    return GroupReading(*given), DocumentReading(*given)


@pytest.mark.parametrize("at_once", [1, 3, grouping.VALUES_AT_ONCE])
async def test_both_ways_agree(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """They agree for all types of values, and for lists that are divided. The value 1e300 tests the exact sum."""
    monkeypatch.setattr(grouping, "VALUES_AT_ONCE", at_once)
    await write(database, documents())
    for question in ASKED:
        grouped, by_document = readings(engine, *question)
        [found, expected] = [[[*g.by, *g.values] for g in (await way.run())[0]] for way in (grouped, by_document)]
        assert same(found, expected), question
        assert len(found) > (len(VALUES) // 3 if question[1] == "v" else 0)


async def test_many_values_of_few_groups(engine: Engine) -> None:
    """More than one part of each list, with values that are missing, null, or several."""
    kinds: list[dict[str, Any]] = [{"d": 0.1, "i": 2**62}, {"d": 7}, {"d": None}, {}, {"d": [0.2, 1.005, 5e11]}]
    await insert(engine, *(entity(s=n % 2, n=n, **kinds[n % 5]) for n in range(6_000)))
    question = ("count,sum:d,avg:d,max:d,sum:i,max:n,min:n,sum:_at", "s")
    grouped, by_document = readings(engine, *question)
    found = (await grouped.run())[0]
    assert found == (await by_document.run())[0]
    assert [group.values[4] for group in found] == [600 * 2**62] * 2
    decimals = asked("sum:d,avg:d", "s", decimals="d")
    assert is_groupable(decimals)
    # Of 600: 0.1, 7, and 0.2 + 1.005 + 500 000 000 000.
    assert await groups(engine, decimals) == [
        (s, Decimal("300000000004983"), float(Decimal("300000000004983") / 3_000)) for s in (0, 1)
    ]


async def test_decimals_are_no_numbers(engine: Engine, database: Database) -> None:
    """For the server they are equal to numbers."""
    await write(database, [{"v": 1, "n": 1}, {"v": Decimal128("1"), "n": 2}, {"v": [Decimal128("1")], "n": 4}])
    grouped, _ = readings(engine, "sum:n", "v")
    with pytest.raises(CannotGroup):
        await grouped.run()
    assert await groups(engine, asked("count,sum:n", "v")) == [(1, 1, 1), ("1", 2, 6)]
    assert await groups(engine, asked("count", "v")) == [(1, 1), ("1", 2)]
    assert await groups(engine, asked("sum:v,max:v")) == [(1, "1")]


async def test_too_many_groups_of_the_server(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be few groups of the aggregation."""
    monkeypatch.setattr(grouping, "MOST_GROUPED", 20)
    await insert(engine, *(entity(t=["x", *["y"] * n], n=n) for n in range(21)))
    grouped, _ = readings(engine, "count,sum:n", "t")
    with pytest.raises(CannotGroup):
        await grouped.run()
    assert await groups(engine, asked("count,sum:n", "t")) == [("x", 21, 210), ("y", 20, 210)]
    assert await groups(engine, asked("count", "t")) == [("x", 21), ("y", 20)]


async def test_too_long_lists(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that takes long to decode is not decoded."""
    monkeypatch.setattr(grouping, "LARGE", 10_000)
    await insert(engine, *numbered(20, long=[*range(100)]))
    grouped, _ = readings(engine, "sum:long")
    with pytest.raises(CannotGroup):
        await grouped.run()
    assert await groups(engine, asked("sum:long")) == [(99_000,)]


def test_what_the_server_cannot_group() -> None:
    for aggregate, by in (
        ("count", "time:day"),
        ("max:_id", "s"),
        ("count", "_id"),
        ("sum:_rev", ""),
        ("count", "_rev.x"),
        ("count", "a.b,a.c"),
    ):
        assert not is_groupable(asked(aggregate, by))
