"""Commits in the feed: the changes of one commit share a number, and the last one is marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from stores import commits
from stores.protocol import Batch, Delete, Engine, Insert, Procedure, Steps, Update, UpdateMany, Written, do
from stores.query import EVERYTHING
from stores.records import Change
from tests.support.entities import STORE, USER, entity, insert, insert_one
from tests.support.reading import drain

PATIENCE = 20.0


def shape(changes: Sequence[Change]) -> list[tuple[int, bool]]:
    """Return for each change the number of its commit, counted from 1, 0 for none, and whether it is the last one."""
    known: dict[str, int] = {}
    return [(0 if c.commit is None else known.setdefault(c.commit, len(known) + 1), c.ends_commit) for c in changes]


async def several(engine: Engine) -> None:
    """Make commits of 1, 3, 1, 2 and 2 changes."""
    first = await insert_one(engine, n=0)
    await insert(engine, *(entity(n=n) for n in range(1, 4)))
    await engine.commit([Update(STORE, first["_id"], {"n": 9})], USER)
    await engine.commit([Insert(STORE, entity(n=10)), Delete(STORE, first["_id"])], USER)

    def steps() -> Steps:
        yield from do(Insert(STORE, entity(n=11)))
        return (yield from do(Insert(STORE, entity(n=12))))

    await engine.commit([Procedure(STORE, steps)], USER)


SHAPE = [(0, False), (1, False), (1, False), (1, True), (0, False), (2, False), (2, True), (3, False), (3, True)]


async def followed(engine: Engine, since: str, count: int) -> list[Change]:
    changes: list[Change] = []

    async def follow() -> None:
        feed: AsyncGenerator[Batch] = engine.feed.follow(since)  # type: ignore[assignment]
        async with aclosing(feed) as batches:
            async for batch in batches:
                assert not commits.is_cut(batch.changes)
                changes.extend(batch.changes)
                if len(changes) >= count:
                    return

    await asyncio.wait_for(follow(), PATIENCE)
    return changes


async def test_changes_of_one_commit_share_a_number(engine: Engine) -> None:
    """Whoever reads them, at once or later."""
    begun = await engine.feed.position()
    await several(engine)
    batch = await engine.feed.read(begun)
    assert shape(batch.changes) == SHAPE
    assert shape(await followed(engine, begun, len(SHAPE))) == SHAPE
    assert len({change.commit for change in batch.changes}) == 4


async def test_the_next_commits_of_a_follower_are_whole(engine: Engine) -> None:
    begun = await engine.feed.position()
    following = asyncio.create_task(followed(engine, begun, len(SHAPE)))
    await asyncio.sleep(0)
    await several(engine)
    assert shape(await following) == SHAPE


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_whole_commits_are_read_beyond_the_limit(engine: Engine, limit: int) -> None:
    position = await engine.feed.position()
    await several(engine)
    found: list[Change] = []
    while True:
        batch = await engine.feed.read(position, limit, whole=True)
        assert not commits.is_cut(batch.changes)
        found += batch.changes
        position = batch.position
        if not batch.more:
            break
    assert shape(found) == SHAPE
    assert (await engine.feed.read(position)).changes == []


async def test_the_rest_of_a_commit_keeps_its_number(engine: Engine) -> None:
    """A reader that goes on within a commit learns where it ends, however little is left of it."""
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n) for n in range(3)))
    whole = (await engine.feed.read(begun)).changes
    for index in range(2):
        rest = (await engine.feed.read(whole[index].position)).changes
        assert {change.commit for change in rest} == {whole[0].commit}
        assert [change.ends_commit for change in rest] == [False] * (1 - index) + [True]


async def test_a_limit_within_a_commit_marks_no_end(engine: Engine) -> None:
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n) for n in range(3)))
    cut = (await engine.feed.read(begun, 2)).changes
    assert shape(cut) == [(1, False), (1, False)]


async def test_a_large_commit_has_no_number(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.commits.MOST_COMMIT_CHANGES", 5)
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n) for n in range(5)))
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 7}, 100)], USER)
    await insert(engine, *(entity(n=n) for n in range(3)))
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 8}, 100)], USER)
    expected = [(1, False)] * 4 + [(1, True)] + [(2, False)] * 4 + [(2, True)] + [(3, False)] * 2 + [(3, True)]
    expected += [(0, False)] * 8
    assert shape((await drain(engine.feed, begun))[0]) == expected
    assert shape(await followed(engine, begun, len(expected))) == expected
    position, found = begun, list[Change]()
    for _ in range(len(expected)):
        batch = await engine.feed.read(position, 2, whole=True)
        position = batch.position
        found += batch.changes
        if not batch.more:
            break
    assert shape(found) == expected


async def test_a_commit_of_many_bytes_has_no_number(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has a part of it that is small enough, for whoever goes on within it or reads a little of it."""
    monkeypatch.setattr("stores.commits.MOST_COMMIT_BYTES", 5_000)
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n, text="x" * 500) for n in range(10)))
    await insert(engine, *(entity(n=n) for n in range(2)))
    expected = [(0, False)] * 10 + [(1, False), (1, True)]
    changes = await followed(engine, begun, len(expected))
    assert shape(changes) == expected
    for index in (0, 5, 8):
        rest = (await engine.feed.read(changes[index].position)).changes
        assert shape(rest) == expected[index + 1 :]
        assert shape((await engine.feed.read(changes[index].position, 1)).changes) == [(0, False)]


async def test_a_transaction_in_several_replies_stays_whole(engine: Engine) -> None:
    """Entities so large that a reply of the database does not hold the commit."""
    text = "x" * 400_000
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n, text=text) for n in range(12)))
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"m": 1}, 100)], USER)
    expected = [(1, False)] * 11 + [(1, True)] + [(2, False)] * 11 + [(2, True)]
    assert shape(await followed(engine, begun, 24)) == expected
    position, found = begun, list[Change]()
    while len(found) < 24:
        batch = await engine.feed.read(position, whole=True)
        position = batch.position
        found += batch.changes
    assert shape(found) == expected


async def test_a_commit_that_changes_one_entity_of_several_writes_has_none(engine: Engine) -> None:
    begun = await engine.feed.position()
    made = await insert_one(engine, n=1)

    def steps() -> Steps:
        yield from do(Update(STORE, made["_id"], {"n": 1}))  # alters nothing
        yield from do(Update(STORE, made["_id"], {"n": 2}))
        return Written(b"", 0, 1)

    await engine.commit([Procedure(STORE, steps)], USER)
    assert shape((await engine.feed.read(begun)).changes) == [(0, False)] * 2
