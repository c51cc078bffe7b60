"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator

import pytest

from realtime.engineio.deadlines import READING, Deadlines, Entry
from tests.support.tasks import each_turn, reported_failures
from tests.wire.serving import eventually


class Item:
    """An item whose deadline is so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.armed: Entry | None = None
        self.due = asyncio.get_running_loop().time() + seconds


@pytest.fixture
async def rung() -> AsyncIterator[tuple[Deadlines[Item], list[Item]]]:
    heard: list[Item] = []
    deadlines: Deadlines[Item] = Deadlines(heard.append)
    yield deadlines, heard
    deadlines.stop()


async def test_items_ring_in_order_once_each(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, heard = rung
    late, early, past = Item(0.03), Item(0.01), Item(-1)
    for item in (late, early, past, late):
        deadlines.watch(item)
    await eventually(lambda: len(heard) >= 3)
    await asyncio.sleep(READING)  # none rings again
    assert heard == [past, early, late]


async def test_a_deadline_may_move_either_way(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, heard = rung
    later, sooner = Item(0.01), Item(60)
    deadlines.watch(later)
    deadlines.watch(sooner)
    later.due += 60
    sooner.due -= 60
    deadlines.watch(sooner)
    await eventually(lambda: heard)
    assert heard == [sooner]
    later.due -= 60
    deadlines.watch(later)
    await eventually(lambda: len(heard) > 1)
    assert heard == [sooner, later]


async def test_what_is_forgotten_does_not_ring(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, heard = rung
    item = Item(0.01)
    deadlines.watch(item)
    deadlines.forget(item)
    await asyncio.sleep(0.05)
    assert heard == []


async def test_what_came_while_the_process_stood_still_is_read_first(
    rung: tuple[Deadlines[Item], list[Item]],
) -> None:
    deadlines, heard = rung
    answered, silent = Item(0.01), Item(0.01)
    deadlines.watch(answered)
    deadlines.watch(silent)
    loop = asyncio.get_running_loop()
    loop.call_later(0.011, time.sleep, 0.2)  # blocks the loop past both deadlines
    await asyncio.sleep(0.011)
    while loop.time() < answered.due + 0.1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (heard, deadlines.overdue()) == ([], True)
    answered.due += 60  # its answer is read
    await asyncio.sleep(2 * READING)
    assert heard == [silent]


async def test_a_loop_that_is_late_in_every_turn_serves_deadlines(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, heard = rung
    item = Item(0.01)
    deadlines.watch(item)
    for _ in range(5):
        time.sleep(0.2)  # the loop is busy  # noqa: ASYNC251
        await asyncio.sleep(0)
    assert heard == [item]


async def test_what_is_forgotten_is_not_kept_until_it_is_due(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, _ = rung
    kept = Item(60)
    deadlines.watch(kept)
    items = [Item(60) for _ in range(500)]
    alive = [weakref.ref(item) for item in items]
    for item in items:
        deadlines.watch(item)
        deadlines.forget(item)
    del item
    items.clear()
    assert sum(ref() is not None for ref in alive) == 0
    assert kept.armed is not None


async def test_outdated_entries_are_dropped_when_there_are_many(rung: tuple[Deadlines[Item], list[Item]]) -> None:
    deadlines, heard = rung
    kept, sooner = Item(0.1), Item(60)
    deadlines.watch(kept)
    for _ in range(5_000):
        deadlines.watch(sooner)
        deadlines.forget(sooner)
    assert len(deadlines._heap) < 2_000
    await eventually(lambda: heard)
    assert heard == [kept]


async def test_a_callback_that_fails_stops_no_other_deadline() -> None:
    heard: list[Item] = []

    def serve(item: Item) -> None:
        heard.append(item)
        if len(heard) == 1:
            raise ValueError("a failing callback")

    deadlines: Deadlines[Item] = Deadlines(serve)
    items = [Item(0.01), Item(0.01), Item(0.05)]
    with reported_failures() as failures:
        for item in items:
            deadlines.watch(item)
        await eventually(lambda: len(heard) >= len(items))
    assert (heard, len(failures)) == (items, 1)
    deadlines.stop()


async def test_many_deadlines_at_once_leave_turns_for_others() -> None:
    loop = asyncio.get_running_loop()
    turns: list[int] = []
    number = 0

    def serve(_: Item) -> None:
        turns.append(number)
        ends = time.perf_counter() + 0.002
        while time.perf_counter() < ends:
            pass

    def count() -> None:
        nonlocal number
        number += 1

    deadlines: Deadlines[Item] = Deadlines(serve)
    due = loop.time() + 0.02
    for _ in range(50):
        item = Item(0)
        item.due = due
        deadlines.watch(item)
    with each_turn(count):
        await eventually(lambda: len(turns) == 50)
    assert max(turns.count(each) for each in set(turns)) < 10
    deadlines.stop()
