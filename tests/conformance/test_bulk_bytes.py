"""Bulk changes are bounded by the bytes that they write or delete, whatever the number of matches."""

from __future__ import annotations

import pytest

from stores import protocol
from stores.errors import InvalidQuery
from stores.protocol import UNBOUNDED, DeleteMany, Engine, UpdateMany, Write
from stores.query import EVERYTHING, Query
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
    monkeypatch.setattr(protocol, "MOST_BULK_BYTES", COUNT * 10_000)
    await refused(engine, UpdateMany(STORE, EVERYTHING, {"n": 1}, 1_000))
    await refused(engine, DeleteMany(STORE, EVERYTHING, 1_000))
    monkeypatch.setattr(protocol, "MOST_BULK_BYTES", COUNT * 11_000)
    await refused(engine, UpdateMany(STORE, EVERYTHING, {"more": "y" * 1_000}, 1_000))
    [written] = await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 1}, 1_000)], USER)
    assert written.count == COUNT
    monkeypatch.setattr(protocol, "MOST_BULK_BYTES", 0)
    for write in (UpdateMany(STORE, EVERYTHING, {"n": 2}, UNBOUNDED), DeleteMany(STORE, EVERYTHING, UNBOUNDED)):
        [written] = await engine.commit([write], USER)
        assert written.count == COUNT
