"""What a client sends while the application is busy with it: its messages are handled one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from realtime.engineio.host import Result
from realtime.engineio.packets import Data
from realtime.engineio.session import CloseReason

log = logging.getLogger("hub.engineio")

_LEFT_BY_ITSELF: Final = frozenset((CloseReason.CLIENT_DISCONNECT, CloseReason.TRANSPORT_CLOSE))


class Inbox:
    """Exists while the application's answer is awaited: an idle connection has none.

    `hand_over` gives the application the next item, `job` is what it does about the one before; `done` is called when
    nothing is left to do.
    """

    __slots__ = ("_bytes", "_items", "_worker")

    def __init__(self, job: Awaitable[None], hand_over: Callable[[object], Result], done: Callable[[], None]) -> None:
        self._items: deque[object] | None = None
        self._bytes = 0
        self._worker = asyncio.get_running_loop().create_task(self._work(job, hand_over, done))

    def __len__(self) -> int:
        return len(self._items or ())

    def put(self, item: object) -> None:
        """Take an item in; the end of a client that has not left by itself takes the place of all that waits."""
        if self._items is None:
            self._items = deque()
        if isinstance(item, CloseReason) and item not in _LEFT_BY_ITSELF:
            self._items.clear()
        self._items.append(item)
        self._bytes += size_of(item)

    def is_full(self, items: int, size: int) -> bool:
        """Whether so many items wait, or more bytes than `size`."""
        return self._items is not None and (len(self._items) >= items or self._bytes > size)

    async def done(self) -> None:
        """Wait until the application is done with what came."""
        await asyncio.wait((self._worker,))

    async def _work(
        self, job: Awaitable[None], hand_over: Callable[[object], Result], done: Callable[[], None]
    ) -> None:
        following: Result = job
        while following is not None:
            try:
                await following
            except Exception:
                log.exception("the application failed")
            following = None
            while self._items and following is None:
                item = self._items.popleft()
                self._bytes -= size_of(item)
                following = hand_over(item)
        done()


def size_of(item: object) -> int:
    return len(item) if isinstance(item, Data) else 0
