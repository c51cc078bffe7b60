"""The requests of one user or address leave threads for others, and for the hub itself."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context

import pytest

from hub.threads import in_thread
from stores.read_turns import READER


@pytest.mark.parametrize(("user", "address"), [("many", ""), ("", "192.0.2.1")])
async def test_threads_are_left_for_others(user: str, address: str) -> None:
    """Whoever fills its threads waits, and the others do not."""
    released = threading.Event()

    async def work(user: str, address: str) -> bool:
        READER.set(user)
        return await in_thread(released.wait, 30, address=address)

    many = [asyncio.create_task(work(user, address), context=copy_context()) for _ in range(50)]
    try:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            assert await in_thread(lambda: 1, address="192.0.2.2") == 1
            assert await asyncio.to_thread(lambda: 2) == 2
            READER.set("other")
            assert await in_thread(lambda: 3) == 3
        assert not any(task.done() for task in many)
    finally:
        released.set()
    assert await asyncio.gather(*many) == [True] * 50
