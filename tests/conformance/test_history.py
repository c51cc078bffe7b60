"""The history of one entity."""

from __future__ import annotations

import contextlib

import pytest

from stores.errors import InvalidQuery, Unavailable
from stores.mongo import history
from stores.mongo.engine import MongoEngine
from stores.protocol import Delete, Engine, Insert, Update, UpdateMany, Upsert
from stores.query import EVERYTHING
from stores.records import Entity, HistoryEntry, new_id, now_ms
from stores.schema import StoreDefinition
from stores.trail import images
from tests.support.engines import Database, opened
from tests.support.entities import OTHER_USER, STORE, USER, entity, insert, insert_one
from tests.support.hub import eventually
from tests.support.reading import get, trail


async def test_every_change_is_on_record(engine: Engine) -> None:
    """Entries have the old and new value per field, the writer and the revision, oldest first."""
    made = await insert_one(engine, code="x", a=1, b={"c": [1]})
    id = made["_id"]
    await engine.commit([Update(STORE, id, {"a": None, "d": "new"})], OTHER_USER)
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"b": {"c": [2]}}, 10)], USER)
    await engine.commit([Upsert(STORE, "code", entity(code="x"), {"a": True})], None)
    await engine.commit([Update(STORE, id, {"code": "y"}, replace=True)], USER)
    entries, end = await trail(engine, STORE, id)
    assert end is None
    assert [(e.op, e.rev, e.by) for e in entries] == [
        ("insert", 1, USER),
        ("update", 2, OTHER_USER),
        ("update", 3, USER),
        ("update", 4, None),
        ("update", 5, USER),
    ]
    changed = [{k: v for k, v in e.changed.items() if k in ("a", "b", "code", "d")} for e in entries]
    assert changed == [
        {"code": (None, "x"), "a": (None, 1), "b": (None, {"c": [1]})},
        {"a": (1, None), "d": (None, "new")},
        {"b": ({"c": [1]}, {"c": [2]})},
        {"a": (None, True)},
        {"code": ("x", "y"), "a": (True, None), "b": ({"c": [2]}, None), "d": ("new", None)},
    ]


async def test_times_are_those_of_the_commits(engine: Engine) -> None:
    """Times are in Unix milliseconds and never decrease."""
    start = now_ms()
    made = await insert_one(engine, n=0, time=1)
    for n in range(1, 4):
        await engine.commit([Update(STORE, made["_id"], {"n": n})], USER)
    entries, _ = await trail(engine, STORE, made["_id"])
    times = [e.time for e in entries]
    assert times == sorted(times)
    assert start - 1_000 <= times[0] <= times[-1] <= now_ms() + 1_000


async def test_a_deletion_is_on_record_with_what_was(engine: Engine) -> None:
    """The history has the writer of the deletion and the entity's final state."""
    made = await insert_one(engine, n=1)
    await engine.commit([Delete(STORE, made["_id"])], OTHER_USER)
    entries, end = await trail(engine, STORE, made["_id"])
    assert [(e.op, e.by) for e in entries] == [("insert", USER), ("delete", OTHER_USER)]
    assert entries[1].changed["n"] == (1, None)
    assert end == made


async def test_an_entity_that_came_back_is_not_deleted(engine: Engine) -> None:
    """The history continues after a deletion."""
    made = await insert_one(engine, n=1)
    await engine.commit([Delete(STORE, made["_id"]), Insert(STORE, made | {"n": 2})], USER)
    entries, end = await trail(engine, STORE, made["_id"])
    assert [e.op for e in entries] == ["insert", "delete", "insert"]
    assert end is None


async def test_what_never_was_has_no_history(engine: Engine) -> None:
    """An unknown or malformed id has an empty history."""
    for id in (new_id(), "", "nonsense"):
        assert await trail(engine, STORE, id) == ([], None)


async def test_trails_keep_apart(engine: Engine) -> None:
    """A history contains only the changes of one entity of one store."""
    made = [await insert_one(engine, n=n) for n in range(3)]
    await engine.commit([Update(STORE, e["_id"], {"n": n}) for e in made for n in (7, 8, 9)], USER)
    for e in made:
        entries, _ = await trail(engine, STORE, e["_id"])
        assert [x.rev for x in entries] == [1, 2, 3, 4]
        assert entries[0].changed["n"] == (None, e["n"])


async def test_odd_names_and_values_are_on_record(engine: Engine) -> None:
    """This includes unusual field names, and changes of only the type of a value."""
    name = 'it\'s "odd" \\ é😀'
    made = await insert_one(engine, {name: 1})
    await engine.commit([Update(STORE, made["_id"], {name: True})], USER)
    entries, _ = await trail(engine, STORE, made["_id"])
    assert entries[1].changed[name] == (1, True)
    assert entries[1].changed[name][1] is True


