"""The change feed: every change once, in commit order, from any position within the retention."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any

import pytest

from stores.errors import HistoryGone, NotFound
from stores.protocol import Delete, DeleteMany, Engine, Insert, Update, UpdateMany, Upsert
from stores.query import EVERYTHING, Compare, Query
from stores.records import Change, Entity, now_ms
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import OTHER_USER, STORE, USER, entity, insert, insert_one, numbered
from tests.support.reading import PATIENCE, apply, changes_since, content, drain, find, follow, following


def summary(change: Change) -> tuple[Any, ...]:
    return change.op, change.store, change.id, change.before, change.after, change.by


async def test_positions_have_an_order(engine: Engine) -> None:
    """The earlier of two positions has the smaller key. A list's key is not before that of its last change."""
    start = await engine.feed.position()
    changes: list[Change] = []
    for n in range(3):
        await insert(engine, *numbered(5, round=n))
        listing = await engine.find(STORE, Query())
        changes = await changes_since(engine.feed, start)
        assert engine.feed.order(changes[-1].position) <= engine.feed.order(listing.position)
        assert engine.feed.order(changes[-2].position) < engine.feed.order(listing.position)
    keys = [engine.feed.order(position) for position in [start, *(c.position for c in changes)]]
    assert keys == sorted(set(keys))
    made = await insert_one(engine)
    [late] = [c for c in await changes_since(engine.feed, start) if c.id == made["_id"]]
    assert engine.feed.order(listing.position) < engine.feed.order(late.position)


async def test_every_kind_of_write_leaves_its_record(engine: Engine) -> None:
    """A record has the operation, both complete images and the writer; a bulk change makes one record per entity."""
    position = await engine.feed.position()
    made = await insert_one(engine, code="x", n=0)
    await engine.commit([Update(STORE, made["_id"], {"n": 1})], OTHER_USER)
    await engine.commit([Upsert(STORE, "code", entity(code="x"), {"n": 2})], None)
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 3}, 10)], USER)
    await engine.commit([Update(STORE, made["_id"], {"code": "y"}, replace=True)], USER)
    await engine.commit([DeleteMany(STORE, EVERYTHING, 10)], OTHER_USER)
    fields = [
        made,
        made | {"n": 1, "_rev": 2},
        made | {"n": 2, "_rev": 3},
        made | {"n": 3, "_rev": 4},
        {k: v for k, v in made.items() if k != "n"} | {"code": "y", "_rev": 5},
    ]
    images: list[Entity | None] = [None, *fields, None]
    operations = ["insert", "update", "update", "update", "update", "delete"]
    people = [USER, OTHER_USER, None, USER, USER, OTHER_USER]
    assert [summary(c) for c in await changes_since(engine.feed, position)] == [
        (op, STORE, made["_id"], before, after, by)
        for op, before, after, by in zip(operations, images, images[1:], people, strict=False)
    ]


async def test_the_time_of_a_change_is_that_of_its_commit(engine: Engine) -> None:
    """The time is in Unix milliseconds."""
    position, start = await engine.feed.position(), now_ms()
    await insert_one(engine, time=1)
    [change] = await changes_since(engine.feed, position)
    assert start - 1_000 <= change.time <= now_ms() + 1_000


async def test_a_batch_arrives_in_the_order_of_its_writes(engine: Engine) -> None:
    """The changes of one commit follow each other in the order of the writes."""
    await engine.define(StoreDefinition("units"))
    position = await engine.feed.position()
    made = numbered(20)
    await engine.commit([Insert("units" if e["n"] % 2 else STORE, e) for e in made], USER)
    assert [c.id for c in await changes_since(engine.feed, position)] == [e["_id"] for e in made]


async def test_every_position_resumes_right_after_its_change(engine: Engine) -> None:
    """This holds within a commit, between commits, and at the end of the feed."""
    start = await engine.feed.position()
    for batch in range(5):
        await insert(engine, *numbered(7, batch=batch))
    changes = await changes_since(engine.feed, start)
    assert len(changes) == 35
    assert len({c.position for c in changes}) == 35
    for i, change in enumerate(changes):
        rest = await changes_since(engine.feed, change.position)
        assert [c.position for c in rest] == [c.position for c in changes[i + 1 :]]
        assert [c.id for c in rest] == [c.id for c in changes[i + 1 :]]


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 1_000])
async def test_reading_in_stretches_gives_the_same(engine: Engine, limit: int) -> None:
    """No batch exceeds the limit, `more` is correct, and together the batches are complete."""
    start = await engine.feed.position()
    made = numbered(21)
    await insert(engine, *made)
    position, seen = start, []
    while True:
        batch = await engine.feed.read(position, limit)
        assert len(batch.changes) <= limit
        seen += [c.id for c in batch.changes]
        position = batch.position
        if not batch.more:
            break
    assert seen == [e["_id"] for e in made]
    assert (await engine.feed.read(position, limit)).changes == []


