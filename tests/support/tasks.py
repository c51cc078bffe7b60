"""Tasks and callbacks of the event loop that all tests share: their end, their failures, and its turns."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
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


@contextmanager
def each_turn(call: Callable[[], None]) -> Iterator[None]:
    """Call `call` in each turn of the event loop during the block. The loop is busy all the time."""
    loop, goes_on = asyncio.get_running_loop(), True

    def turn() -> None:
        if goes_on:
            call()
            loop.call_soon(turn)

    loop.call_soon(turn)
    try:
        yield
    finally:
        goes_on = False
