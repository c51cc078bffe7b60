"""The end of background tasks, the cancellation of tasks, and jobs that do not depend on one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

_PATIENCE: Final = 2.0
"""Seconds until a task that still runs is cancelled again."""


def is_cancelled() -> bool:
    """Return whether the running task itself was cancelled, and not something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_each(*jobs: Callable[[], Awaitable[None]]) -> None:
    """Run the jobs one after the other, also those behind one that fails. Raises the error of the first that failed."""
    failures: list[Exception] = []
    for job in jobs:
        try:
            await job()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until they have ended.

    The cancellation is repeated, because Python 3.11 loses one that arrives as a `wait_for` finishes."""
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_PATIENCE)