async def test_an_idle_feed_reads_empty(engine: Engine) -> None:
    """It returns no changes, `more` is false, and the position stays valid."""
    position = await engine.feed.position()
    for _ in range(3):
        batch = await engine.feed.read(position)
        assert (batch.changes, batch.more) == ([], False)
        position = batch.position
    made = await insert_one(engine)
    assert [c.id for c in await changes_since(engine.feed, position)] == [made["_id"]]


async def test_following_yields_changes_as_they_come(engine: Engine) -> None:
    """A waiting follower receives each change soon after its commit."""
    async with asyncio.timeout(PATIENCE), following(engine.feed, await engine.feed.position()) as stream:
        for n in range(5):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            made = await insert_one(engine, n=n)
            assert [c.id for c in await waiting] == [made["_id"]]


async def test_following_begins_with_what_was_missed(engine: Engine) -> None:
    """Changes since the position come before newer ones."""
    start = await engine.feed.position()
    made = numbered(30)
    await insert(engine, *made[:20])
    waiting = asyncio.ensure_future(follow(engine.feed, start, 30))
    await asyncio.sleep(0.05)
    await insert(engine, *made[20:])
    assert [c.id for c in await waiting] == [e["_id"] for e in made]


async def test_many_followers_see_the_same(engine: Engine) -> None:
    """Each starts at its own position; all see the same order and the same positions."""
    start = await engine.feed.position()
    followers = [asyncio.ensure_future(follow(engine.feed, start, 100)) for _ in range(20)]
    await asyncio.gather(*(insert_one(engine, n=n) for n in range(100)))
    positions = [[c.position for c in changes] for changes in await asyncio.gather(*followers)]
    assert all(seen == positions[0] for seen in positions)
    assert len(positions[0]) == 100


