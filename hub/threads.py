"""Threads for the work of requests: owners take turns, and some threads are left for the work of the hub itself.

All work in threads shares one pool of few threads, without order or bound: the events of live subscriptions, the
history and the engine would wait behind whatever the requests of one client have put there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

from stores.bounds import Limit
from stores.read_turns import READER
from stores.turns import Places

T = TypeVar("T")

MOST_THREADS: Annotated[int, Limit("process", "threads of requests", "waits")] = 4
"""Threads that work for requests. The pool has at least five (`concurrent.futures.ThreadPoolExecutor`)."""
MOST_THREADS_EACH: Annotated[int, Limit("user, or address", "threads of requests", "waits")] = 2

_PLACES: Final = Places(MOST_THREADS, MOST_THREADS_EACH)


async def in_thread(function: Callable[..., T], *arguments: Any, address: str = "") -> T:
    """Return the result of a function, called in a thread for the user of the current request, or for an address before
    the request is authenticated."""
    async with _PLACES.place(READER.get() or address):
        return await asyncio.to_thread(function, *arguments)
