"""Commits on SQLite that turn out to take long leave the event loop, and are done in the writer thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stores.errors import KeyReused, NotAsExpected, NotFound, StaleRevision
from stores.parse import parse_filter
from stores.protocol import (
    Delete,
    DeleteMany,
    Engine,
    Expect,
    IdempotencyKey,
    Insert,
    Procedure,
    Steps,
    Update,
    UpdateMany,
    Upsert,
    Write,
    do,
)
from stores.query import In, Query
from stores.records import now_ms
from stores.schema import StoreDefinition
from stores.sqlite.group_commit import GroupCommitter
from stores.sqlite.heavy import HEAVY, HEAVY_BYTES
from tests.support.entities import STORE, USER, entity, insert, insert_one, value
from tests.support.memory import bounded_memory
from tests.support.reading import changes_since, get

pytestmark = pytest.mark.engine("sqlite")
ON_LOOP, IN_THREAD = [False], [False, True]
LARGE = "x" * HEAVY_BYTES


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for each job of a writer, whether it runs in the thread."""
    heavy: list[bool] = []
    submit = GroupCommitter.submit

    async def noted(self: GroupCommitter, run: Callable[[], Any], by: str | None, **more: Any) -> Any:
        heavy.append(more.get("heavy", False))
        return await submit(self, run, by, **more)

    monkeypatch.setattr(GroupCommitter, "submit", noted)
    return heavy


def key(fingerprint: str = "f") -> IdempotencyKey:
    return IdempotencyKey("k", fingerprint, now_ms() + 60_000)


async def done(engine: Engine, submitted: list[bool], writes: list[Write], key: IdempotencyKey | None = None) -> Any:
    """Do the commit; return where it ran, and the last outcome."""
    submitted.clear()
    written = await engine.commit(writes, USER, key)
    return list(submitted), written[-1]


async def test_changes_of_a_large_entity(engine: Engine, submitted: list[bool]) -> None:
    """Each kind of write that reads it: alone, and among others, of which none is done twice."""
    small, large = await insert_one(engine, n=0, code=1), await insert_one(engine, n=0, code=2, text=LARGE)
    since = await engine.feed.position()
    for made, expected in ((small, ON_LOOP), (large, IN_THREAD)):
        ran, written = await done(engine, submitted, [Update(STORE, made["_id"], {"n": 1})])
        assert (ran, value(written)["n"]) == (expected, 1)
        ran, written = await done(engine, submitted, [Update(STORE, small["_id"], {"m": 1}, forced=True)] * 2)
        assert ran == ON_LOOP
        writes: list[Write] = [Insert(STORE, entity(n=2)), Update(STORE, made["_id"], {"n": 2})]
        ran, written = await done(engine, submitted, writes)
        assert (ran, value(written)["n"]) == (expected, 2)
        upsert = Upsert(STORE, "code", entity(code=made["code"]), {"n": 3})
        ran, written = await done(engine, submitted, [upsert])
        assert (ran, value(written)["n"]) == (expected, 3)
    with pytest.raises(StaleRevision):
        await engine.commit([Update(STORE, large["_id"], {"n": 4}, revs=frozenset({1}))], USER)
    assert (await done(engine, submitted, [Delete(STORE, large["_id"])]))[0] == IN_THREAD
    with pytest.raises(NotFound):
        await engine.commit([Delete(STORE, large["_id"])], USER)
    changes = await changes_since(engine.feed, since)
    assert [c.op for c in changes].count("insert") == 2
    assert len(changes) == 2 * (1 + 2 + 2 + 1) + 1


async def test_many_entities_that_are_large_together(engine: Engine, submitted: list[bool]) -> None:
    made = [await insert_one(engine, text="x" * 10_000) for _ in range(40)]
    for count, expected in ((20, ON_LOOP), (40, IN_THREAD), (20, ON_LOOP)):
        writes: list[Write] = [Update(STORE, e["_id"], {"n": count}, forced=True) for e in made[:count]]
        assert (await done(engine, submitted, writes))[0] == expected
    for each in made:
        assert (await done(engine, submitted, [Update(STORE, each["_id"], {"n": 0})]))[0] == ON_LOOP


async def test_a_long_outcome_is_read_for_its_own_request_only(engine: Engine, submitted: list[bool]) -> None:
    """It is read in the thread. Another request with the key is refused without it."""
    writes: list[Write] = [Insert(STORE, entity(text="x" * 1_000_000)) for _ in range(20)]
    first = await engine.commit(writes, USER, key())
    with bounded_memory(1_000_000), pytest.raises(KeyReused):
        await engine.commit([Insert(STORE, entity())], USER, key("other"))
    submitted.clear()
    assert await engine.commit([Insert(STORE, entity())], USER, key()) == first
    assert submitted == IN_THREAD


async def test_a_short_outcome_is_read_at_once(engine: Engine, submitted: list[bool]) -> None:
    first = await engine.commit([Insert(STORE, entity())], USER, key())
    submitted.clear()
    assert await engine.commit([Insert(STORE, entity())], USER, key()) == first
    assert submitted == ON_LOOP


async def test_a_condition_that_takes_a_search(engine: Engine, submitted: list[bool]) -> None:
    """A condition over an array reads all entities: in the thread, and with the same outcome."""
    await engine.define(StoreDefinition("roles"))
    await insert(engine, *(entity(roles=[f"r{n}" for n in range(200)]) for _ in range(500)))
    role = await insert_one(engine, store="roles")
    for held, refused in (("r199", True), ("r200", False)):
        unused = Expect(STORE, parse_filter({"roles": held}), 0, 0)
        submitted.clear()
        if refused:
            with pytest.raises(NotAsExpected):
                await engine.commit([Delete("roles", role["_id"]), unused], USER)
            assert await get(engine, role["_id"], "roles") == role
        else:
            await engine.commit([Delete("roles", role["_id"]), unused], USER)
            assert await get(engine, role["_id"], "roles") is None
            assert submitted == IN_THREAD


async def test_a_condition_that_an_index_serves(engine: Engine, submitted: list[bool]) -> None:
    await insert(engine, *(entity(code=n) for n in range(500)))
    ran, _ = await done(engine, submitted, [Insert(STORE, entity()), Expect(STORE, parse_filter({"code": 7}), 1, 1)])
    assert ran == ON_LOOP


@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize(
    ("count", "size", "expected"), [(5, 0, ON_LOOP), (HEAVY + 1, 0, IN_THREAD), (5, HEAVY_BYTES // 4, IN_THREAD)]
)
async def test_bulk_changes_in_procedures(
    engine: Engine, submitted: list[bool], deletes: bool, count: int, size: int, expected: list[bool]
) -> None:
    """Many entities, or large ones, are changed in the thread, and each of them once."""
    made = [entity(n=0, text="x" * size) for _ in range(count)]
    await insert(engine, *made)
    begun = await engine.feed.position()
    halves = [tuple(each["_id"] for each in half) for half in (made[::2], made[1::2])]

    def steps() -> Steps:
        for ids in halves:
            where = In(("_id",), ids)
            one = DeleteMany(STORE, where, len(ids)) if deletes else UpdateMany(STORE, where, {"n": 1}, len(ids))
            written = yield from do(one)
        return written

    ran, written = await done(engine, submitted, [Procedure(STORE, steps)])
    assert (ran, written.count) == (expected, count // 2)
    assert len(await changes_since(engine.feed, begun)) == count
    assert [each["n"] for each in await engine.entities(STORE, Query())] == [] if deletes else [1] * count
