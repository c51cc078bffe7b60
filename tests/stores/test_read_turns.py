"""Slow reads wait for each other, and delay no other reads."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stores.errors import TooManySlowReads
from stores.read_turns import READER, ReadLimits, ReadTurns
from tests.support.tasks import end


class TooLong(Exception):
    pass


def turns(**changes: Any) -> ReadTurns:
    limits: dict[str, Any] = {"long": (2, 1), "short": (2, 1, 1), "pieces": (2, 1), "moment": 0.1, "timeout": 30.0}
    return ReadTurns(ReadLimits(**limits | {"waiting": 2, "name": "limit"} | changes), TooLong)


class Readers:
    """Reads that end when the test ends them; `begun` has the name and the seconds of each."""

    def __init__(self, turns: ReadTurns) -> None:
        self.turns = turns
        self.begun: list[tuple[str, float]] = []
        self.ends: dict[str, asyncio.Future[str]] = {}

    async def start(self, name: str, run: Callable[..., Coroutine[Any, Any, str]] | None = None) -> asyncio.Task[str]:
        """Start a read. Its owner is the first letter of the name."""

        async def read(seconds: float) -> str:
            self.begun.append((name, seconds))
            self.ends[name] = asyncio.get_running_loop().create_future()
            return await self.ends[name]

        async def work() -> str:
            READER.set(name[0])
            return await (run or self.turns.run)(read)

        task = asyncio.create_task(work())
        await rest()
        return task

    async def end(self, name: str, *, too_long: bool = False) -> None:
        if too_long:
            self.ends[name].set_exception(TooLong())
        else:
            self.ends[name].set_result(name)
        await rest()


async def rest() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_owner_has_all_places_and_owners_take_turns() -> None:
    readers = Readers(turns())
    tasks = [await readers.start(name) for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")]
    assert readers.begun == [("a1", 30.0), ("a2", 0.1), ("b1", 30.0), ("b2", 0.1)]
    await readers.end("a2")
    assert readers.begun[4:] == [("a3", 0.1)]
    await readers.end("a3")
    assert readers.begun[5:] == [("c1", 0.1)], "c has had none yet"
    for name in ("c1", "a4", "a1", "b1", "b2"):
        await readers.end(name)
    assert [await task for task in tasks] == ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]


async def test_a_read_that_is_not_done_in_a_moment_waits_for_a_long_slot() -> None:
    """In a long slot it has the full timeout. The number of waiting reads per owner is limited."""
    readers = Readers(turns())
    tasks = [await readers.start(name) for name in ("a1", "a2", "a3", "a4", "a5")]
    for name in ("a2", "a3", "a4"):
        await readers.end(name, too_long=True)
    with pytest.raises(TooManySlowReads) as refusal:
        await tasks[3]
    assert refusal.value.limit_name == "max_slow_reads_per_user"
    await readers.end("a1")
    assert readers.begun[-1] == ("a2", 30.0)
    await readers.end("a5")
    await readers.end("a2", too_long=True)
    with pytest.raises(TooLong):
        await tasks[1]
    await readers.end("a3")
    assert [await tasks[number] for number in (0, 2, 4)] == ["a1", "a3", "a5"]


async def test_an_owner_of_slow_reads_has_fewer_places_to_try_others_in() -> None:
    """This holds until none of its slow reads waits."""
    readers = Readers(turns(long=(1, 1), short=(4, 3, 1)))
    tasks = [await readers.start(name) for name in ("a1", "a2", "a3", "a4", "a5", "a6")]
    assert [name for name, _ in readers.begun] == ["a1", "a2", "a3", "a4"]
    await readers.end("a2", too_long=True)
    assert readers.begun[4:] == [("a5", 0.1)]
    await readers.end("a3")
    await readers.end("a4")
    assert len(readers.begun) == 5, "a2 waits for a long slot, and a5 has the one slot that is left to a"
    tasks += [await readers.start(name) for name in ("b1", "b2")]
    assert readers.begun[5:] == [("b1", 0.1), ("b2", 0.1)]
    await readers.end("a1")
    assert readers.begun[7:] == [("a2", 30.0)]
    await readers.end("b1")
    assert readers.begun[8:] == [("a6", 0.1)]
    for name in ("a2", "a5", "a6", "b2"):
        await readers.end(name)
    assert [await task for task in tasks] == ["a1", "a2", "a3", "a4", "a5", "a6", "b1", "b2"]


async def test_a_read_waits_no_longer_than_it_may_take() -> None:
    readers = Readers(turns(timeout=0.05))
    tasks = [await readers.start(name) for name in ("a1", "a2", "a3")]
    with pytest.raises(TooManySlowReads) as refusal:
        await tasks[2]
    assert refusal.value.limit_name == "limit"
    await readers.end("a1")
    await readers.end("a2")
    assert (await readers.start("a4")).done() is False
    assert readers.begun[-1][0] == "a4", "no slot was lost"
    await readers.end("a4")


async def test_a_read_that_is_cancelled_leaves_its_place() -> None:
    """This holds for reads that wait, that have begun, and that have just been admitted."""
    readers = Readers(turns())
    tasks = [await readers.start(name) for name in ("a1", "a2", "a3", "a4")]
    tasks[2].cancel()
    await rest()
    tasks[0].cancel()
    await rest()
    assert [name for name, _ in readers.begun] == ["a1", "a2", "a4"]
    fifth, sixth = await readers.start("a5"), await readers.start("a6")
    readers.ends["a2"].set_result("a2")
    await asyncio.sleep(0)
    fifth.cancel()
    await rest()
    assert readers.begun[-1][0] == "a6"
    await readers.end("a4")
    await readers.end("a6")
    await asyncio.gather(*tasks, fifth, sixth, return_exceptions=True)
    last = [await readers.start(name) for name in ("a7", "a8")]
    assert [name for name, _ in readers.begun[-2:]] == ["a7", "a8"], "no slot was lost"
    await end(*last)


async def test_a_thread_keeps_its_place_until_it_is_done() -> None:
    """The thread keeps its slot even if the caller is cancelled."""
    line = turns(long=(1, 1), short=(1, 1, 1))
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    begun: list[float] = []

    def read(seconds: float) -> asyncio.Future[str]:
        begun.append(seconds)
        return done

    first = asyncio.create_task(line.run(read))
    await rest()
    first.cancel()
    await rest()
    second = asyncio.create_task(line.run(read))
    await rest()
    assert begun == [30.0, 0.1]
    done.set_result("done")
    assert await second == "done"


async def test_pieces_of_long_lists_have_places_of_their_own() -> None:
    readers = Readers(turns())
    run = readers.turns.run_piece
    tasks = [await readers.start(name, run) for name in ("a1", "a2", "b1")]
    tasks.append(await readers.start("a3"))
    assert readers.begun == [("a1", 30.0), ("b1", 30.0), ("a3", 30.0)]
    for name in ("a1", "a2", "b1", "a3"):
        await readers.end(name)
    assert [await task for task in tasks] == ["a1", "a2", "b1", "a3"]


async def test_a_read_that_is_done_again_is_freed_without_the_garbage_collector() -> None:
    """Its first error would keep it, through the frames that the error has passed."""
    reads, loop = turns(long=(1, 1)), asyncio.get_running_loop()

    def failing_once() -> Callable[[float], asyncio.Future[str]]:
        errors = [TooLong()]

        def read(seconds: float) -> asyncio.Future[str]:
            done = loop.create_future()
            if errors:
                done.set_exception(errors.pop())
            else:
                done.set_result("done")
            return done

        return read

    read = failing_once()
    held = weakref.ref(read)
    gc.disable()
    try:
        async with reads.long_slot():
            task = asyncio.create_task(reads.run(read))
            await rest()
        assert await task == "done"
        del read, task
        assert held() is None
    finally:
        gc.enable()
