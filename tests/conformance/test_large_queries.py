"""Queries up to the documented limits have the same answers as the reference, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stores.definitions import parse_definition
from stores.errors import InvalidEntity, InvalidQuery
from stores.matcher import matches
from stores.parse import MOST_SEGMENTS, FilterLimits, parse_filter, parse_only, parse_path, parse_sort
from stores.protocol import Engine, Upsert
from stores.query import Equal, Filter, In, Or, Query, Sort, total
from stores.records import Entity, new_id
from stores.schema import StoreDefinition
from tests.support.entities import GROUP, STORE, USER, entity, insert
from tests.support.reading import find

VALUES: list[Any] = [1, 7.5, -(2**62) - 1, 2**53 + 1, "x", "1", "", "é😀", True, False, None, [1], [9_999], [True, "x"]]
MOST = 10_000


@pytest.fixture
async def stored(engine: Engine) -> list[Entity]:
    """Entities with each value at `a`, inside an object and an array at `o.a`, and, if plain, at the indexed path
    `n`."""
    await engine.define(StoreDefinition(STORE, indexes=("n",), unique=("code",)))
    made = [entity(a=value, o={"a": value}, n=value if type(value) in (int, float, str) else None) for value in VALUES]
    made += [entity(o=[{"a": value}, 5]) for value in VALUES]
    await insert(engine, *made)
    return made


async def check(engine: Engine, stored: list[Entity], where: Filter) -> None:
    found = await find(engine, Query(where))
    assert {e["_id"] for e in found} == {e["_id"] for e in stored if matches(where, e)}


@pytest.mark.parametrize("path", ["a", "o.a", "n", "time", "owner", "_id"])
@pytest.mark.parametrize(("op", "count"), [("$in", 496), ("$nin", 496), ("$in", MOST)])
async def test_lists_of_values(engine: Engine, stored: list[Entity], path: str, op: str, count: int) -> None:
    """The documented number of values, of every kind, on every kind of path."""
    values: list[Any] = [n * 3 for n in range(count)]
    if path == "_id":
        values = [stored[0]["_id"], *(new_id() for _ in range(count - 1))]
    elif path == "owner":
        values = [*map(str, values[1:]), USER]
    else:
        values[:7] = [7.5, "x", "é😀", 2**53 + 1, -(2**62) - 1, stored[0]["time"], 9_999]
    await check(engine, stored, parse_filter({path: {op: values}}))
    if path in ("a", "o.a"):
        await check(engine, stored, parse_filter({path: {op: [*values[7:], True, None, [1]]}}))


async def test_several_lists_at_once(engine: Engine, stored: list[Entity]) -> None:
    """Together they have more values than an SQL statement may have variables."""
    short = [{f"f{n}": {"$nin": list(range(90))}} for n in range(400)]
    await check(engine, stored, parse_filter({"$and": [*short, {"a": {"$in": [*range(101), "x"]}}]}))


@pytest.mark.parametrize(
    ("path", "count"), [("a", 9), ("a", 495), ("o.a", 101), ("n", 101), ("o.a", 1_000), ("n", 1_000), ("a", MOST)]
)
async def test_all_of_many_values(engine: Engine, path: str, count: int) -> None:
    """`$all` with the documented number of values finds the arrays that contain them."""
    await engine.define(StoreDefinition(STORE, indexes=("n",)))
    values = [*range(count - 1), "x"]
    deep = path.startswith("o.")
    made = [entity({"o": {"a": v}} if deep else {path: v}) for v in (values, values[1:], [*values, 1.5], 1)]
    await insert(engine, *made)
    found = await find(engine, Query(parse_filter({path: {"$all": values}})))
    assert {e["_id"] for e in found} == {made[0]["_id"], made[2]["_id"]}


@pytest.mark.parametrize("operator", ["$or", "$and", "$nor"])
@pytest.mark.parametrize("path", ["a", "n", "_id"])
async def test_a_thousand_conditions(engine: Engine, stored: list[Entity], operator: str, path: str) -> None:
    """The maximum number of conditions, in one chain."""
    limits = FilterLimits(nodes=3_000)
    ids = [stored[3]["_id"], *(new_id() for _ in range(999))]
    other: list[Any] = [{path: ids[n]} if path == "_id" else {path: n} for n in range(1_000)]
    if operator == "$and":
        other = [{path: {"$ne": ids[n] if path == "_id" else n}} for n in range(1_000)]
    await check(engine, stored, parse_filter({operator: other}, limits=limits))


async def test_chains_inside_each_other(engine: Engine, stored: list[Entity]) -> None:
    """The maximum depth of a filter, with the maximum width that remains for each level."""
    document: dict[str, Any] = {"a": 1}
    for level in range(15):
        wide = [{"a": {"$gt": 10 * level + n}} for n in range(28)]
        document = {("$or", "$and", "$nor")[level % 3]: [*wide, document]}
    await check(engine, stored, parse_filter(document))


async def test_what_names_many_owners(engine: Engine, stored: list[Entity]) -> None:
    """The filter looks like a visibility predicate, but has ten thousand users."""
    users = (USER, *(new_id() for _ in range(MOST - 1)))
    for where in (
        Or((In(("owner",), users), In(("access",), users))),
        Or((Equal(("owner",), "nobody"), In(("group",), (*users, GROUP)), In(("branch",), users))),
    ):
        await check(engine, stored, where)


@pytest.mark.gate("sqlite")
async def test_ten_thousand_upserts(engine: Engine) -> None:
    """In one commit; half of them update existing entities."""
    await insert(engine, *(entity(code=f"c{n}") for n in range(0, MOST, 2)))
    writes = [Upsert(STORE, "code", entity(code=f"c{n}"), {"n": n}) for n in range(MOST)]
    written = await engine.commit(writes, USER)
    assert [w.rev for w in written] == [2 if n % 2 == 0 else 1 for n in range(MOST)]


@pytest.mark.parametrize("segments", [17, MOST_SEGMENTS])
async def test_long_paths(engine: Engine, segments: int) -> None:
    """A path of the maximum length works in filters and in sorts."""
    path = parse_path(".".join(["a"] * segments))
    made = [entity(n=n) for n in range(3)]
    if segments < 30:
        for n, each in enumerate(made[:2]):
            value: Any = n
            for _ in range(segments):
                value = {"a": value}
            each |= value
    await insert(engine, *made)
    await check(engine, made, Equal(path, 1))
    await check(engine, made, Equal(path, None))
    for descending in (False, True):
        found = await find(engine, Query(sort=total((Sort(path, descending), Sort(("n",), descending)))))
        expected = [2, 0, 1] if segments < 30 else [0, 1, 2]
        assert [e["n"] for e in found] == (expected[::-1] if descending else expected)


LONGER = ".".join(["a"] * (MOST_SEGMENTS + 1))


@pytest.mark.parametrize(
    "read",
    [
        lambda: parse_filter({LONGER: 1}),
        lambda: parse_sort(LONGER),
        lambda: parse_only(LONGER),
        lambda: parse_definition({"name": "s", "indexes": [LONGER]}),
        lambda: parse_definition({"name": "s", "search": [LONGER]}),
    ],
)
def test_longer_paths_are_refused(read: Callable[[], object]) -> None:
    """They are refused for their length, in a message that does not repeat the whole path."""
    with pytest.raises((InvalidQuery, InvalidEntity)) as refusal:
        read()
    assert len(str(refusal.value)) < 300


async def test_as_many_sort_fields_as_there_may_be(engine: Engine) -> None:
    """Sixteen fields, with and without indexes, over all pages."""
    await engine.define(StoreDefinition(STORE, indexes=tuple(f"f{n}" for n in range(0, 16, 2))))
    made = [entity({f"f{n}": (i >> (n % 4)) % 2 for n in range(16)}, i=i) for i in range(40)]
    await insert(engine, *made)
    sort = parse_sort(",".join(f"{'-' * (n % 3 == 0)}f{n}" for n in range(16)))
    whole = await find(engine, Query(sort=sort))
    first = await engine.find(STORE, Query(sort=sort, limit=17))
    assert whole[17:] == await find(engine, Query(sort=sort, after=first.next))
