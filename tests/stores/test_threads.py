"""The requests of one user or address leave threads for others, and for the hub itself."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Final

import pytest

from stores.read_turns import READER
from stores.threads import MOST_THREADS_EACH, in_thread, of_transaction
from tests.docs.pages import ROOT

THREADS_OF_THE_HUB: Final = {
    "auth/secrets.py": "a pool of its own, behind the queue of logins",
    "hub/mail.py": "one mail at a time",
    "hub/media/worker_process.py": "the ends of processes that were killed, one each",
    "hub/memory.py": "one call at a time",
    "realtime/fanout.py": "one slow filter at a time",
    "realtime/reconcile.py": "two views at a time",
    "stores/sqlite/readers.py": "pools of its own, behind the turns of reads; the end of a pool",
    "stores/sqlite/streams.py": "the same pools, behind the turns of pieces of long lists",
    "stores/sqlite/group_commit.py": "a pool of its own",
    "stores/threads.py": "the work of requests",
}
"""The modules that put work into threads, and what bounds it. All others call `in_thread`."""


@pytest.fixture
async def released() -> AsyncIterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def begin(released: threading.Event, user: str, address: str = "") -> asyncio.Task[bool]:
    """Begin work for a user or an address that takes until `released`."""

    async def work() -> bool:
        READER.set(user)
        return await in_thread(released.wait, 30, address=address)

    return asyncio.create_task(work(), context=copy_context())


async def check_that_others_find_threads() -> None:
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(lambda: 1) == 1
        assert await in_thread(lambda: 2) == 2
        READER.set("other")
        assert await in_thread(lambda: 3) == 3


async def test_threads_are_left_for_others(released: threading.Event) -> None:
    """A user that fills its threads waits, and the others do not."""
    many = [begin(released, "many") for _ in range(50)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        assert await in_thread(lambda: 1, address="192.0.2.2") == 1
    await check_that_others_find_threads()
    assert not any(task.done() for task in many)
    released.set()
    assert await asyncio.gather(*many) == [True] * 50


async def test_transactions_wait_for_no_other_work_of_their_user(released: threading.Event) -> None:
    """They hold what others need."""
    many = [begin(released, "many") for _ in range(10)]
    await asyncio.sleep(0.05)
    READER.set("many")
    async with asyncio.timeout(10):
        with of_transaction():
            assert await in_thread(lambda: threading.current_thread().name.startswith("hub-transaction"))
    late = asyncio.create_task(in_thread(lambda: 1))
    done, _ = await asyncio.wait([late], timeout=0.05)
    assert not done, "after the transaction it is work like any other"
    released.set()
    assert await asyncio.gather(*many, late) == [True] * 10 + [1]


async def test_many_addresses_leave_threads_to_users(released: threading.Event) -> None:
    """However many addresses send requests without credentials, two users find all the threads that they may have."""
    many = [begin(released, "", f"192.0.2.{number}") for number in range(50)]
    await asyncio.sleep(0.05)
    first = [begin(released, "first") for _ in range(MOST_THREADS_EACH)]
    await asyncio.sleep(0.05)
    await check_that_others_find_threads()
    assert not any(task.done() for task in (*many, *first))
    released.set()
    assert await asyncio.gather(*many, *first) == [True] * 52


@pytest.mark.parametrize(("user", "address"), [("many", ""), ("", "192.0.2.1")])
async def test_cancelled_work_keeps_its_thread(released: threading.Event, user: str, address: str) -> None:
    """A client that leaves again and again fills no more threads than one that stays."""
    for _ in range(20):
        task = begin(released, user, address)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await check_that_others_find_threads()
    again = begin(released, user, address)
    released.set()
    assert await again


def test_all_work_in_threads_is_bounded() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("auth", "hub", "realtime", "stores")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"to_thread\(|run_in_executor\(", path.read_text())
    }
    assert found == set(THREADS_OF_THE_HUB)
