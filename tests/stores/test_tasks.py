"""The end of background tasks, and jobs that do not depend on one another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from stores.tasks import end_tasks, run_each


async def test_tasks_end_though_a_cancellation_is_lost() -> None:
    """They are cancelled again until they end; a task that fails is not reported here."""
    cancelled = 0

    async def lose_one() -> None:
        nonlocal cancelled
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            cancelled += 1

    async def fail() -> None:
        raise ValueError

    tasks: list[asyncio.Task[None]] = [asyncio.create_task(lose_one()), asyncio.create_task(fail())]
    await asyncio.sleep(0)
    await end_tasks(tasks)
    assert [task.done() for task in tasks] == [True, True]
    assert cancelled == 2
    assert isinstance(tasks[1].exception(), ValueError)
    await end_tasks([])


async def test_a_job_that_fails_keeps_no_other_from_running() -> None:
    ran: list[str] = []

    async def fail() -> None:
        ran.append("fail")
        raise ValueError

    async def work() -> None:
        ran.append("work")

    with pytest.raises(ValueError, match=r"^$"):
        await run_each(fail, work)
    assert ran == ["fail", "work"]
    await run_each(work)
