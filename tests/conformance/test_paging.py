"""Keyset paging: successive pages give the whole list, for any sort."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from stores.cursor import decode_cursor, encode_cursor
from stores.errors import InvalidQuery
from stores.parse import parse_filter, parse_sort
from stores.protocol import Engine
from stores.query import CREATION_ORDER, Query, Sort
from stores.schema import StoreDefinition
from tests.support.entities import entity, insert, insert_one, numbered
from tests.support.reading import content, find, walk

VALUES: list[Any] = [
    None, 0, 1, 1.0, 2, 2, 2, -3.5, 2**53, 2**53 + 1, 2**63 - 1, "", "a", "a", "b", "é", "😀",
    True, False, True, {}, {"x": 1}, {"x": "1"}, [], [], [1, 2], [None], [[]], ["z", 0], [True, {}], {"y": []},
]  # fmt: skip
PLAIN = [v for v in VALUES if not isinstance(v, bool | dict | list)]
SORTS = ["v", "-v", "v,-w", "-v,w", "w,v", "-w,-v", "time", "-time", "_id", "-_id", "v,time", "v.x", "-v.x,w", "o.p,-v"]


def rows(values: list[Any]) -> list[dict[str, Any]]:
    """Return entities with each value in the sorted field, fields with many ties, and entities without these fields."""
    made = [entity(v=v, w=i % 3, time=i // 4, o={"p": i % 5}) for i, v in enumerate(values)]
    return made + [entity(time=i) for i in range(3)]


@pytest.mark.parametrize("indexes", [(), ("v", "w", "o.p", "v.x")], ids=["scan", "index"])
@pytest.mark.parametrize("values", [PLAIN, VALUES], ids=["plain", "mixed"])
async def test_pages_of_seven_make_the_whole_list(engine: Engine, values: list[Any], indexes: tuple[str, ...]) -> None:
    """No entity is missing or repeated, across types, ties and arrays, in both directions."""
    await engine.define(StoreDefinition("probes", indexes=indexes))
    made = rows(values)
    await insert(engine, *made, store="probes")
    for sort, where in itertools.product(map(parse_sort, SORTS), [{}, {"w": {"$gte": 1}}]):
        query = Query(parse_filter(where), sort)
        whole = await find(engine, query, store="probes")
        assert await walk(engine, query, 7, store="probes") == whole, (sort, where)
        assert len(whole) == (len(made) if not where else sum(e.get("w", 0) >= 1 for e in made))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 33, 34, 35])
async def test_every_page_size_makes_the_whole_list(engine: Engine, size: int) -> None:
    """This includes a last page that is exactly full."""
    made = rows(VALUES)
    await insert(engine, *made)
    query = Query(sort=parse_sort("-v,w"))
    assert await walk(engine, query, size) == await find(engine, query)


async def test_the_key_survives_as_a_cursor(engine: Engine) -> None:
    """A key that a client returns as text continues at the same place."""
    await insert(engine, *rows(VALUES))
    sort = parse_sort("v,w")
    whole = await find(engine, Query(sort=sort))
    for end in range(1, len(whole)):
        listing = await engine.find("things", Query(sort=sort, limit=end))
        assert listing.next is not None
        key = decode_cursor(encode_cursor(listing.next, sort), sort)
        assert await find(engine, Query(sort=sort, after=key)) == whole[end:]


async def test_a_full_last_page_says_that_it_is_the_last(engine: Engine) -> None:
    """`next` is set only if more entities follow."""
    await insert(engine, *numbered(14))
    first = await engine.find("things", Query(limit=7))
    assert first.next is not None
    second = await engine.find("things", Query(limit=7, after=first.next))
    assert len(await content(second)) == 7
    assert second.next is None


async def test_a_page_may_begin_further_on(engine: Engine) -> None:
    """An offset is counted from the key."""
    made = numbered(20)
    await insert(engine, *made)
    first = await engine.find("things", Query(limit=5))
    assert await find(engine, Query(offset=3, limit=5, after=first.next)) == made[8:13]


async def test_entities_that_come_and_go_do_not_disturb_a_walk(engine: Engine) -> None:
    """A new entity before the key does not appear, one after it does; all others appear exactly once."""
    made = numbered(20)
    await insert(engine, *made)
    first = await engine.find("things", Query(limit=10))
    await insert_one(engine, n=-1, time=1)
    late = await insert_one(engine, n=99, time=1_700_000_000_015)
    rest = await find(engine, Query(after=first.next))
    assert [e["n"] for e in rest] == [10, 11, 12, 13, 14, 15, late["n"], 16, 17, 18, 19]


async def test_a_summary_knows_nothing_of_pages(engine: Engine) -> None:
    """Its first and last entities are those of all matches."""
    made = numbered(20)
    await insert(engine, *made)
    summary = await engine.summarize("things", parse_filter({"n": {"$gte": 1}}))
    assert summary.count == 19
    assert orjson.loads(summary.last or b"") == made[19]


@pytest.mark.parametrize(
    "key", [(1, {"$where": "x"}), (1, None), ([1], "5f0000000000000000000abc"), ({"a": 1}, 5), ("x", "x"), (None, True)]
)
async def test_a_key_that_fits_no_entity_does_no_harm(engine: Engine, key: tuple[Any, ...]) -> None:
    """A made-up key gives the list from some entity on or raises InvalidQuery."""
    made = numbered(5)
    await insert(engine, *made)
    for sort in (CREATION_ORDER, (Sort(("n",)), Sort(("_id",)))):
        try:
            found = await find(engine, Query(sort=sort, after=key))
        except InvalidQuery:
            continue
        assert found == made[len(made) - len(found) :]