async def test_a_follower_that_goes_away_harms_nobody(engine: Engine) -> None:
    """Cancelled and closed followers affect neither the others nor the engine."""
    start = await engine.feed.position()
    for _ in range(10):
        task = asyncio.ensure_future(follow(engine.feed, start, 1_000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await insert(engine, *numbered(10))
    assert len(await follow(engine.feed, start, 10)) == 10


async def writers(engine: Engine, rounds: int, seed: str) -> None:
    """Insert, update and delete in turn, for a number of rounds."""
    for n in range(rounds):
        made = await insert_one(engine, n=n, seed=seed)
        await engine.commit([Update(STORE, made["_id"], {"n": n + 1}), Update(STORE, made["_id"], {"x": seed})], USER)
        if n % 3 == 0:
            await engine.commit([Delete(STORE, made["_id"])], USER)
        if n % 5 == 0:
            await engine.commit([UpdateMany(STORE, Compare(("n",), "lt", 3), {"bulk": n}, 10_000)], USER)


async def test_reading_and_then_following_leaves_no_gap(engine: Engine) -> None:
    """Under concurrent writers, reading to the end and following from there gives every change once and in sequence."""
    start = await engine.feed.position()
    work = asyncio.gather(*(writers(engine, 30, f"w{i}") for i in range(5)))
    read, position = await drain(engine.feed, start, limit=17)
    await insert_one(engine, seed="in between")
    seen = list(read)
    async with asyncio.timeout(PATIENCE), following(engine.feed, position) as stream:
        await work
        last = await insert_one(engine, seed="last")
        while not seen or seen[-1].id != last["_id"]:
            seen += await anext(stream)
    assert [c.position for c in seen] == [c.position for c in await changes_since(engine.feed, start)]
    state: dict[str, Entity] = {}
    apply(state, seen)
    assert state == {e["_id"]: e for e in await find(engine)}


async def test_a_list_joins_the_feed_exactly(engine: Engine) -> None:
    """A list with the changes after its position equals a later list: no gap, no overlap, no skew."""
    await insert(engine, *numbered(10))
    snapshots: list[tuple[str, list[Entity]]] = []
    while len(snapshots) <= 3:
        work = asyncio.gather(*(writers(engine, 25, f"w{i}") for i in range(5)))
        while not work.done():
            listing = await engine.find(STORE, Query())
            snapshots.append((listing.position, await content(listing)))
            await asyncio.sleep(0.002)
        await work
    end = {e["_id"]: e for e in await find(engine)}
    for position, entities in snapshots:
        state = {e["_id"]: e for e in entities}
        apply(state, await changes_since(engine.feed, position))
        assert state == end


async def test_a_long_list_joins_the_feed_exactly(engine: Engine) -> None:
    """The same holds for a list that is streamed during writes."""
    await insert(engine, *numbered(3_000, text="x" * 200))
    listing = await engine.find(STORE, Query(limit=10_000))
    work = asyncio.gather(*(writers(engine, 10, f"w{i}") for i in range(5)))
    state = {e["_id"]: e for e in await content(listing)}
    await work
    apply(state, await changes_since(engine.feed, listing.position))
    assert state == {e["_id"]: e for e in await find(engine)}


async def test_a_summary_joins_the_feed_exactly(engine: Engine) -> None:
    """Its count plus the inserts and minus the deletions after its position equals the final count."""
    summaries = []
    while len(summaries) <= 3:
        work = asyncio.gather(*(writers(engine, 20, f"w{i}") for i in range(5)))
        while not work.done():
            summaries.append(await engine.summarize(STORE, EVERYTHING))
            await asyncio.sleep(0.002)
        await work
    end = len(await find(engine))
    for found in summaries:
        operations = [c.op for c in await changes_since(engine.feed, found.position)]
        assert found.count + operations.count("insert") - operations.count("delete") == end


async def test_a_position_follows_a_list_too(engine: Engine) -> None:
    """Following from a list's position begins with the first change after it."""
    await insert(engine, *numbered(5))
    listing = await engine.find(STORE, Query())
    made = await insert_one(engine)
    assert [c.id for c in await follow(engine.feed, listing.position, 1)] == [made["_id"]]


async def test_a_refused_commit_leaves_no_trace(engine: Engine) -> None:
    """The feed contains only committed changes."""
    position = await engine.feed.position()
    for _ in range(3):
        with pytest.raises(NotFound):
            await engine.commit([Insert(STORE, entity()), Delete(STORE, "5f0000000000000000000fff")], USER)
    made = await insert_one(engine)
    assert [c.id for c in await follow(engine.feed, position, 1)] == [made["_id"]]


async def test_positions_outlive_a_restart(database: Database) -> None:
    """A client can resume from its position after a restart."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert_one(engine)
        position = (await engine.find(STORE, Query())).position
        made = await insert_one(engine)
    async with opened(database.engine()) as engine:
        later = await insert_one(engine)
        assert [c.id for c in await changes_since(engine.feed, position)] == [made["_id"], later["_id"]]
        assert [c.id for c in await follow(engine.feed, position, 2)] == [made["_id"], later["_id"]]


MALFORMED = ["", ".", "x", "0", "-1", "1", "null", "{}", "é😀", "\0", "a.b.c", ".5", "5.", "'", "9" * 400, "A" * 5_000]


@pytest.mark.parametrize("position", MALFORMED)
async def test_nonsense_is_no_position(engine: Engine, position: str) -> None:
    """Reading and following raise HistoryGone; they never return nothing or everything."""
    await insert_one(engine)
    with pytest.raises(HistoryGone):
        await engine.feed.read(position)
    with pytest.raises(HistoryGone):
        await follow(engine.feed, position, 1)
    with pytest.raises(HistoryGone):
        engine.feed.order(position)


async def test_a_tampered_position_is_gone_or_another_true_one(engine: Engine) -> None:
    """With any character changed, the feed either raises HistoryGone or returns real changes."""
    start = await engine.feed.position()
    await insert(engine, *numbered(12))
    known = {c.position for c in await changes_since(engine.feed, start)}
    position = (await changes_since(engine.feed, start))[5].position
    refused, seed = 0, secrets.randbits(32)
    chance = random.Random(seed)
    for i in range(len(position)):
        forged = position[:i] + chance.choice("0123456789abcdefXYZ._-=") + position[i + 1 :]
        if forged == position:
            continue
        try:
            changes = await changes_since(engine.feed, forged)
        except HistoryGone:
            refused += 1
        else:
            assert {c.position for c in changes} <= known, (seed, forged)
    assert refused > 0


async def test_a_position_of_another_database_is_gone(engine: Engine, database: Database, tmp_path: Any) -> None:
    """Positions are not valid in another database, even of the same kind and content."""
    await insert(engine, *numbered(5))
    ours = await engine.feed.position()
    listing = await engine.find(STORE, Query())
    [change, *_] = await changes_since_start(engine)
    other = sibling(database, tmp_path)
    try:
        async with opened(other.engine()) as foreign:
            await foreign.define(StoreDefinition(STORE))
            await insert(foreign, *numbered(9))
            for position in (ours, listing.position, change.position):
                with pytest.raises(HistoryGone):
                    await foreign.feed.read(position)
                with pytest.raises(HistoryGone):
                    await follow(foreign.feed, position, 1)
    finally:
        await other.drop()


async def changes_since_start(engine: Engine) -> list[Change]:
    position = await engine.feed.position()
    await insert_one(engine)
    return await changes_since(engine.feed, position)


def sibling(database: Database, folder: Any) -> Database:
    """Return another database beside this one."""
    if database.kind == "sqlite":
        return Database("sqlite", str(folder / "other.db"))
    return Database("mongodb", database.location.replace("/hub_test_", f"/hub_test_{secrets.token_hex(3)}"))
