"""Writes that alter nothing are not done: no revision, no change, no history, and they are not counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stores.protocol import Engine, Update, UpdateMany, Upsert, Write, Written
from stores.query import EVERYTHING, Equal
from stores.records import Entity, now_ms
from tests.support.entities import STORE, USER, entity, insert, insert_one, value
from tests.support.reading import trail

WHOLE: Entity = {
    "n": 1,
    "x": 0.5,
    "yes": True,
    "none": None,
    "text": "é" * 20,
    "long": "a" * 5_000,
    "list": [1, "b", None],
    "nested": {"a": {"b": [1, {"c": 2}], "e": {}}, "d": []},
    "rows": [{"k": 1, "v": [True]}, [1, [2]]],
    "$odd".removeprefix("$") + " näme": "ok",
}
EQUAL: list[Entity] = [
    {},
    *({name: item} for name, item in WHOLE.items()),
    {"n": 1.0, "x": 0.5},
    {"nested": {"d": [], "a": {"e": {}, "b": [1, {"c": 2}]}}},
    {"rows": [{"v": [True], "k": 1}, [1, [2]]]},
    WHOLE,
]
OTHER: list[Entity] = [
    {"n": 2},
    {"n": True},
    {"n": "1"},
    {"yes": 1},
    {"none": 0},
    {"new": None},
    {"list": "b"},
    {"list": None},
    {"list": ["b", 1, None]},
    {"text": "e" * 20},
    {"long": "a" * 5_001},
    {"nested": {"a": {"b": [1, {"c": 2}], "e": {}}, "d": None}},
    {"nested": {"a": {"b": [1, {"c": 2.5}], "e": {}}, "d": []}},
    {"nested": {"d": []}},
    {"rows": [{"k": 1, "v": [1]}, [1, [2]]]},
    {"rows": [[1, [2]], {"k": 1, "v": [True]}]},
    {"n": 1, "x": 0.6},
]


def stamped(changes: Entity) -> Entity:
    return {**changes, "_at": now_ms() + 5_000}


async def made(engine: Engine) -> Entity:
    return await insert_one(engine, {**WHOLE, "code": "c"})


def writes(changes: Entity, there: Entity, *, forced: bool = False) -> list[Write]:
    """Return the same change as every kind of write."""
    more = stamped(changes)
    whole = stamped({n: v for n, v in there.items() if not n.startswith("_")} | changes)
    return [
        Update(STORE, there["_id"], more, forced=forced),
        Update(STORE, there["_id"], whole, replace=True, forced=forced),
        Upsert(STORE, "code", entity(code="c"), more, forced=forced),
        UpdateMany(STORE, Equal(("_id",), there["_id"]), more, 10, forced=forced),
    ]


async def outcome(engine: Engine, write: Write, together: bool) -> Written:
    """Commit the write alone, or together with another one."""
    if not together:
        return (await engine.commit([write], USER))[0]
    return (await engine.commit([write, UpdateMany(STORE, Equal(("_id",), "no"), {"n": 0}, 1)], USER))[0]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", range(4), ids=["merge", "replace", "upsert", "bulk"])
async def test_equal_values_are_not_written(engine: Engine, kind: int, together: bool) -> None:
    """This holds for values of every type and any order of members; the answer is the unchanged entity."""
    there = await made(engine)
    position = await engine.feed.position()
    for changes in EQUAL:
        written = await outcome(engine, writes(changes, there)[kind], together)
        assert written.count == 0, changes
        if kind < 3:
            assert (value(written), written.rev) == (there, 1)
    assert (await engine.feed.read(position)).changes == []
    entries, _ = await trail(engine, STORE, there["_id"])
    assert [e.op for e in entries] == ["insert"]


@pytest.mark.parametrize("kind", range(4), ids=["merge", "replace", "upsert", "bulk"])
async def test_any_difference_is_written(engine: Engine, kind: int) -> None:
    """Examples are another type, another order of items, and a null in place of a missing value."""
    for changes in OTHER:
        there = await insert_one(engine, {**WHOLE, "code": "c"})
        written = await outcome(engine, writes(changes, there)[kind], False)
        assert written.count == 1, changes
        found = await engine.get(STORE, there["_id"])
        assert found is not None
        assert found[1] == 2
        await engine.commit([Update(STORE, there["_id"], {"code": None})], USER)


async def test_a_replacement_that_leaves_a_field_out_is_written(engine: Engine) -> None:
    """This includes a field that was null."""
    there = await insert_one(engine, n=1, gone=None)
    kept = {"n": 1, "owner": there["owner"], "group": there["group"], "access": [], "branch": there["branch"]}
    [written] = await engine.commit([Update(STORE, there["_id"], stamped(kept), replace=True)], USER)
    assert written.rev == 2
    assert "gone" not in value(written)


@pytest.mark.parametrize("kind", range(4), ids=["merge", "replace", "upsert", "bulk"])
async def test_a_forced_write_is_made(engine: Engine, kind: int) -> None:
    """It serves callers who must not learn whether the write altered something."""
    there = await made(engine)
    written = await outcome(engine, writes({"n": 1}, there, forced=True)[kind], False)
    assert written.count == 1
    found = await engine.get(STORE, there["_id"])
    assert found is not None
    assert found[1] == 2


async def test_a_bulk_change_counts_what_it_altered(engine: Engine) -> None:
    """The count is the number of matches that were different."""
    await insert(engine, *(entity(n=n % 3) for n in range(9)))
    position = await engine.feed.position()
    [written] = await engine.commit([UpdateMany(STORE, EVERYTHING, stamped({"n": 1}), 100)], USER)
    assert written.count == 6
    assert len((await engine.feed.read(position)).changes) == 6


async def test_equal_changes_at_once_are_one(engine: Engine) -> None:
    """The first one is written; the others alter nothing."""
    for changes in ({"n": 7}, {"nested": {"z": 1}}, {"list": [{"q": 1}]}):
        there = await insert_one(engine, n=1)
        done: list[Any] = await asyncio.gather(
            *(engine.commit([Update(STORE, there["_id"], stamped(changes))], USER) for _ in range(20))
        )
        assert sorted(written.count for [written] in done) == [0] * 19 + [1]
        assert {written.rev for [written] in done} == {2}


async def test_an_array_of_upserts_leaves_equal_ones_alone(engine: Engine) -> None:
    """The other ones are written."""
    await insert(engine, *(entity(code=f"u{n}", n=n) for n in range(3)))
    sent: list[Write] = [Upsert(STORE, "code", entity(code=f"u{n}", n=1), stamped({"n": 1})) for n in range(4)]
    done = await engine.commit(sent, USER)
    assert [written.rev for written in done] == [2, 1, 2, 1]
