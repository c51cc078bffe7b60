"""Writers of one process take turns at an entity: computed changes and procedures in the order in which they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stores.computing import OperatorChange
from stores.mongo.entity_turns import EntityTurns
from stores.operators import NO_OPERATORS
from stores.protocol import Delete, Procedure, Steps, Update, Upsert, Write, Written
from stores.schema import StoreDefinition

STORE = "things"
COMPUTED = OperatorChange(NO_OPERATORS, StoreDefinition(STORE))


def steps() -> Steps:
    yield from ()
    return Written(b"", 0, 0)


def procedure(*ids: str) -> Procedure:
    return Procedure("others", steps, keys=tuple((STORE, "_id", id) for id in ids))


def increment(id: str) -> Update:
    return Update(STORE, id, {}, compute=COMPUTED)


async def order_of(*commits: Sequence[Write]) -> list[int]:
    """Return the order in which commits that begin one after the other end, if the first of them take longest."""
    turns, ended = EntityTurns(), list[int]()

    async def commit(number: int, writes: Sequence[Write]) -> None:
        async with turns.of(writes, "ada"):
            await asyncio.sleep(0.02 * (len(commits) - number))
        ended.append(number)

    async with asyncio.timeout(10):
        await asyncio.gather(*(commit(number, writes) for number, writes in enumerate(commits)))
    return ended


@pytest.mark.parametrize("write", [increment("a"), Update(STORE, "a", {"n": 1}), procedure("a")])
async def test_no_write_overtakes_a_procedure(write: Write) -> None:
    """A single change never fails, so many of them would make a transaction begin again and again."""
    assert await order_of([procedure("b", "a")], [write], [increment("c")]) == [2, 0, 1]


@pytest.mark.parametrize("write", [Delete(STORE, "a"), Update(STORE, "a", {"n": 1})])
async def test_other_changes_join_in(write: Write) -> None:
    """With what checks their references, they are transactions, which computed changes would overtake."""
    assert await order_of([increment("a")], [procedure(), write]) == [0, 1]
    assert await order_of([increment("b")], [procedure(), write]) == [1, 0]


async def test_users_take_turns() -> None:
    """One who changes an entity all the time does not keep the others waiting."""
    turns, done = EntityTurns(), list[str]()

    async def commit(user: str) -> None:
        async with turns.of([increment("a")], user):
            await asyncio.sleep(0)
            done.append(user)

    async with asyncio.timeout(10):
        await asyncio.gather(*map(commit, ["ada"] * 5 + ["bob"]))
    assert done.index("bob") <= 2


async def test_true_is_no_key_of_an_upsert() -> None:
    """It equals 1, but has another place in the order: two commits would wait for each other."""
    upserts = [[Upsert(STORE, "k", {"k": k}, {}, compute=COMPUTED) for k in keys] for keys in ((True, 5), (1, 5))]
    assert sorted(await order_of(*upserts)) == [0, 1]


async def test_procedures_and_computed_changes_take_turns() -> None:
    upsert = Upsert(STORE, "code", {"code": 5}, {}, compute=COMPUTED)
    other = Procedure(STORE, steps, keys=((STORE, "code", 5), (STORE, "_id", "a")))
    assert await order_of([other], [upsert], [increment("a")]) == [0, 2, 1]
    assert await order_of([increment("a")], [other], [procedure("a")]) == [0, 1, 2]


async def test_procedures_over_the_same_entities_do_not_wait_for_each_other_in_a_circle() -> None:
    assert sorted(await order_of([procedure("a", "b")], [procedure("b", "a")], [procedure("a", "b")])) == [0, 1, 2]
