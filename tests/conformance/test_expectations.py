"""Expectations of a commit: the entities that they depend on cannot change between the check and the commit."""

from __future__ import annotations

import asyncio

import pytest

from stores.errors import NotAsExpected, StaleRevision
from stores.protocol import Delete, Engine, Expect, IdempotencyKey, Insert, Update, Write
from stores.query import And, Equal, Query
from stores.records import new_id, now_ms
from tests.conftest import extent_of
from tests.support.entities import STORE, USER, entity, insert, insert_one

AT_ONCE = 50
CASES_PER_RACE = 10


@pytest.fixture
def races(request: pytest.FixtureRequest) -> int:
    """The number of races: a tenth of the generated cases."""
    return max(AT_ONCE, extent_of(request.config).cases // CASES_PER_RACE)


def in_team(team: str) -> And:
    return And((Equal(("team",), team), Equal(("active",), True)))


async def count(engine: Engine, team: str) -> int:
    return len(await engine.entities(STORE, Query(in_team(team))))


@pytest.mark.parametrize(
    ("least", "most", "holds"), [(1, None, True), (2, 2, True), (3, None, False), (0, 1, False), (0, 0, False)]
)
async def test_too_few_or_too_many_refuse_the_commit(engine: Engine, least: int, most: int | None, holds: bool) -> None:
    """All writes of the commit are refused."""
    await insert(engine, *(entity(team="a", active=True) for _ in range(2)))
    writes: list[Write] = [Insert(STORE, entity(team="b", active=True)), Expect(STORE, in_team("a"), least, most)]
    if holds:
        _, expected = await engine.commit(writes, USER)
        assert (expected.entity, expected.count) == (b"", 0)
    else:
        with pytest.raises(NotAsExpected):
            await engine.commit(writes, USER)
    assert await count(engine, "b") == int(holds)


async def test_an_expectation_sees_the_writes_before_it(engine: Engine) -> None:
    """It sees the earlier writes of its own commit."""
    made = await insert_one(engine, team="c", active=True)
    leave: list[Write] = [Update(STORE, made["_id"], {"active": False}), Expect(STORE, in_team("c"))]
    with pytest.raises(NotAsExpected):
        await engine.commit(leave, USER)
    await engine.commit([*reversed(leave)], USER)
    assert await count(engine, "c") == 0


async def test_a_refused_commit_does_not_use_up_its_key(engine: Engine) -> None:
    """The same request succeeds once its condition holds; later repetitions return the same outcome."""
    key = IdempotencyKey(new_id(), "same", now_ms() + 60_000)
    writes: list[Write] = [Insert(STORE, entity(n=1)), Expect(STORE, in_team("d"))]
    with pytest.raises(NotAsExpected):
        await engine.commit(writes, USER, key)
    await insert_one(engine, team="d", active=True)
    first = await engine.commit(writes, USER, key)
    assert await engine.commit(writes, USER, key) == first
    assert len(await engine.entities(STORE, Query(Equal(("n",), 1)))) == 1


@pytest.mark.generated(0.1)
async def test_of_the_last_two_one_remains(engine: Engine, races: int) -> None:
    """This holds for repeated concurrent removals of both, by every kind of write."""

    async def race(number: int) -> None:
        team, guard = f"race-{number}", f"guard-{number % 7}"
        ids = [(await insert_one(engine, team=team, active=True))["_id"] for _ in range(2)]
        away: list[Write] = [Update(STORE, ids[0], {"active": False}), Delete(STORE, ids[1])]
        done = await asyncio.gather(
            *(engine.commit([write, Expect(STORE, in_team(team), guard=guard)], USER) for write in away),
            return_exceptions=True,
        )
        assert sorted(isinstance(outcome, NotAsExpected) for outcome in done) == [False, True], done
        assert await count(engine, team) == 1

    for start in range(0, races, AT_ONCE):
        await asyncio.gather(*(race(number) for number in range(start, start + AT_ONCE)))


@pytest.mark.generated(0.1)
async def test_what_one_refers_to_is_not_deleted_meanwhile(engine: Engine, races: int) -> None:
    """Two concurrent commits write different entities, and each depends on the entity that the other writes."""

    async def race(number: int) -> None:
        target, guard = (await insert_one(engine, n=number))["_id"], f"guard-{number % 7}"
        refers = entity(target=target)
        outcomes = await asyncio.gather(
            engine.commit([Insert(STORE, refers), Expect(STORE, Equal(("_id",), target), guard=guard)], USER),
            engine.commit([Delete(STORE, target), Expect(STORE, Equal(("target",), target), 0, 0, guard=guard)], USER),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, NotAsExpected) for outcome in outcomes) == 1, outcomes

    for start in range(0, races, AT_ONCE):
        await asyncio.gather(*(race(number) for number in range(start, start + AT_ONCE)))


async def test_other_refusals_come_first_where_they_stand_first(engine: Engine) -> None:
    """An expectation does not hide a stale revision before it."""
    made = await insert_one(engine, n=1)
    with pytest.raises(StaleRevision):
        await engine.commit(
            [Update(STORE, made["_id"], {"n": 2}, revs=frozenset({7})), Expect(STORE, in_team("nobody"))], USER
        )
