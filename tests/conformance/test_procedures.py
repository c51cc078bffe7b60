"""Procedures: writes that depend on what their commit finds. Concurrent ones that lock the same key do not miss each
other."""

from __future__ import annotations

import asyncio

import pytest

from stores.errors import DuplicateValue, NotAsExpected, NotFound
from stores.protocol import Delete, Engine, IdempotencyKey, Insert, InsertMany, Lock, Procedure, Steps, Update, Written, do, find
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity, new_id, now_ms
from stores.schema import StoreDefinition
from tests.conftest import extent_of
from tests.support.entities import STORE, USER, entity, insert, insert_one, value
from tests.support.reading import changes_since

AT_ONCE = 50
CASES_PER_RACE = 10


@pytest.fixture
def races(request: pytest.FixtureRequest) -> int:
    """The number of races: a tenth of the generated cases."""
    return max(AT_ONCE, extent_of(request.config).cases // CASES_PER_RACE)


async def carry_out(engine: Engine, procedure: Procedure, key: IdempotencyKey | None = None) -> Written:
    [written] = await engine.commit([procedure], USER, key)
    return written


async def test_a_procedure_sees_what_it_has_done(engine: Engine) -> None:
    """Its steps are one commit, whose outcome is what it returns."""
    first = await insert_one(engine, n=1, text="a")
    begun = await engine.feed.position()

    def steps() -> Steps:
        [found] = yield from find(STORE, Equal(("text",), "a"), 5)
        assert found == first
        made = yield from do(Insert(STORE, entity(n=found["n"] + 1, text="a")))
        both = yield from find(STORE, Equal(("text",), "a"), 5, ("n",))
        assert both == [{"_id": first["_id"], "n": 1}, {"_id": value(made)["_id"], "n": 2}]
        assert len((yield from find(STORE, EVERYTHING, 1, ()))) == 1
        return (yield from do(Update(STORE, first["_id"], {"n": len(both) + 1})))

    written = await carry_out(engine, Procedure(STORE, steps))
    assert (value(written)["n"], written.rev) == (3, 2)
    assert [change.op for change in await changes_since(engine.feed, begun)] == ["insert", "update"]


@pytest.mark.parametrize("count", [0, 1, 150])
async def test_many_are_inserted_in_one_step(engine: Engine, count: int) -> None:
    begun = await engine.feed.position()
    entities = [entity(n=n) for n in range(count)]

    def steps() -> Steps:
        yield InsertMany(STORE, entities)
        assert len((yield from find(STORE, EVERYTHING, count + 1, ()))) == count
        return Written(b"", 0, count)

    await carry_out(engine, Procedure(STORE, steps))
    assert await engine.entities(STORE, Query()) == entities
    changes = await changes_since(engine.feed, begun)
    assert [(change.op, change.after) for change in changes] == [("insert", each) for each in entities]


async def test_an_insertion_of_many_that_fails_leaves_nothing(engine: Engine) -> None:
    first = await insert_one(engine, code="a")

    def steps() -> Steps:
        yield InsertMany(STORE, [entity(code="b"), entity(code="a")])
        return Written(b"", 0, 0)

    with pytest.raises(DuplicateValue) as refused:
        await carry_out(engine, Procedure(STORE, steps))
    assert refused.value.field == "code"
    assert await engine.entities(STORE, Query()) == [first]


async def test_fields_that_are_asked_for_may_be_missing(engine: Engine) -> None:
    made = await insert_one(engine, **{"a b": None, "c": {"d": [1.5, "x"]}})
    found: list[list[Entity]] = []

    def steps() -> Steps:
        found.append((yield from find(STORE, Equal(("_id",), made["_id"]), 1, ("a b", "c", "e"))))
        return Written(b"", 0, 0)

    await carry_out(engine, Procedure(STORE, steps))
    assert found[-1] == [{"_id": made["_id"], "a b": None, "c": {"d": [1.5, "x"]}}]


async def test_a_failed_step_undoes_all(engine: Engine) -> None:
    """The procedure may say what the error means, but not go on."""
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    await insert_one(engine, code="x")

    def refused() -> Steps:
        yield from do(Insert(STORE, entity(n=1)))
        try:
            return (yield from do(Insert(STORE, entity(code="x"))))
        except DuplicateValue as error:
            if error.index == 1:  # the procedure's own, although it is its second step
                raise NotAsExpected from error
            raise

    def goes_on() -> Steps:
        yield from do(Insert(STORE, entity(n=2)))
        try:
            yield from do(Delete(STORE, new_id()))
        except NotFound:
            pass
        return (yield from do(Insert(STORE, entity(n=3))))

    with pytest.raises(NotAsExpected):
        await engine.commit([Insert(STORE, entity(n=0)), Procedure(STORE, refused)], USER)
    with pytest.raises(NotFound):
        await carry_out(engine, Procedure(STORE, goes_on))
    assert [each.get("code") for each in await engine.entities(STORE, Query())] == ["x"]


async def test_a_key_is_used_once(engine: Engine) -> None:
    def steps() -> Steps:
        return (yield from do(Insert(STORE, entity(n=1))))

    key = IdempotencyKey(new_id(), "same", now_ms() + 60_000)
    first = await carry_out(engine, Procedure(STORE, steps), key)
    assert await carry_out(engine, Procedure(STORE, steps), key) == first
    assert len(await engine.entities(STORE, Query(Equal(("n",), 1)))) == 1


async def test_many_steps_and_bulk_changes(engine: Engine) -> None:
    """More than the event loop takes at once."""
    entities = [entity(n=n) for n in range(150)]
    await insert(engine, *entities)

    def steps() -> Steps:
        total = 0
        for each in entities:
            written = yield from do(Update(STORE, each["_id"], {"n": each["n"] + 1}))
            total += value(written)["n"]
        return Written(b"", 0, total)

    for bulk in (False, True):
        assert (await carry_out(engine, Procedure(STORE, steps, bulk))).count == sum(range(151))


@pytest.mark.gate("mongodb")  # SQLite has one writer
@pytest.mark.parametrize("bulk", [False, True])
async def test_procedures_that_collide_in_another_store_all_succeed(engine: Engine, bulk: bool) -> None:
    """Not in the one that they mainly write to: an order is new, but changes the stock that all orders change."""
    await engine.define(StoreDefinition("others"))
    stock = entity(n=0)
    await engine.commit([Insert("others", stock)], USER)

    def steps() -> Steps:
        yield from do(Insert(STORE, entity()))
        [found] = yield from find("others", Equal(("_id",), stock["_id"]), 1)
        return (yield from do(Update("others", stock["_id"], {"n": found["n"] + 1})))

    await asyncio.gather(*(carry_out(engine, Procedure(STORE, steps, bulk)) for _ in range(AT_ONCE)))
    assert [each["n"] for each in await engine.entities("others", Query())] == [AT_ONCE]


@pytest.mark.generated(0.1)
async def test_readers_that_lock_a_key_miss_no_write(engine: Engine, races: int) -> None:
    """Each takes the next number after the largest that it finds."""
    seen = await insert_one(engine, n=0)

    def steps() -> Steps:
        yield Lock(("numbers",), exclusive=True)
        [found] = yield from find(STORE, Equal(("_id",), seen["_id"]), 1)
        yield from do(Update(STORE, seen["_id"], {"n": found["n"] + 1}))
        return (yield from do(Insert(STORE, entity(taken=found["n"]))))

    for _ in range(0, races, AT_ONCE):
        await asyncio.gather(*(carry_out(engine, Procedure(STORE, steps)) for _ in range(AT_ONCE)))
    taken = sorted(each["taken"] for each in await engine.entities(STORE, Query()) if "taken" in each)
    assert taken == list(range(len(taken)))
    assert len(taken) >= races


@pytest.mark.generated(0.1)
async def test_what_many_refer_to_is_not_deleted_meanwhile(engine: Engine, races: int) -> None:
    """References to one entity share a lock, its deletion locks exclusively: whichever is first, no reference is left
    without its target."""
    for start in range(0, races, AT_ONCE):
        target = (await insert_one(engine, target=None, start=start))["_id"]

        def refer(target: str = target) -> Steps:
            yield Lock((target,))
            if not (yield from find(STORE, Equal(("_id",), target), 1, ())):
                raise NotAsExpected
            return (yield from do(Insert(STORE, entity(target=target))))

        def delete(target: str = target) -> Steps:
            yield Lock((target,), exclusive=True)
            if (yield from find(STORE, Equal(("target",), target), 1, ())):
                raise NotAsExpected
            return (yield from do(Delete(STORE, target)))

        procedures = [Procedure(STORE, delete if number == AT_ONCE // 2 else refer) for number in range(AT_ONCE)]
        outcomes = await asyncio.gather(*(carry_out(engine, each) for each in procedures), return_exceptions=True)
        assert all(isinstance(each, Written | NotAsExpected) for each in outcomes), outcomes
        left = await engine.entities(STORE, Query(Equal(("_id",), target)))
        referring = await engine.entities(STORE, Query(Equal(("target",), target)))
        assert bool(left) == bool(referring)
