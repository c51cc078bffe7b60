"""Threads for the work of requests: owners take turns, and some threads are left for the work of the hub itself.

All work in threads shares one pool of few threads, without order or bound: the events of live subscriptions, the
history and the engine would wait behind whatever the requests of one client have put there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Final, TypeVar

from stores.bounds import Limit
from stores.read_turns import READER
from stores.turns import FairSemaphore

T = TypeVar("T")

MOST_THREADS: Annotated[int, Limit("process", "threads of requests", "waits")] = 4
"""Threads that work for requests. The pool has at least five (`concurrent.futures.ThreadPoolExecutor`)."""
MOST_THREADS_EACH: Annotated[int, Limit("user", "threads of requests", "waits")] = 2
MOST_OPEN_THREADS: Annotated[int, Limit("process", "threads of requests without credentials", "waits")] = 1
"""Of `MOST_THREADS`: any number of addresses leaves the other threads to users."""

MOST_TRANSACTION_THREADS: Annotated[int, Limit("process on MongoDB", "threads of transactions", "waits")] = 4
"""Threads of their own: an open transaction holds what others need, so it does not wait for other work of its user."""

_NICENESS: Final = 5
"""With this, a thread gets a third of the processor time that others get when there is too little."""

_TRANSACTIONS: Final = ThreadPoolExecutor(MOST_TRANSACTION_THREADS, "hub-transaction")
_IN_TRANSACTION: Final = ContextVar("in_transaction", default=False)
_SLOTS: Final = FairSemaphore(MOST_THREADS, MOST_THREADS_EACH)
_OPEN_SLOTS: Final = FairSemaphore(MOST_OPEN_THREADS, 1)
_OPEN: Final = "open"
"""The owner in `_SLOTS` of all requests without credentials. A user's id is longer."""


async def in_thread(function: Callable[..., T], *arguments: Any, address: str = "") -> T:
    """Return the result of a function, called in a thread for the user of the current request, or for an address before
    the request is authenticated. Without either it is the hub's own work, which waits for nobody."""
    loop = asyncio.get_running_loop()
    if _IN_TRANSACTION.get():
        return await loop.run_in_executor(_TRANSACTIONS, function, *arguments)
    user = READER.get()

    def start() -> asyncio.Future[T]:
        return loop.run_in_executor(None, function, *arguments)

    if user:
        return await _SLOTS.run(user, start)
    if address:
        return await _OPEN_SLOTS.run(address, lambda: asyncio.ensure_future(_SLOTS.run(_OPEN, start)))
    return await start()


@contextmanager
def of_transaction() -> Iterator[None]:
    """Context for an open transaction of the database: the work of its task has threads of its own."""
    token = _IN_TRANSACTION.set(True)
    try:
        yield
    finally:
        _IN_TRANSACTION.reset(token)


def lower_priority() -> None:
    """Lower the priority of the current thread, where threads have priorities. On a busy machine, long work then delays
    the event loop less (measured: events a third earlier)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS))
