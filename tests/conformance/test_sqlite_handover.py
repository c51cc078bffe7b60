"""The feed of a SQLite file gets the changes from the writes that make them. They equal those in the file."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from stores.errors import StoreError
from stores.protocol import Delete, DeleteMany, Expect, Insert, Update, UpdateMany, Upsert, Write
from stores.query import EVERYTHING, Equal
from stores.records import Change
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from tests.support.engines import Database, opened, sqlite_database
from tests.support.entities import OTHER_USER, USER, entity
from tests.support.reading import drain

pytestmark = pytest.mark.engine("sqlite")

THINGS = "things"
INTERNAL = "_things"
CODES = [f"c{n}" for n in range(30)]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return sqlite_database(tmp_path)


def parts(change: Change) -> tuple[Any, ...]:
    c = change
    return c.position, c.op, c.store, c.id, c.before, c.after, c.by, c.time


async def followed(engine: SQLiteEngine, since: str) -> list[Change]:
    """The changes after `since` as a follower gets them, which is from memory for the newest."""
    changes: list[Change] = []
    end = await engine.feed.position()
    async for batch in engine.feed.follow(since):
        changes += batch.changes
        if batch.position == end:
            return changes
    raise AssertionError("a feed has no end")


def some_write(draw: random.Random, ids: list[str]) -> Write:
    """A write that often fails: codes are few and unique, and entities get deleted."""
    store, code = draw.choice([THINGS, THINGS, INTERNAL]), draw.choice(CODES)
    match draw.randrange(9):
        case 0 | 1:
            made = entity(code=code, n=draw.random())
            ids.append(made["_id"])
            return Insert(store, made)
        case 2 | 3:
            return Update(store, draw.choice(ids[-9:]), {"n": draw.randint(0, 2), "code": code})
        case 4:
            return Delete(store, draw.choice(ids[-9:]))
        case 5:
            return Upsert(store, "code", entity(code=code), {"code": code, "n": 1})
        case 6:
            return UpdateMany(store, Equal(("code",), code), {"n": draw.randint(0, 2)}, 100)
        case 7:
            return DeleteMany(store, Equal(("n",), 2), 100)
        case _:
            return Expect(store, EVERYTHING, most=draw.choice([0, 100]))


def reads_of_changes(engine: SQLiteEngine) -> list[str]:
    """The statements of the writer that read change records from now on."""
    found: list[str] = []

    def see(event: dict[str, Any]) -> None:
        if event["sql"].startswith("SELECT seq"):
            found.append(event["sql"])

    engine._committer.connection.trace_v2(apsw.SQLITE_TRACE_STMT, see)
    return found


async def attempt(engine: SQLiteEngine, writes: Sequence[Write], by: str) -> bool:
    try:
        await engine.commit(writes, by)
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("seed", range(10))
async def test_followers_get_what_the_file_holds(database: Database, seed: int) -> None:
    """Also if jobs of the same transaction fail, alone or after some of their writes. No commit reads them back."""
    draw = random.Random(seed)
    async with opened(database.engine()) as engine:
        assert isinstance(engine, SQLiteEngine)
        await engine.define(StoreDefinition(THINGS, unique=("code",)), StoreDefinition(INTERNAL, unique=("code",)))
        since, ids, outcomes = await engine.feed.position(), [entity()["_id"]], set()
        read_back = reads_of_changes(engine)
        for _ in range(25):
            jobs = [[some_write(draw, ids) for _ in range(draw.choice([1, 1, 2, 4]))] for _ in range(8)]
            outcomes.update(
                await asyncio.gather(*(attempt(engine, job, draw.choice([USER, OTHER_USER])) for job in jobs))
            )
        assert outcomes == {True, False}
        assert not read_back
        in_file, _ = await drain(engine.feed, since)
        assert list(map(parts, await followed(engine, since))) == list(map(parts, in_file))
        assert {change.op for change in in_file} == {"insert", "update", "delete"}


async def test_more_changes_than_are_kept_in_memory_are_read_from_the_file(database: Database) -> None:
    async with opened(database.engine()) as engine:
        assert isinstance(engine, SQLiteEngine)
        await engine.define(StoreDefinition(THINGS))
        since = await engine.feed.position()
        await engine.commit([Insert(THINGS, entity(n=n)) for n in range(1_500)], USER)
        await engine.commit([Insert(THINGS, entity(n=-1))], USER)
        assert [change.after["n"] for change in await followed(engine, since) if change.after] == [*range(1_500), -1]
