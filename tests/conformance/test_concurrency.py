"""Concurrency: revisions, unique values and upserts stay correct, and the feed is complete."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from stores.errors import DuplicateValue, NotFound, StaleRevision
from stores.protocol import Delete, Engine, Insert, Update, UpdateMany, Upsert, Written
from stores.query import EVERYTHING, Equal
from tests.support.entities import STORE, USER, entity, insert_one, numbered
from tests.support.reading import changes_since, find, follow, get

Commit = Coroutine[Any, Any, list[Written]]


async def outcomes(*commits: Commit) -> Counter[str]:
    """Run the commits concurrently; count the successes and each kind of error."""
    results = await asyncio.gather(*commits, return_exceptions=True)
    return Counter("done" if isinstance(r, list) else type(r).__name__ for r in results)


async def test_one_of_a_hundred_equal_revisions_wins(engine: Engine) -> None:
    """Of 100 concurrent updates that expect revision 1, one succeeds and determines the entity, and 99 are stale."""
    made = await insert_one(engine, n=-1)
    commits = [engine.commit([Update(STORE, made["_id"], {"n": n}, revs=frozenset({1}))], USER) for n in range(100)]
    assert await outcomes(*commits) == {"done": 1, StaleRevision.__name__: 99}
    read = await get(engine, made["_id"]) or {}
    assert read["_rev"] == 2
    assert read["n"] >= 0


async def test_a_hundred_updates_without_revisions_all_count(engine: Engine) -> None:
    """None is lost: all 100 fields exist, at revision 101."""
    made = await insert_one(engine)
    await asyncio.gather(*(engine.commit([Update(STORE, made["_id"], {f"f{n}": n})], USER) for n in range(100)))
    read = await get(engine, made["_id"]) or {}
    assert {f"f{n}": read.get(f"f{n}") for n in range(100)} == {f"f{n}": n for n in range(100)}
    assert read["_rev"] == 101


async def test_a_hundred_upserts_of_one_value_make_one_entity(engine: Engine) -> None:
    """One inserts and 99 merge."""
    position = await engine.feed.position()
    commits = [engine.commit([Upsert(STORE, "code", entity(code="x", n=n), {"n": n})], USER) for n in range(100)]
    assert await outcomes(*commits) == {"done": 100}
    [read] = await find(engine)
    assert read["_rev"] == 100
    operations = [c.op for c in await changes_since(engine.feed, position)]
    assert operations == ["insert"] + ["update"] * 99


async def test_a_unique_value_goes_to_one_of_a_hundred(engine: Engine) -> None:
    """The other 99 are refused and leave nothing behind."""
    commits = [engine.commit([Insert(STORE, entity()), Insert(STORE, entity(code="x"))], USER) for _ in range(100)]
    assert await outcomes(*commits) == {"done": 1, DuplicateValue.__name__: 99}
    assert len(await find(engine)) == 2


async def test_one_of_a_hundred_deletions_wins(engine: Engine) -> None:
    """The others raise NotFound."""
    made = await insert_one(engine)
    commits = [engine.commit([Delete(STORE, made["_id"])], USER) for _ in range(100)]
    assert await outcomes(*commits) == {"done": 1, NotFound.__name__: 99}


async def test_a_condition_admits_one_of_a_hundred(engine: Engine) -> None:
    """`where` and the change are one atomic step: a free place is taken once."""
    made = await insert_one(engine, taken=None)
    commits = [
        engine.commit([Update(STORE, made["_id"], {"taken": n}, where=Equal(("taken",), None))], USER)
        for n in range(100)
    ]
    assert await outcomes(*commits) == {"done": 1, NotFound.__name__: 99}


async def test_bulk_changes_and_single_ones_mix(engine: Engine) -> None:
    """No update is lost: the revisions count all of them."""
    made = numbered(20)
    await engine.commit([Insert(STORE, e) for e in made], USER)
    bulk = [engine.commit([UpdateMany(STORE, EVERYTHING, {"bulk": n}, 100)], USER) for n in range(10)]
    single = [engine.commit([Update(STORE, e["_id"], {"single": n})], USER) for e in made for n in range(5)]
    assert await outcomes(*bulk, *single) == {"done": 110}
    assert {e["_rev"] for e in await find(engine)} == {16}


async def test_a_failing_neighbour_does_not_harm(engine: Engine) -> None:
    """Concurrent commits succeed or fail independently."""
    await insert_one(engine, code="taken")
    good = [engine.commit([Insert(STORE, entity(n=n))], USER) for n in range(100)]
    bad = [engine.commit([Insert(STORE, entity()), Insert(STORE, entity(code="taken"))], USER) for _ in range(100)]
    mixed = [commit for pair in zip(good, bad, strict=True) for commit in pair]
    assert await outcomes(*mixed) == {"done": 100, DuplicateValue.__name__: 100}
    assert len(await find(engine)) == 101


async def test_an_abandoned_commit_happens_or_not(engine: Engine) -> None:
    """A cancelled caller leaves a complete commit or none, and the engine keeps working."""
    for n in range(50):
        task = asyncio.ensure_future(engine.commit([Insert(STORE, entity(n=n, half=h)) for h in (1, 2)], USER))
        await asyncio.sleep(0.0005 * (n % 4))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await insert_one(engine, n=-1, half=0)
    halves = Counter(e["n"] for e in await find(engine) if e["half"])
    assert set(halves.values()) == {2}  # a commit in progress ends, so some are there


@pytest.mark.gate("sqlite")
@pytest.mark.timeout(240)
async def test_ten_thousand_inserts_at_once_are_all_in_the_feed(engine: Engine) -> None:
    """There are 10 000 change records in commit order, both when reading and when following the feed."""
    start = await engine.feed.position()
    following = asyncio.ensure_future(follow(engine.feed, start, 10_000, patience=200))
    finished: list[str] = []
    waves: list[int] = []

    async def write(n: int) -> None:
        made = await insert_one(engine, n=n)
        finished.append(made["_id"])

    for wave in range(10):
        await asyncio.gather(*(write(wave * 1_000 + n) for n in range(1_000)))
        waves.append(len(finished))
    followed = await following
    changes = await changes_since(engine.feed, start)
    assert [c.position for c in followed] == [c.position for c in changes]
    assert [(c.op, c.after) for c in changes] == [("insert", c.after) for c in followed]
    ids = [c.id for c in changes]
    assert len(ids) == len(set(ids)) == 10_000
    for begin, end in zip([0, *waves], waves, strict=False):
        assert set(ids[begin:end]) == set(finished[begin:end])
    for i in (0, 1, 4_999, 9_998):
        assert [c.id for c in await changes_since(engine.feed, changes[i].position)] == ids[i + 1 :]


@pytest.mark.gate("sqlite")
async def test_ten_thousand_truly_at_once(engine: Engine) -> None:
    """The same without waiting between the inserts."""
    start = await engine.feed.position()
    made = [entity(n=n) for n in range(10_000)]
    await asyncio.gather(*(engine.commit([Insert(STORE, e)], USER) for e in made))
    changes = await changes_since(engine.feed, start)
    assert sorted(c.id for c in changes) == sorted(e["_id"] for e in made)
    assert len({c.position for c in changes}) == 10_000


async def test_the_changes_of_one_entity_follow_one_another(engine: Engine) -> None:
    """Under concurrent updates each change's `before` equals the previous change's `after`."""
    made = await insert_one(engine, n=0)
    start = await engine.feed.position()
    await asyncio.gather(*(engine.commit([Update(STORE, made["_id"], {"n": n})], USER) for n in range(1, 201)))
    last = made
    for change in await changes_since(engine.feed, start):
        assert change.before == last
        assert change.after is not None
        assert change.after["_rev"] == last["_rev"] + 1
        last = change.after
    assert last["_rev"] == 201
