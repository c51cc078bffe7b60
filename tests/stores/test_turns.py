"""Many callers share the turns of the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from stores.turns import TURN, FairSemaphore, Gate, LoopTime, Queue, SharedTurns
from tests.support.tasks import reported_failures


def work() -> None:
    ends = time.perf_counter() + TURN / 2
    while time.perf_counter() < ends:
        pass


async def test_who_comes_late_in_a_turn_waits_for_the_next_and_keeps_the_order() -> None:
    turns = SharedTurns()
    assert not turns.is_over()
    work()
    work()
    assert turns.is_over()
    heard: list[int] = []
    for number in range(10):
        turns.later("", lambda number=number: (heard.append(number), work()))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert 0 < len(heard) < 10
    for _ in range(20):
        await asyncio.sleep(0)
    assert heard == list(range(10))


async def test_work_that_fails_holds_up_none_behind_it() -> None:
    turns, heard = SharedTurns(), [0]
    with reported_failures() as failures:
        turns.later("", lambda: heard[1])  # type: ignore[arg-type, return-value]
        turns.later("", lambda: heard.append(1))
        for _ in range(20):  # the report of the failure may take the rest of its turn
            await asyncio.sleep(0)
    assert heard == [0, 1]
    assert len(failures) == 1


async def test_a_gate_lets_a_few_in_each_turn_in_order() -> None:
    gate, entered = Gate(3), []

    async def enter(number: int) -> None:
        await gate.enter()
        entered.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(10)]
    tasks[4].cancel()
    counts = []
    while len(entered) < 9:
        before = len(entered)
        await asyncio.sleep(0)
        counts.append(len(entered) - before)
    assert entered == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert max(counts) == 3
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    await gate.enter()


async def test_owners_take_turns_at_a_gate() -> None:
    """An owner with many callers delays each other owner by one iteration."""
    gate, entered = Gate(2), []

    async def enter(owner: str) -> None:
        await gate.enter(owner)
        entered.append(owner)

    tasks = [asyncio.create_task(enter(owner)) for owner in ["many"] * 20 + ["one", "other"]]
    await asyncio.gather(*tasks)
    assert entered.index("one") < 6
    assert entered.index("other") < 6


@pytest.mark.parametrize(("part", "begun"), [(0.4, [3, 2, 2, 2, 1]), (0.6, [2, *[1] * 8])])
async def test_many_callers_together_get_a_part_of_each_iteration(part: float, begun: list[int]) -> None:
    """The first ones find the time not used up; the others come in the next iterations, one at a time if they take
    longer than expected, and owners take turns."""
    iteration = 0

    def count() -> None:
        nonlocal iteration
        iteration += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    loop_time, done = LoopTime(longest=TURN / 2), list[tuple[int, str]]()

    async def caller(owner: str) -> None:
        if loop_time.is_over:
            await loop_time.wait(owner)
        done.append((iteration, owner))
        loop_time.add(TURN * part)

    await asyncio.gather(*map(caller, "aaaaaaaaab"))
    iterations = [number for number, _ in done]
    assert [iterations.count(number) for number in dict.fromkeys(iterations)] == begun
    assert [owner for _, owner in done].index("b") == begun[0] + 1
    await asyncio.sleep(0)
    assert not loop_time.is_over


async def test_a_caller_that_is_cancelled_takes_no_time_of_the_loop() -> None:
    loop_time = LoopTime(longest=TURN)
    loop_time.add(2 * TURN)
    waiting = [asyncio.create_task(loop_time.wait("")) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:4]:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting[4].done()


def test_owners_take_turns() -> None:
    """An owner with many calls delays each other owner by one call."""
    queue: Queue[str] = Queue()
    for number in range(3):
        queue.put("many", f"many {number}")
    queue.put("one", "one")
    taken = [queue.take() for _ in range(3)]
    assert taken == ["many 0", "one", "many 1"]
    queue.put_back("many", taken[2])
    assert [queue.take(), queue.take(), bool(queue)] == ["many 1", "many 2", False]


def test_an_owner_of_few_comes_early_among_many_large_ones() -> None:
    queue: Queue[str] = Queue()
    for owner in "abc":
        for number in range(3):
            queue.put(owner, f"{owner}{number}")
    queue.put("d", "d0")
    assert [queue.take(), queue.take_of_few(), queue.take(), queue.take()] == ["a0", "d0", "b0", "c0"]
    assert [queue.take_of_few() for _ in range(6)] == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert not queue


async def test_one_owner_has_only_some_of_the_places() -> None:
    """Waiting callers are admitted in turns of owners; one that stops waiting takes no slot."""
    slots, inside, leave = FairSemaphore(3, 2), [], asyncio.Event()

    async def work_for(name: str) -> None:
        async with slots.slot(name[0]):
            inside.append(name)
            await leave.wait()

    tasks = {name: asyncio.create_task(work_for(name)) for name in ("a1", "a2", "a3", "a4", "b1", "b2")}
    await asyncio.sleep(0)
    assert inside == ["a1", "a2", "b1"]
    tasks["a3"].cancel()
    leave.set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert sorted(inside) == ["a1", "a2", "a4", "b1", "b2"]
    leave.clear()
    later = [asyncio.create_task(work_for(name)) for name in ("c1", "c2", "d1")]
    await asyncio.sleep(0)
    assert inside[5:] == ["c1", "c2", "d1"], "no slot was lost"
    leave.set()
    await asyncio.gather(*later)


async def test_a_place_that_comes_with_a_cancellation_goes_to_the_next() -> None:
    slots, inside = FairSemaphore(1, 1), []

    async def work_for(name: str) -> None:
        async with slots.slot(name):
            inside.append(name)
            await asyncio.sleep(0)
        if name == "a":
            second.cancel()  # it has just been admitted, but has not run since

    first, second, third = (asyncio.create_task(work_for(name)) for name in "abc")
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert inside == ["a", "c"]
