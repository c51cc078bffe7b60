"""An array of upserts has a limit by the bytes of the entities that it meets."""

from __future__ import annotations

import orjson
import pytest

from stores import writes
from stores.errors import UpsertTooLarge
from stores.protocol import Engine, IdempotencyKey, Upsert, Write
from stores.records import Entity, now_ms
from tests.support.entities import STORE, USER, entity, insert_one
from tests.support.reading import changes_since, find, get

COUNT = 20


def upsert(code: int, **changes: object) -> Upsert:
    return Upsert(STORE, "code", entity(code=code, **changes), dict(changes))


def size(made: Entity) -> int:
    return len(orjson.dumps(made))


@pytest.mark.parametrize("text", ["x" * 1_000, "é" * 500], ids=["ascii", "other"])
async def test_what_is_met_counts_as_often_as_it_is_met(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Up to the limit all are done, though nothing is altered; beyond it none is, with and without a key."""
    made = await insert_one(engine, code=1, text=text)
    same: list[Write] = [upsert(1, text=text)] * COUNT
    monkeypatch.setattr(writes, "MOST_UPSERT_BYTES", COUNT * size(made) + COUNT * 200)
    assert [w.count for w in await engine.commit(same, USER)] == [0] * COUNT
    monkeypatch.setattr(writes, "MOST_UPSERT_BYTES", COUNT * 900)
    since = await engine.feed.position()
    for key in (None, IdempotencyKey("key", "one", now_ms() + 60_000)):
        with pytest.raises(UpsertTooLarge) as raised:
            await engine.commit([upsert(2, n=1), *same], USER, key)
        assert raised.value.limit_name == "MOST_UPSERT_BYTES"
        assert str(COUNT * 900) in raised.value.message
    assert await changes_since(engine.feed, since) == []
    assert await get(engine, made["_id"]) == made


async def test_new_entities_and_single_upserts_do_not_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body bounds them."""
    monkeypatch.setattr(writes, "MOST_UPSERT_BYTES", 2_000)
    await engine.commit([upsert(code, text="x" * 1_000) for code in range(COUNT)], USER)
    assert len(await find(engine)) == COUNT
    for code in range(COUNT):
        [written] = await engine.commit([upsert(code, n=1)], USER)
        assert written.count == 1
