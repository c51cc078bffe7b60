"""Bulk changes are bounded by the bytes that they write or delete, whatever the number of matches."""

from __future__ import annotations

import pytest

from stores import writes
from stores.errors import InvalidQuery
from stores.protocol import UNBOUNDED, DeleteMany, Engine, Procedure, Steps, UpdateMany, Write, Written, do, find
from stores.query import EVERYTHING, Equal, Query
from tests.support.entities import STORE, USER, entity, insert

COUNT = 20


async def refused(engine: Engine, write: Write) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        await engine.commit([write], USER)
    assert (refusal.value.field, refusal.value.limit_name) == ("filter", "MOST_BULK_BYTES")
    assert {each["_rev"] for each in await engine.entities(STORE, Query())} == {1}


async def test_what_matches_counts_as_it_is_stored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """For changes and deletions; jobs of the hub itself, which must reach all, have no bound."""
    await insert(engine, *(entity(text="x" * 10_000) for _ in range(COUNT)))
    monkeypatch.setattr(writes, "MOST_BULK_BYTES", COUNT * 10_000)
    await refused(engine, UpdateMany(STORE, EVERYTHING, {"n": 1}, 1_000))
    await refused(engine, DeleteMany(STORE, EVERYTHING, 1_000))
    monkeypatch.setattr(writes, "MOST_BULK_BYTES", COUNT * 11_000)
    await refused(engine, UpdateMany(STORE, EVERYTHING, {"more": "y" * 1_000}, 1_000))
    [written] = await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 1}, 1_000)], USER)
    assert written.count == COUNT
    monkeypatch.setattr(writes, "MOST_BULK_BYTES", 0)
    for write in (UpdateMany(STORE, EVERYTHING, {"n": 2}, UNBOUNDED), DeleteMany(STORE, EVERYTHING, UNBOUNDED)):
        [written] = await engine.commit([write], USER)
        assert written.count == COUNT


async def test_those_of_one_commit_count_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A procedure may make many, such as the consequences of a deletion. What it finds counts for itself."""
    made = [entity(text="x" * 10_000) for _ in range(COUNT)]
    ids = [Equal(("_id",), each["_id"]) for each in made]
    await insert(engine, *made)

    def deletes() -> Steps:
        for id in ids:
            yield from do(DeleteMany(STORE, id, 1))
        return Written(b"", 0, 0)

    def finds() -> Steps:
        for id in ids:
            yield from find(STORE, id, 1, ("text",))
        return Written(b"", 0, 0)

    monkeypatch.setattr(writes, "MOST_BULK_BYTES", COUNT * 10_000)
    for steps in (deletes, finds):
        for bulk in (False, True):
            await refused(engine, Procedure(STORE, steps, bulk))
    monkeypatch.setattr(writes, "MOST_BULK_BYTES", COUNT * 11_000)
    for steps in (finds, deletes):
        await engine.commit([Procedure(STORE, steps)], USER)
    assert await engine.entities(STORE, Query()) == []
