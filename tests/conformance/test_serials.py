"""Serial numbers: rising, and none used twice, whatever creates entities at the same time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from stores.errors import DuplicateValue, NotAsExpected
from stores.protocol import Engine, Insert, Procedure, Serial, Steps, Upsert, Written, do, take
from stores.query import Query
from stores.reference_checks import NOTHING_WRITTEN
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, value

NUMBER = (Serial("number", "things.number"),)


async def numbers(engine: Engine) -> list[int]:
    """Return the numbers of all entities, by creation."""
    return [each["number"] for each in await engine.entities(STORE, Query())]


async def create(engine: Engine, *serials: Serial) -> dict[str, int]:
    [written] = await engine.commit([Insert(STORE, entity(), serials or NUMBER)], USER)
    return {serial.field: value(written)[serial.field] for serial in serials or NUMBER}


async def test_numbers_rise_from_the_start(engine: Engine) -> None:
    """A higher start counts from the next entity on, a lower one does not."""
    assert [await create(engine) for _ in range(3)] == [{"number": 1}, {"number": 2}, {"number": 3}]
    other = Serial("other", "things.other", 1_000)
    assert await create(engine, *NUMBER, other) == {"number": 4, "other": 1_000}
    assert await create(engine, Serial("number", "things.number", 50), other) == {"number": 50, "other": 1_001}
    assert await create(engine) == {"number": 51}


async def test_an_array_takes_numbers_in_its_order(engine: Engine) -> None:
    written = await engine.commit([Insert(STORE, entity(n=n), NUMBER) for n in range(300)], USER)
    assert [value(each)["number"] for each in written] == list(range(1, 301))


async def test_only_new_entities_of_upserts_take_numbers(engine: Engine) -> None:
    def upserts(*codes: str) -> list[Upsert]:
        return [Upsert(STORE, "code", entity(code=code), {"seen": True}, serials=NUMBER) for code in codes]

    for codes in (["a"], ["b", "a", "c"], ["a"], ["d"]):
        await engine.commit(upserts(*codes), USER)
    found = {each["code"]: each["number"] for each in await engine.entities(STORE, Query())}
    assert found == {"a": 1, "b": 2, "c": 3, "d": 4}


async def test_a_number_of_a_failed_creation_is_not_used_again(engine: Engine) -> None:
    await engine.commit([Insert(STORE, entity(code="x"), NUMBER)], USER)
    with pytest.raises(DuplicateValue):
        await engine.commit([Insert(STORE, entity(code="x"), NUMBER)], USER)
    assert (await create(engine))["number"] > 1
    assert len(set(await numbers(engine))) == 2


async def test_an_entity_that_has_a_number_keeps_it(engine: Engine) -> None:
    """The counter goes on above it, also within the commit, and never goes back."""
    brought = [{"number": 50}, {}, {"number": 7}, {"number": None}]
    written = await engine.commit([Insert(STORE, entity(**each), NUMBER) for each in brought], USER)
    assert [value(each)["number"] for each in written] == [50, 51, 7, 52]
    assert await create(engine) == {"number": 53}
    [one] = await engine.commit([Insert(STORE, entity(number=3), NUMBER)], USER)
    assert value(one)["number"] == 3
    assert await create(engine) == {"number": 54}


async def test_numbers_that_come_with_references_are_kept_too(engine: Engine) -> None:
    """Checks before the writes do not change which number an entity gets."""
    await create(engine)
    entities = [entity(), entity(number=2)]
    written = await engine.commit([_nothing(), *(Insert(STORE, each, NUMBER) for each in entities)], USER)
    assert [value(each)["number"] for each in written[1:]] == [3, 2]


def _nothing() -> Procedure:
    def steps() -> Steps:
        yield from ()
        return NOTHING_WRITTEN

    return Procedure(STORE, steps)


async def test_an_upsert_keeps_the_number_of_a_new_entity(engine: Engine) -> None:
    """An entity that exists keeps the one that it has."""

    def upserts(*items: tuple[str, int]) -> list[Upsert]:
        return [Upsert(STORE, "code", entity(code=code, number=n), {"seen": True}, serials=NUMBER) for code, n in items]

    for items in ([("a", 20)], [("a", 90), ("b", 30), ("c", 10)]):
        await engine.commit(upserts(*items), USER)
    found = {each["code"]: each["number"] for each in await engine.entities(STORE, Query())}
    assert found == {"a": 20, "b": 30, "c": 10}
    assert await create(engine) == {"number": 31}


async def test_a_procedure_takes_numbers(engine: Engine) -> None:
    """Those of one that fails are not taken; none are with 0, but the counter goes on from the start."""
    firsts: list[int] = []

    def taking(count: int, start: int = 1, *, fails: bool = False) -> Procedure:
        def steps() -> Steps:
            firsts.append((yield from take(Serial("number", "things.number", start), count)))
            if fails:
                raise NotAsExpected
            return NOTHING_WRITTEN

        return Procedure(STORE, steps)

    await engine.commit([taking(3)], USER)
    with pytest.raises(NotAsExpected):
        await engine.commit([taking(5, fails=True)], USER)
    await engine.commit([taking(2)], USER)
    await engine.commit([taking(0)], USER)
    await engine.commit([taking(0, 50)], USER)
    assert firsts == [1, 4, 4, 6, 50]
    assert await create(engine) == {"number": 50}


@pytest.mark.generated(0.1)
async def test_no_number_is_used_twice(engine: Engine, database: Database) -> None:
    """By single creations, arrays, upserts and procedures at once, on two open engines where the database is shared."""

    def steps() -> Steps:
        yield from do(Insert(STORE, entity(), NUMBER))
        return (yield from do(Insert(STORE, entity(), NUMBER)))

    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(opened(database.engine())) if engine.shared else engine
        await second.define(StoreDefinition(STORE, unique=("code",)))
        work = []
        for place in range(40):
            some = second if place % 2 else engine
            work += [
                some.commit([Insert(STORE, entity(), NUMBER)], USER),
                some.commit([Insert(STORE, entity(), NUMBER) for _ in range(5)], USER),
                some.commit([Upsert(STORE, "code", entity(code=f"{place}"), {}, serials=NUMBER)], USER),
                some.commit([Procedure(STORE, steps)], USER),
            ]
        outcomes = await asyncio.gather(*work)
    assert all(isinstance(each, Written) for written in outcomes for each in written)
    taken = await numbers(engine)
    assert len(taken) == len(set(taken)) == 40 * 9
