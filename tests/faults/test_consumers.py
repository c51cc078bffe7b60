"""Faults of a consumer's process: it is killed at any moment, or suspended for longer than its lease."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.support.consuming import at_work, is_counted
from tests.support.counting import COUNTED, COUNTS, counting
from tests.support.engines import Database, opened
from tests.support.hub import eventually
from tests.support.program import ROOT

pytestmark = pytest.mark.faults


class CountingProcess:
    """`tests.support.counting` as a separate process that writes and counts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.calls = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for _ in self._process.stdout:
            self.calls += 1

    async def counts(self, times: int) -> None:
        """Wait until its handler has been called so many more times."""
        await count_together([self], times)

    def has_ended(self) -> bool:
        return self._reading.done()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading


async def count_together(processes: Sequence[CountingProcess], times: int) -> None:
    """Wait until their handlers have been called so many more times, no matter which."""
    enough = sum(process.calls for process in processes) + times

    async def have_counted() -> bool:
        assert not any(process.has_ended() for process in processes), "it has ended by itself"
        return sum(process.calls for process in processes) >= enough

    await eventually(have_counted)


@asynccontextmanager
async def counting_process(database: Database, since: str) -> AsyncIterator[CountingProcess]:
    program = [sys.executable, "-m", "tests.support.counting", database.kind, database.location, since]
    process = CountingProcess(await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=asyncio.subprocess.PIPE))
    try:
        yield process
    finally:
        await process.kill()


async def prepare(database: Database) -> str:
    """Create the stores; return the position before all counted changes."""
    async with opened(database.engine()) as engine:
        await engine.define(COUNTS, *COUNTED)
        return await engine.feed.position()


async def check(database: Database, since: str) -> None:
    """Count the remaining changes, and compare the counts with the feed."""
    async with opened(database.engine()) as engine:
        async with at_work(counting(engine, since)):
            await eventually(lambda: is_counted(engine, since))
        assert await is_counted(engine, since)


async def test_counts_are_exact_over_kills(database: Database, times: int) -> None:
    """The process is killed (SIGKILL) repeatedly while it writes and counts: each change counts once."""
    since = await prepare(database)
    for _ in range(1 + times):
        async with counting_process(database, since) as process:
            await process.counts(random.randint(1, 30))
            await asyncio.sleep(random.uniform(0, 0.02))
    await check(database, since)


@pytest.mark.full
@pytest.mark.engine("mongodb")
async def test_counts_are_exact_over_a_standstill(database: Database, times: int) -> None:
    """The counting process is suspended until another has taken over, and then continues as if it still held the
    lease."""
    since = await prepare(database)
    async with counting_process(database, since) as first:
        await first.counts(3)
        async with counting_process(database, since) as second:
            active, idle = first, second
            for _ in range(1 + times // 4):
                active.signal(signal.SIGSTOP)
                try:
                    await idle.counts(random.randint(2, 10))
                finally:
                    active.signal(signal.SIGCONT)
                # Whichever: on a busy machine the second may lose its short lease to the first again.
                await count_together([active, idle], 10)
                active, idle = idle, active
    await check(database, since)