async def test_the_trail_outlives_sweep_and_restart(database: Database) -> None:
    """The feed drops old changes, the history keeps them."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        made = await insert_one(engine, n=1)
        await engine.commit([Update(STORE, made["_id"], {"n": 2})], USER)
        await engine.commit([Delete(STORE, made["_id"])], USER)
        before = await trail(engine, STORE, made["_id"])
        await engine.sweep(now_ms() + 1_000 * 3_600_000)
        assert await trail(engine, STORE, made["_id"]) == before
    async with opened(database.engine()) as engine:
        assert await trail(engine, STORE, made["_id"]) == before
    assert len(before[0]) == 3
    assert before[1] is not None


async def test_a_long_trail_is_read_in_pages(engine: Engine) -> None:
    """Pages of any size give the same history, and each page has the entity's final state."""
    made = await insert_one(engine, n=0)
    id = made["_id"]
    await engine.commit([Update(STORE, id, {"n": n}) for n in range(1, 30)], USER)
    await engine.sweep(now_ms() + 1_000 * 3_600_000)
    await engine.commit([Update(STORE, id, {"n": n}) for n in range(30, 40)], USER)
    await engine.commit([Delete(STORE, id)], USER)
    whole = await trail(engine, STORE, id)
    assert [e.rev for e in whole[0]] == [*range(1, 41), 40]
    for page in (1, 7, 40, 41):
        assert await trail(engine, STORE, id, page) == whole
    first = await engine.history(STORE, id, limit=3)
    assert len(first.entries) == 3
    assert first.final == whole[1] is not None


async def test_a_page_says_what_the_entity_was_at_its_end(engine: Engine) -> None:
    """The requested fields have the same values after each entry, for pages of any size."""
    made = await insert_one(engine, n=0)
    id = made["_id"]
    await engine.commit([Update(STORE, id, {"access": [OTHER_USER]}), Update(STORE, id, {"n": 1})], USER)
    await engine.commit([Delete(STORE, id)], USER)
    await engine.commit([Insert(STORE, made | {"owner": None}), Update(STORE, id, {"access": [USER]})], USER)
    await engine.sweep(now_ms() + 1_000 * 3_600_000)
    await engine.commit([Update(STORE, id, {"access": []}), Update(STORE, id, {"n": 2, "owner": OTHER_USER})], USER)
    end = await get(engine, id) or {}
    asked = frozenset({"owner", "access", "missing"})
    whole = await engine.history(STORE, id, fields=asked)
    expected = [{name: image.get(name) for name in asked} for _, image in images(whole.entries, end, asked)][::-1]
    for size in (1, 2, 3, 5):
        found: list[Entity] = []
        after: str | None = None
        while len(found) < len(expected):
            page = await engine.history(STORE, id, after, size, asked)
            then = images(page.entries, end | page.later, asked)
            found += [{name: image.get(name) for name in asked} for _, image in then][::-1]
            after = page.next
        assert found == expected
        assert after is None


async def test_a_page_is_bounded_by_its_bytes(engine: Engine) -> None:
    """A history of large values comes in several pages, with complete entries."""
    made = await insert_one(engine, text="0" * 900_000)
    for n in range(1, 12):
        await engine.commit([Update(STORE, made["_id"], {"text": str(n % 10) * 900_000})], USER)
    first = await engine.history(STORE, made["_id"])
    assert 1 < len(first.entries) < 6
    assert first.next is not None
    entries, _ = await trail(engine, STORE, made["_id"])
    assert [e.rev for e in entries] == list(range(1, 13))
    assert all(len(str(e.changed["text"][1])) == 900_000 for e in entries)


@pytest.mark.parametrize("after", ["", "x", "-1", "'", "\0"])
async def test_a_place_that_is_none_is_refused(engine: Engine, after: str) -> None:
    made = await insert_one(engine, n=1)
    with pytest.raises(InvalidQuery):
        await engine.history(STORE, made["_id"], after)


@pytest.mark.parametrize("after", ["9" * 30, "82"])
async def test_a_place_of_another_trail_is_refused_or_leads_nowhere(engine: Engine, after: str) -> None:
    """It raises InvalidQuery, or gives an empty or the complete history; there is no other error."""
    made = await insert_one(engine, n=1)
    whole = await engine.history(STORE, made["_id"])
    with contextlib.suppress(InvalidQuery):
        page = await engine.history(STORE, made["_id"], after)
        assert page.entries in ([], whole.entries)


async def test_the_trail_is_whole_at_once(engine: Engine) -> None:
    """This holds right after a large commit, whose changes are still being recorded, and for an entity that was created
    and deleted."""
    made = await insert_one(engine, n=0)
    for _ in range(5):
        await insert(engine, *(entity(n=n) for n in range(2_000)))
        await engine.commit([Delete(STORE, made["_id"]), Insert(STORE, made | {"n": 1})], USER)

    async def whole() -> tuple[list[HistoryEntry], Entity | None] | None:
        with contextlib.suppress(Unavailable):  # it waits some seconds for what is still being recorded
            return await trail(engine, STORE, made["_id"])
        return None

    entries, end = await eventually(whole)
    assert [e.op for e in entries] == ["insert"] + ["delete", "insert"] * 5
    assert end is None


@pytest.mark.engine("mongodb")
async def test_changes_without_a_record_are_bounded_by_the_bytes_of_their_values(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them are not read into memory: the answer is 503."""
    assert isinstance(engine, MongoEngine)
    monkeypatch.setattr(history, "_TAIL_BYTES", 10_000)
    await engine._history.stop()
    made = await insert_one(engine, text="x" * 5_000)
    entries, _ = await trail(engine, STORE, made["_id"])
    assert [entry.rev for entry in entries] == [1]
    await engine.commit([Update(STORE, made["_id"], {"text": "y" * 5_000})], USER)
    with pytest.raises(Unavailable):
        await engine.history(STORE, made["_id"])
