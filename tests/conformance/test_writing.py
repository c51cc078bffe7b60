"""Every kind of write: results, errors, and batches, which are all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from stores import query
from stores.errors import DuplicateValue, NotFound, StaleRevision, StoreError, TooManyMatches
from stores.protocol import Delete, DeleteMany, Engine, Insert, Update, UpdateMany, Upsert, Write
from stores.query import And, Compare, Equal, Query
from stores.records import SYSTEM_FIELDS, new_id
from stores.schema import StoreDefinition
from tests.support.entities import OTHER_USER, STORE, USER, entity, insert, insert_one, numbered, value
from tests.support.reading import changes_since, find, get

NOBODY = "5f0000000000000000000fff"


def system_of(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: entity[name] for name in SYSTEM_FIELDS if name != "_rev"}


async def test_an_insert_gives_back_what_is_stored(engine: Engine) -> None:
    """The outcome is the entity as it can be read, at revision 1."""
    made = entity(n=1, nested={"a": [1, {"b": None}]})
    [written] = await insert(engine, made)
    assert (written.rev, written.count) == (1, 1)
    assert value(written) == made == await get(engine, made["_id"])


async def test_a_taken_id_is_a_duplicate(engine: Engine) -> None:
    """It raises DuplicateValue for `_id`, with the number of the write."""
    made = await insert_one(engine)
    with pytest.raises(DuplicateValue) as refusal:
        await insert(engine, entity(), entity(_id=made["_id"]))
    assert (refusal.value.field, refusal.value.index) == ("_id", 1)
    assert len(await find(engine)) == 1


async def test_an_update_merges_top_level_fields(engine: Engine) -> None:
    """Given fields are replaced as a whole, others stay, and the revision is increased by one."""
    made = await insert_one(engine, a={"x": 1, "y": 2}, b=1)
    changes = {"a": {"x": 9}, "c": None, "_at": made["_at"] + 5}
    [written] = await engine.commit([Update(STORE, made["_id"], changes)], USER)
    assert value(written) == made | changes | {"_rev": 2} == await get(engine, made["_id"])
    assert (written.rev, written.count) == (2, 1)


async def test_revisions_count_every_change(engine: Engine) -> None:
    """Each update increases the revision by one."""
    made = await insert_one(engine, n=0)
    revs = [(await engine.commit([Update(STORE, made["_id"], {"n": n})], USER))[0].rev for n in range(1, 6)]
    assert revs == [2, 3, 4, 5, 6]
    found = await engine.get(STORE, made["_id"])
    assert found is not None
    assert found[1] == 6


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "back\\slash", "two words", "日本語😀", "a$", "a[0]", "-", "0"])
async def test_an_update_takes_any_field_name(engine: Engine, name: str) -> None:
    """Names may contain any characters, in single and bulk updates."""
    made = await insert_one(engine, {name: 1})
    await engine.commit([Update(STORE, made["_id"], {name: [name]})], USER)
    await engine.commit([UpdateMany(STORE, query.EVERYTHING, {name: {name: "$time"}}, 10)], USER)
    read = await get(engine, made["_id"])
    assert read == made | {name: {name: "$time"}, "_rev": 3}


@pytest.mark.parametrize("text", ["$name", "$$ROOT", "$a.b", "$$REMOVE", "{$literal: 1}", "'", "\\", "a\nb"])
async def test_values_are_never_taken_for_expressions(engine: Engine, text: str) -> None:
    """Text that looks like a database operator stays plain text, at any depth and in every kind of write."""
    made = await insert_one(engine, name="secret", code=text)
    changes = {"v": text, "deep": {"list": [text, {"x": text}]}}
    for write in (
        Update(STORE, made["_id"], changes),
        Update(STORE, made["_id"], changes | {"code": text}, replace=True),
        UpdateMany(STORE, Equal(("v",), text), changes, 5),
        Upsert(STORE, "code", entity(code=text), changes),
    ):
        await engine.commit([write], USER)
        read = await get(engine, made["_id"]) or {}
        assert {"v": read["v"], "deep": read["deep"], "code": read["code"]} == changes | {"code": text}


async def test_a_replacement_keeps_only_the_system_fields(engine: Engine) -> None:
    """All other fields are those of the replacement."""
    made = await insert_one(engine, a=1, b=2, owner=OTHER_USER, access=[USER])
    [written] = await engine.commit([Update(STORE, made["_id"], {"c": 3}, replace=True)], USER)
    assert value(written) == system_of(made) | {"c": 3, "_rev": 2} == await get(engine, made["_id"])


async def test_a_replacement_may_bring_system_fields_of_its_own(engine: Engine) -> None:
    """The caller may set them."""
    made = await insert_one(engine, a=1)
    await engine.commit([Update(STORE, made["_id"], {"_at": 5, "access": [USER]}, replace=True)], USER)
    read = await get(engine, made["_id"]) or {}
    assert (read["_at"], read["access"], "a" in read) == (5, [USER], False)


async def test_a_delete_gives_back_what_was(engine: Engine) -> None:
    """The outcome is the entity's last state; afterwards it does not exist."""
    made = await insert_one(engine, n=1)
    [written] = await engine.commit([Delete(STORE, made["_id"])], USER)
    assert value(written) == made
    assert await get(engine, made["_id"]) is None
    with pytest.raises(NotFound):
        await engine.commit([Delete(STORE, made["_id"])], USER)


