"""Single entities, lists and summaries: content, order and ranges."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from stores import query
from stores.errors import InvalidQuery
from stores.matcher import matches
from stores.parse import parse_only, parse_sort
from stores.projection import compile_projection
from stores.protocol import Engine
from stores.query import And, Compare, Equal, Projection, Query
from stores.records import same
from tests.support.entities import STORE, entity, insert, insert_one, numbered
from tests.support.reading import content, find, get, text

ODD = {
    "plain": 1,
    "it's": "single",
    'say "hi"': "double",
    "back\\slash": "\\",
    "two words": " x ",
    "naïve": "café",
    "日本語": "漢字",
    "😀": "😀👩‍👩‍👧‍👦",
    "semi;colon--": "'; DROP TABLE things; --",
    "tab\tline\n": "\t\n\r\x01\u2028",
    "a[0]": [],
    "dollar$": "$",
    "%_*": "%_*",
    "-minus": {"x-y": {"#": 1}},
    "x" * 200: "long",
}

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 - 1,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
    2**31,
    -(2**31) - 1,
    0.1,
    -0.5,
    1.0,
    1e300,
    5e-324,
    1.7976931348623157e308,
    9.007199254740993e15,
    1e20,
    123456.789012345,
    "",
    "x" * 70_000,
    [],
    {},
    [[], {}, None, [None]],
    {"a": {"b": {"c": [1, {"d": 2}]}}},
    [1, "1", True, None, 1.5],
]


async def test_every_value_comes_back_as_it_went_in(engine: Engine) -> None:
    """JSON values of every type survive, integers exactly, floats to the last bit."""
    made = entity(values=VALUES, **{f"v{i}": value for i, value in enumerate(VALUES)})
    await insert(engine, made)
    read = await get(engine, made["_id"])
    assert same(read, made)
    assert [type(v) for v in (read or {})["values"]] == [type(v) for v in VALUES]
    assert (await engine.entities(STORE, Query()))[0] == read


async def test_every_field_name_is_kept(engine: Engine) -> None:
    """Names may contain quotes, backslashes, spaces, other scripts and emoji."""
    made = await insert_one(engine, ODD)
    assert same({k: v for k, v in made.items() if k in ODD}, ODD)
    for name, value in ODD.items():
        assert [e["_id"] for e in await find(engine, Query(Equal((name,), value)))] == [made["_id"]], name
        shown = await find(engine, projection=Projection(((name,),)))
        assert shown == [{"_id": made["_id"], name: value}]
        assert await find(engine, Query(sort=query.total((query.Sort((name,)),)))) == [made]


async def test_null_is_stored_as_null(engine: Engine) -> None:
    """A null field exists; a missing field does not."""
    made = await insert_one(engine, a=None)
    assert "a" in (await get(engine, made["_id"]) or {})
    assert await find(engine, Query(query.Exists(("a",)))) == [made]
    assert await find(engine, Query(query.Exists(("b",)))) == []


async def test_get_gives_the_entity_and_its_revision(engine: Engine) -> None:
    """It returns the JSON text and the revision."""
    made = await insert_one(engine, n=1)
    found = await engine.get(STORE, made["_id"])
    assert found is not None
    assert orjson.loads(found[0]) == made
    assert found[1] == 1


@pytest.mark.parametrize("id", ["5f0000000000000000000fff", "", "nonsense", "5F", "'", "x" * 24])
async def test_get_of_what_is_not_there_is_none(engine: Engine, id: str) -> None:
    """This holds for unknown and malformed ids."""
    await insert_one(engine)
    assert await engine.get(STORE, id) is None


async def test_get_sees_only_what_where_allows(engine: Engine) -> None:
    """For an entity that does not match `where` it returns None."""
    made = await insert_one(engine, n=1)
    assert await get(engine, made["_id"], where=Equal(("n",), 1)) == made
    assert await get(engine, made["_id"], where=Equal(("n",), 2)) is None
    assert await get(engine, made["_id"], where=query.NOTHING) is None


async def test_reads_at_once_do_not_mix(engine: Engine) -> None:
    """Each of many concurrent reads gets the answer for its own id, `where` and projection. `True` and 1 are different
    values."""
    made = [await insert_one(engine, n=n % 2, flag=n % 2 == 1, secret=n) for n in range(40)]
    wheres = [query.EVERYTHING, Equal(("n",), 1), Equal(("flag",), True), Equal(("n",), True)]
    projections = [Projection(), Projection(hidden=frozenset({"secret"})), Projection(only=(("n",),))]
    asked = [*itertools.product(made, wheres, projections)]
    at_once = await asyncio.gather(*(get(engine, e["_id"], where=w, projection=p) for e, w, p in asked))
    for (each, where, projection), found in zip(asked, at_once, strict=True):
        visible = matches(where, each)
        assert found == (compile_projection(projection)(each) if visible else None)


async def test_a_reader_who_goes_away_harms_no_other(engine: Engine) -> None:
    """Half of the concurrent readers are cancelled; the others are answered."""
    made = [await insert_one(engine, n=n) for n in range(20)]
    reads = [asyncio.ensure_future(get(engine, entity["_id"])) for entity in made]
    await asyncio.sleep(0)
    for read in reads[::2]:
        read.cancel()
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert found[1::2] == made[1::2]
    assert await get(engine, made[0]["_id"]) == made[0]


async def test_large_entities_read_at_once(engine: Engine) -> None:
    """Together they exceed one reply of the database; all are returned completely."""
    made = [await insert_one(engine, n=n, text="x" * 1_000_000) for n in range(40)]
    assert await asyncio.gather(*(get(engine, entity["_id"]) for entity in made)) == made


async def test_an_empty_store_gives_an_empty_list(engine: Engine) -> None:
    """The list is an empty array without a next page, and the summary is empty."""
    listing = await engine.find(STORE, Query())
    assert await text(listing) == b"[]"
    assert listing.next is None
    summary = await engine.summarize(STORE, query.EVERYTHING)
    assert (summary.count, summary.first, summary.last) == (0, None, None)
    assert await engine.entities(STORE, Query()) == []


async def test_the_default_order_is_creation(engine: Engine) -> None:
    """Entities are sorted by time, not by insertion; the id breaks ties."""
    entities = [*numbered(20), entity(n=-1, time=1_700_000_000_003, _id="000000000000000000000001")]
    await insert(engine, *reversed(entities))
    expected = sorted(entities, key=lambda e: (e["time"], e["_id"]))
    assert await find(engine) == expected
    assert await engine.entities(STORE, Query()) == expected


@pytest.mark.parametrize("offset", [0, 1, 7, 19, 20, 21, 1_000])
@pytest.mark.parametrize("limit", [0, 1, 7, 20, 10_000])
async def test_offset_and_limit_cut_a_stretch(engine: Engine, offset: int, limit: int) -> None:
    """The result is that range of the whole list, and is empty beyond its end."""
    entities = numbered(20)
    await insert(engine, *entities)
    expected = entities[offset : offset + limit]
    listing = await engine.find(STORE, Query(offset=offset, limit=limit))
    assert await content(listing) == expected
    assert (listing.next is not None) == (limit > 0 and offset + limit < 20)
    assert await engine.entities(STORE, Query(offset=offset, limit=limit)) == expected


MIXED: list[tuple[str, dict[str, Any]]] = [
    ("empty", {"v": []}),
    ("missing", {}),
    ("null", {"v": None}),
    ("low", {"v": -1.5}),
    ("one", {"v": 1}),
    ("one.0", {"v": 1.0}),
    ("two", {"v": [9, 2]}),
    ("big", {"v": 2**53}),
    ("bigger", {"v": 2**53 + 1}),
    ("text", {"v": "A"}),
    ("lower", {"v": "a"}),
    ("emoji", {"v": "😀"}),
    ("object", {"v": {"x": 1}}),
    ("object2", {"v": {"x": 2}}),
    ("array", {"v": [[1]]}),
    ("false", {"v": False}),
    ("true", {"v": True}),
]


async def insert_mixed(engine: Engine) -> None:
    names = [entity(name=name, time=i, **fields) for i, (name, fields) in enumerate(MIXED)]
    await insert(engine, *names)


async def test_types_sort_in_the_order_of_mongodb(engine: Engine) -> None:
    """The order is: empty arrays, null and missing, numbers, strings, objects, arrays, booleans. An array sorts by its
    least element."""
    await insert_mixed(engine)
    listed = [e["name"] for e in await find(engine, Query(sort=parse_sort("v,time")))]
    assert listed == [name for name, _ in MIXED]


async def test_descending_sorts_an_array_by_its_greatest(engine: Engine) -> None:
    """The types are in reverse order, and [9, 2] sorts as 9."""
    await insert_mixed(engine)
    listed = [e["name"] for e in await find(engine, Query(sort=parse_sort("-v,-time")))]
    assert listed == [name for name, _ in reversed(MIXED)]


async def test_several_fields_sort_one_after_another(engine: Engine) -> None:
    """The second field breaks ties of the first; each has its own direction."""
    entities = [entity(a=a, b=b) for a, b in itertools.product([2, 1, None], ["x", "y"])]
    await insert(engine, *entities)
    listed = [(e["a"], e["b"]) for e in await find(engine, Query(sort=parse_sort("-a,b")))]
    assert listed == [(2, "x"), (2, "y"), (1, "x"), (1, "y"), (None, "x"), (None, "y")]


async def test_sorting_by_the_id_alone(engine: Engine) -> None:
    """Ids sort by their text, in both directions."""
    entities = numbered(10)
    await insert(engine, *entities)
    ids = sorted(e["_id"] for e in entities)
    assert [e["_id"] for e in await find(engine, Query(sort=parse_sort("_id")))] == ids
    assert [e["_id"] for e in await find(engine, Query(sort=parse_sort("-_id")))] == ids[::-1]


async def test_paths_sort_inside_objects_and_arrays(engine: Engine) -> None:
    """A dotted path sorts by the values at the path; two paths may share an array."""
    rows = [
        entity(n=0, a=[{"b": 5, "c": 1}, {"b": 1, "c": 9}]),
        entity(n=1, a={"b": 3, "c": 0}),
        entity(n=2, a=[{"b": 1, "c": 2}]),
        entity(n=3, a=7),
    ]
    await insert(engine, *rows)
    assert [e["n"] for e in await find(engine, Query(sort=parse_sort("a.b,a.c")))] == [3, 2, 0, 1]
    assert [e["n"] for e in await find(engine, Query(sort=parse_sort("-a.b,a.c")))] == [0, 1, 2, 3]


async def test_two_arrays_cannot_both_sort(engine: Engine) -> None:
    """`find` and `entities` raise InvalidQuery."""
    await insert_one(engine, a=[1, 2], b=[3, 4])
    asked = Query(sort=parse_sort("a,b"))
    with pytest.raises(InvalidQuery):
        await find(engine, asked)
    with pytest.raises(InvalidQuery):
        await engine.entities(STORE, asked)


async def test_a_summary_counts_and_shows_both_ends(engine: Engine) -> None:
    """It has the number of matches, and the first and last of them by creation."""
    entities = numbered(10)
    await insert(engine, *reversed(entities))
    summary = await engine.summarize(STORE, Compare(("n",), "gte", 4), Projection((("n",),)))
    assert summary.count == 6
    assert orjson.loads(summary.first or b"") == {"_id": entities[4]["_id"], "n": 4}
    assert orjson.loads(summary.last or b"") == {"_id": entities[9]["_id"], "n": 9}


async def test_a_projection_shows_only_what_it_names(engine: Engine) -> None:
    """It shows the named paths and the id, in arrays for each element, and never a hidden field."""
    made = await insert_one(engine, a=1, b={"c": 2, "d": 3}, l=[{"c": 1, "d": 2}, 5], password="secret")
    id = {"_id": made["_id"]}
    hidden = frozenset({"password"})
    shown = [
        (Projection(parse_only("a,b.c")), {"a": 1, "b": {"c": 2}}),
        (Projection(parse_only("l.c")), {"l": [{"c": 1}]}),
        (Projection(parse_only("missing")), {}),
        (Projection(parse_only("a,password"), hidden), {"a": 1}),
        (Projection(parse_only("password.x"), hidden), {}),
        (Projection(None, hidden), {k: v for k, v in made.items() if k not in ("_id", "password")}),
    ]
    for projection, expected in shown:
        assert await find(engine, projection=projection) == [id | expected]
        assert await get(engine, made["_id"], projection=projection) == id | expected


async def test_a_list_does_not_show_what_where_leaves_out(engine: Engine) -> None:
    """`find`, `entities` and `summarize` apply the filter."""
    await insert(engine, *numbered(10))
    where = And((Compare(("n",), "gt", 2), Compare(("n",), "lt", 5)))
    assert [e["n"] for e in await find(engine, Query(where))] == [3, 4]
    assert [e["n"] for e in await engine.entities(STORE, Query(where))] == [3, 4]
    assert (await engine.summarize(STORE, where)).count == 2


async def test_a_long_list_arrives_in_pieces(engine: Engine) -> None:
    """A list of 10 000 entities is a stream of JSON text, complete and in order."""
    entities = numbered(10_050, text="x" * 200)
    for start in range(0, len(entities), 2_500):
        await insert(engine, *entities[start : start + 2_500])
    listing = await engine.find(STORE, Query(limit=10_000))
    assert isinstance(listing.body, AsyncIterator)
    assert listing.next is not None
    assert [e["n"] for e in await content(listing)] == list(range(10_000))
    rest = await engine.find(STORE, Query(limit=10_000, after=listing.next))
    assert [e["n"] for e in await content(rest)] == list(range(10_000, 10_050))
    assert rest.next is None


async def test_a_long_list_stands_for_one_moment(engine: Engine) -> None:
    """Writes during the streaming are not in the list, but in the changes after its position."""
    await insert(engine, *numbered(5_000, text="x" * 200))
    listing = await engine.find(STORE, Query())
    late = await insert_one(engine, n=-1, time=1)
    assert sorted(e["n"] for e in await content(listing)) == list(range(5_000))
    assert [c.id for c in (await engine.feed.read(listing.position)).changes] == [late["_id"]]


async def test_a_list_that_nobody_reads_to_the_end_harms_nobody(engine: Engine) -> None:
    """A reader that stops midway does not affect other readers."""
    await insert(engine, *numbered(5_000, text="x" * 200))
    for _ in range(20):
        listing = await engine.find(STORE, Query())
        assert not isinstance(listing.body, bytes)
        await anext(listing.body)
        await listing.body.aclose()  # type: ignore[attr-defined]
    assert len(await find(engine)) == 5_000
    await insert_one(engine, n=0)


@pytest.mark.parametrize("size", [10, 300_000])
async def test_entities_for_the_hub_itself_are_bounded_in_bytes(engine: Engine, size: int) -> None:
    """The last one is that with which there are enough; there is at least one."""
    written = await insert(engine, *(entity(text="x" * size, time=n) for n in range(9)))
    each = len(written[0].entity)

    async def read(most: int | None, limit: int = 9) -> list[str]:
        return [e["_id"] for e in await engine.entities(STORE, Query(limit=limit), most)]

    ids = [orjson.loads(one.entity)["_id"] for one in written]
    assert [await read(most) for most in (None, 1, 3 * each - 5, 3 * each + 5)] == [ids, ids[:1], ids[:3], ids[:4]]
    assert await read(100 * each) == ids
    assert await read(100 * each, 2) == ids[:2]
