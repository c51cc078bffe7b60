"""The end of tasks that a test has started, and the failures that the event loop reports of tasks and callbacks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stores.tasks import end_tasks


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended: a task that is only cancelled may run on in the event loop that
    all tests share."""
    await end_tasks(tasks)
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def reported_failures() -> Iterator[list[dict[str, Any]]]:
    """Collect what the event loop reports to its exception handler during the block.

    Garbage is collected first, so that nothing is reported of the tests before.
    """
    gc.collect()
    loop, failures = asyncio.get_running_loop(), []
    former = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        yield failures
    finally:
        loop.set_exception_handler(former)