def single_writes(id: str, **more: Any) -> list[Write]:
    return [
        Update(STORE, id, {"n": 5}, **more),
        Update(STORE, id, {"n": 5}, replace=True, **more),
        Delete(STORE, id, **more),
    ]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("id", [NOBODY, "", "nonsense", "x" * 24])
async def test_what_is_not_there_is_not_found(engine: Engine, kind: int, id: str) -> None:
    """Unknown and malformed ids cannot be changed."""
    with pytest.raises(NotFound):
        await engine.commit([single_writes(id)[kind]], USER)


@pytest.mark.parametrize("kind", range(3))
async def test_what_where_leaves_out_is_not_found(engine: Engine, kind: int) -> None:
    """NotFound is raised before revisions are checked, and nothing changes."""
    made = await insert_one(engine, n=1)
    with pytest.raises(NotFound):
        await engine.commit([single_writes(made["_id"], where=Equal(("n",), 2), revs=frozenset({7}))[kind]], USER)
    assert await get(engine, made["_id"]) == made
    await engine.commit([single_writes(made["_id"], where=Equal(("n",), 1))[kind]], USER)
    assert await get(engine, made["_id"]) != made


@pytest.mark.parametrize("kind", range(3))
async def test_a_stale_revision_is_refused(engine: Engine, kind: int) -> None:
    """StaleRevision has the current revision. If several revisions are given, any of them is enough."""
    made = await insert_one(engine, n=1)
    await engine.commit([Update(STORE, made["_id"], {"n": 2})], USER)
    with pytest.raises(StaleRevision) as refusal:
        await engine.commit([single_writes(made["_id"], revs=frozenset({1, 3}))[kind]], USER)
    assert refusal.value.current == 2
    with pytest.raises(StaleRevision):
        await engine.commit([single_writes(made["_id"], revs=frozenset())[kind]], USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 2
    await engine.commit([single_writes(made["_id"], revs=frozenset({1, 2}))[kind]], USER)


async def test_where_judges_the_entity_before_the_change(engine: Engine) -> None:
    """After an update the entity need not match its filter."""
    made = await insert_one(engine, n=1)
    await engine.commit([Update(STORE, made["_id"], {"n": 2}, where=Equal(("n",), 1))], USER)
    await engine.commit([UpdateMany(STORE, Equal(("n",), 2), {"n": 3}, 10)], USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 3


async def test_an_upsert_inserts_what_is_new(engine: Engine) -> None:
    """If no entity has the value, the new one is stored."""
    made = entity(code="x", n=1)
    [written] = await engine.commit([Upsert(STORE, "code", made, {"code": "x", "n": 2})], USER)
    assert value(written) == made
    assert written.rev == 1


async def test_an_upsert_merges_into_what_is_there(engine: Engine) -> None:
    """The entity with the value keeps its id and is changed."""
    made = await insert_one(engine, code="x", n=1, kept=True)
    [written] = await engine.commit([Upsert(STORE, "code", entity(code="x", n=5), {"code": "x", "n": 2})], USER)
    assert value(written) == made | {"n": 2, "_rev": 2} == await get(engine, made["_id"])
    assert len(await find(engine)) == 1


async def test_an_upsert_does_not_reach_what_where_leaves_out(engine: Engine) -> None:
    """It raises DuplicateValue, like an insert."""
    made = await insert_one(engine, code="x", n=1)
    write = Upsert(STORE, "code", entity(code="x"), {"n": 2}, where=Equal(("owner",), OTHER_USER))
    with pytest.raises(DuplicateValue) as refusal:
        await engine.commit([Insert(STORE, entity()), write], USER)
    assert (refusal.value.field, refusal.value.index) == ("code", 1)
    assert await find(engine) == [made]


async def test_an_upsert_by_a_dotted_path(engine: Engine) -> None:
    """The unique path may be inside objects."""
    await engine.define(StoreDefinition("units", unique=("a.b",)))
    for n in range(3):
        await engine.commit([Upsert("units", "a.b", entity(a={"b": 7}, n=n), {"n": n})], USER)
    [read] = await find(engine, store="units")
    assert (read["n"], read["_rev"]) == (2, 3)


async def test_many_are_updated_at_once(engine: Engine) -> None:
    """Every match is changed and gets its own revision; the outcome has the count."""
    made = numbered(30)
    await insert(engine, *made)
    [written] = await engine.commit([UpdateMany(STORE, Compare(("n",), "gte", 10), {"x": None}, 1_000)], USER)
    assert (written.count, written.entity) == (20, b"")
    assert await find(engine) == [e | {"x": None, "_rev": 2} if e["n"] >= 10 else e for e in made]


async def test_many_are_deleted_at_once(engine: Engine) -> None:
    """Every match is deleted; the outcome has the count."""
    made = numbered(30)
    await insert(engine, *made)
    [written] = await engine.commit([DeleteMany(STORE, Compare(("n",), "gte", 10), 20)], USER)
    assert (written.count, written.entity) == (20, b"")
    assert await find(engine) == made[:10]


async def test_a_bulk_change_of_nothing_is_no_mistake(engine: Engine) -> None:
    """The count is zero, and there are no change records."""
    await insert_one(engine)
    position = await engine.feed.position()
    written = await engine.commit(
        [UpdateMany(STORE, query.NOTHING, {"x": 1}, 10), DeleteMany(STORE, query.NOTHING, 10)], USER
    )
    assert [w.count for w in written] == [0, 0]
    assert await changes_since(engine.feed, position) == []


@pytest.mark.parametrize("kind", ["update", "delete"])
async def test_too_many_matches_change_nothing(engine: Engine, kind: str) -> None:
    """If there is one match more than the limit, nothing is done."""
    made = numbered(11)
    await insert(engine, *made)
    every = query.EVERYTHING
    write: Write = UpdateMany(STORE, every, {"x": 1}, 10) if kind == "update" else DeleteMany(STORE, every, 10)
    with pytest.raises(TooManyMatches) as refusal:
        await engine.commit([write], USER)
    assert refusal.value.limit == 10
    assert await find(engine) == made


def failing(made: dict[str, Any]) -> list[tuple[type[StoreError], Write]]:
    id = made["_id"]
    return [
        (DuplicateValue, Insert(STORE, entity(code="taken"))),
        (DuplicateValue, Insert(STORE, entity(_id=id))),
        (DuplicateValue, Update(STORE, id, {"code": "taken"})),
        (DuplicateValue, UpdateMany(STORE, query.EVERYTHING, {"code": "same"}, 100)),
        (DuplicateValue, Upsert(STORE, "code", entity(code="taken"), {}, where=query.NOTHING)),
        (NotFound, Update(STORE, NOBODY, {"n": 1})),
        (NotFound, Delete(STORE, NOBODY)),
        (StaleRevision, Update(STORE, id, {"n": 1}, revs=frozenset({9}))),
        (StaleRevision, Delete(STORE, id, revs=frozenset({9}))),
        (TooManyMatches, DeleteMany(STORE, query.EVERYTHING, 1)),
        (TooManyMatches, UpdateMany(STORE, query.EVERYTHING, {}, 1)),
    ]


@pytest.mark.parametrize("kind", range(11))
async def test_a_batch_is_all_or_nothing(engine: Engine, kind: int) -> None:
    """If any write fails, nothing of its batch remains: no entity, no change record, no history."""
    taken = await insert_one(engine, code="taken", time=1)
    made = await insert_one(engine, n=0, time=2)
    position = await engine.feed.position()
    error, write = failing(made)[kind]
    fresh = new_id()
    batch = [
        Insert(STORE, entity(_id=fresh, time=3)),
        Update(STORE, taken["_id"], {"n": 7}),
        Update(STORE, fresh, {"n": 8}),
        write,
        Delete(STORE, taken["_id"]),
    ]
    with pytest.raises(error) as refusal:
        await engine.commit(batch, USER)
    if isinstance(refusal.value, DuplicateValue):
        assert refusal.value.index == 3
    assert await find(engine) == [taken, made]
    assert await changes_since(engine.feed, position) == []
    assert (await engine.history(STORE, fresh)).entries == []
    await insert_one(engine, _id=fresh)


async def test_writes_of_a_batch_build_on_each_other(engine: Engine) -> None:
    """A later write sees the effect of earlier ones."""
    id, other = new_id(), new_id()
    written = await engine.commit(
        [
            Insert(STORE, entity(_id=id, code="a", n=0)),
            Update(STORE, id, {"n": 1}, revs=frozenset({1})),
            Upsert(STORE, "code", entity(code="a"), {"n": 2}),
            UpdateMany(STORE, Equal(("n",), 2), {"n": 3}, 10),
            Update(STORE, id, {"code": "b"}, where=And((Equal(("n",), 3), Equal(("code",), "a")))),
            Insert(STORE, entity(_id=other, code="a")),
            DeleteMany(STORE, Equal(("code",), "a"), 10),
            Insert(STORE, entity(_id=other, code="a", n=9)),
        ],
        USER,
    )
    assert [w.rev for w in written if w.entity] == [1, 2, 3, 5, 1, 1]
    assert {e["_id"]: (e["code"], e["n"], e["_rev"]) for e in await find(engine)} == {
        id: ("b", 3, 5),
        other: ("a", 9, 1),
    }


async def test_a_commit_of_nothing_does_nothing(engine: Engine) -> None:
    """An empty list of writes has an empty outcome."""
    position = await engine.feed.position()
    assert await engine.commit([], USER) == []
    assert await changes_since(engine.feed, position) == []


async def test_a_batch_may_span_stores(engine: Engine) -> None:
    """A batch over several stores is all or nothing too."""
    await engine.define(StoreDefinition("units"))
    with pytest.raises(NotFound):
        await engine.commit([Insert("units", entity()), Delete(STORE, NOBODY)], USER)
    assert await find(engine, store="units") == []
    await engine.commit([Insert("units", entity()), Insert(STORE, entity())], USER)
    assert len(await find(engine, store="units")) == len(await find(engine)) == 1


async def test_ten_thousand_in_one_commit(engine: Engine) -> None:
    """The largest array that a client may send can be inserted, changed and deleted in one commit each."""
    made = numbered(10_000)
    written = await insert(engine, *made)
    assert len(written) == 10_000
    assert (await engine.summarize(STORE, query.EVERYTHING)).count == 10_000
    [updated] = await engine.commit([UpdateMany(STORE, query.EVERYTHING, {"x": 1}, 10_000)], USER)
    [deleted] = await engine.commit([DeleteMany(STORE, query.EVERYTHING, 10_000)], USER)
    assert (updated.count, deleted.count) == (10_000, 10_000)
    assert await find(engine, Query(limit=1)) == []


async def test_a_moved_unique_value_is_free_again(engine: Engine) -> None:
    """Updates and deletes free unique values; an entity does not conflict with itself."""
    first, second = await insert_one(engine, code="x"), await insert_one(engine, code="y")
    await engine.commit([Update(STORE, first["_id"], {"code": "x"})], USER)
    await engine.commit([Update(STORE, first["_id"], {"code": None})], USER)
    await engine.commit([Update(STORE, second["_id"], {"code": "x"})], USER)
    await engine.commit([Delete(STORE, second["_id"])], USER)
    await insert_one(engine, code="x")
