"""A write that loses every race against others is 503, and 412 only for a revision that the caller named."""

from __future__ import annotations

import pytest

from hub.services import retrying
from hub.services.retrying import RETRIES, retry_on_current
from stores.errors import StaleRevision, Unavailable
from stores.protocol import AllBut, Engine, Insert, Revisions, Update
from stores.query import EVERYTHING
from stores.records import Entity, new_id
from stores.schema import StoreDefinition


@pytest.mark.parametrize(
    ("revs", "error", "attempts"),
    [
        (None, Unavailable, RETRIES + 1),
        (AllBut(frozenset({99})), Unavailable, RETRIES + 1),
        (frozenset({1}), StaleRevision, 1),
    ],
)
async def test_every_race_is_lost(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    revs: Revisions | None,
    error: type[Exception],
    attempts: int,
) -> None:
    monkeypatch.setattr(retrying, "LONGEST_PAUSE", 0)
    await engine.define(StoreDefinition("s"))
    id, tried = new_id(), 0
    await engine.commit([Insert("s", {"_id": id, "n": 0, "_rev": 1})], None)

    async def attempt(before: Entity) -> None:
        nonlocal tried
        tried += 1
        await engine.commit([Update("s", id, {"n": tried})], None)  # somebody else
        await engine.commit([Update("s", id, {"n": -tried}, revs=frozenset({before["_rev"]}))], None)

    with pytest.raises(error):
        await retry_on_current(engine, "s", id, EVERYTHING, revs, attempt)
    assert tried == attempts
