"""The tail of a change stream, which one reader keeps for another: each change once, in order, from any position."""

from __future__ import annotations

import asyncio
import random

import pytest

from stores.mongo.tail import TAIL_BYTES, Tail
from stores.protocol import Batch
from stores.records import Change

NOW = 0.001


def order(position: str) -> bytes:
    return position.encode()


def place(number: int) -> str:
    return f"{number:05}"


def changes(first: int, last: int, text: str = "{}") -> list[Change]:
    return [Change(place(n), "insert", "units", place(n), None, text, None, 0) for n in range(first, last + 1)]


def tail_of(*batches: Batch, since: int = 0) -> Tail:
    tail = Tail(order, place(since))
    for batch in batches:
        tail.add(batch)
    return tail


async def read_on(tail: Tail, since: str) -> list[str]:
    """Return the positions of all changes in the tail after `since`."""
    found: list[str] = []
    while (batch := await tail.read(since, NOW)) is not None:
        found += [change.position for change in batch.changes]
        since = batch.position
    return found


async def test_a_reader_gets_each_change_once_from_wherever_it_comes() -> None:
    tail = tail_of(
        Batch(changes(1, 4), place(4), True), Batch([], place(6), False), Batch(changes(7, 9), place(9), False)
    )
    assert await read_on(tail, place(0)) == [place(n) for n in (1, 2, 3, 4, 7, 8, 9)]
    assert await read_on(tail, place(2)) == [place(n) for n in (3, 4, 7, 8, 9)]
    assert await read_on(tail, place(5)) == [place(n) for n in (7, 8, 9)]


async def test_small_batches_reach_a_late_reader_together() -> None:
    """Up to 1 000 changes form one batch, so that a reader with a cost per batch does not fall behind."""
    tail = tail_of(*(Batch(changes(n, n + 1), place(n + 1), False) for n in range(1, 2_400, 2)))
    sizes, since = [], place(1)
    while (batch := await tail.read(since, NOW)) is not None:
        sizes.append((len(batch.changes), batch.more))
        assert batch.changes[0].position == place(int(since) + 1)
        since = batch.position
    assert sizes == [(999, True), (1_000, True), (400, False)]


async def test_a_reader_from_before_or_beyond_is_sent_away() -> None:
    tail = tail_of(Batch(changes(11, 12), place(12), False), since=10)
    for beyond in (9, 13):
        assert not tail.reaches(place(beyond))
        assert await tail.read(place(beyond), NOW) is None


async def test_the_oldest_changes_go_when_there_are_too_many() -> None:
    """A reader from before them gets None, so that no change is skipped."""
    large = "x" * (TAIL_BYTES // 3)
    tail = tail_of(*(Batch(changes(n, n, large), place(n), False) for n in range(1, 6)))
    assert [tail.reaches(place(n)) for n in range(5)] == [False, False, False, True, True]
    assert await tail.read(place(1), NOW) is None
    assert await read_on(tail, place(3)) == [place(4), place(5)]
    tail.add(Batch(changes(6, 6, 2 * TAIL_BYTES * "x"), place(6), False))
    assert await tail.read(place(5), NOW) is None
    assert tail.reaches(place(6))


@pytest.mark.parametrize(
    "batch", [Batch(changes(1, 2), place(2), False), Batch([], place(3), False), Batch([], place(0), False)]
)
async def test_a_waiting_reader_is_told_of_what_comes_and_of_a_mere_position(batch: Batch) -> None:
    tail = tail_of()
    reading = asyncio.create_task(tail.read(place(0), 60))
    await asyncio.sleep(0)
    tail.add(batch)
    read = await reading
    assert read is not None
    assert (read.changes, read.position) == (batch.changes, batch.position)


async def test_any_order_of_reading_and_adding() -> None:
    """This includes readers that start within a batch, or advance by another stream in between."""
    chance = random.Random(7)
    for _ in range(200):
        tail, number, since, found = Tail(order, place(0)), 0, place(0), []
        while number < 60:
            for _ in range(chance.randint(0, 4)):
                first, number = number + 1, number + chance.randint(0, 5)
                tail.add(Batch(changes(first, number), place(number), False))
            if tail.reaches(since) and since != place(number):
                batch = await tail.read(since, NOW)
                assert batch is not None
                found += [change.position for change in batch.changes]
                since = batch.position
            if chance.random() < 0.2 and since < place(number):  # the reader gets one change from another stream
                since = place(int(since) + 1)
                found.append(since)
        found += await read_on(tail, since)
        assert found == [place(n) for n in range(1, number + 1)]
