"""PyMongo's waits for a condition, made safe against cancellation on Python 3.11.

There PyMongo waits by `asyncio.wait_for`, which runs `Condition.wait` in a task of its own. If the caller is cancelled
while that task takes the lock back, the caller goes on without it: the caller then releases a lock that it does not
hold, nobody releases the task's lock, and every later request of the client waits for ever. From Python 3.12 on,
`wait_for` runs in the caller's task.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable

import pymongo.lock


async def _wait_in_this_task(condition: Awaitable[bool], seconds: float | None) -> bool:
    """Do what `asyncio.wait_for` does since Python 3.12."""
    async with asyncio.timeout(seconds):
        return await condition


def make_safe() -> None:
    """Let PyMongo's clients of this process wait in the task that they are called in."""
    if sys.version_info < (3, 12):
        setattr(pymongo.lock, "wait_for", _wait_in_this_task)  # noqa: B010 (PyMongo does not export the name)
