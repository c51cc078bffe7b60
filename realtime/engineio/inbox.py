"""Messages of a client that wait for the application, which handles them one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from realtime.engineio.host import Result
from realtime.engineio.packets import Data, byte_length
from realtime.engineio.session import CloseReason
from stores.tasks import is_cancelled

log = logging.getLogger("hub.engineio")

_LEFT_BY_ITSELF: Final = frozenset((CloseReason.CLIENT_DISCONNECT, CloseReason.TRANSPORT_CLOSE))


class Inbox:
    """Exists while the application handles a message: an idle connection has none.

    `hand_over` passes the next item to the application. `job` is the application's work on the previous item. `done` is
    called when no work is left.
    """

    __slots__ = ("_bytes", "_items", "_worker")

    def __init__(self, job: Awaitable[None], hand_over: Callable[[object], Result], done: Callable[[], None]) -> None:
        self._items: deque[object] | None = None
        self._bytes = 0
        self._worker = asyncio.get_running_loop().create_task(self._work(job, hand_over, done))

    @property
    def bytes(self) -> int:
        """Bytes of the messages that wait."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._items or ())

    def put(self, item: object) -> None:
        """Add an item. A close reason replaces all waiting items, unless the client left by itself."""
        if self._items is None:
            self._items = deque()
        if isinstance(item, CloseReason) and item not in _LEFT_BY_ITSELF:
            self._items.clear()
        self._items.append(item)
        self._bytes += size_of(item)

    def is_full(self, items: int, size: int) -> bool:
        """Return whether at least `items` items wait, or more than `size` bytes."""
        return self._items is not None and (len(self._items) >= items or self._bytes > size)

    async def done(self) -> None:
        """Wait until the application has handled all items."""
        await asyncio.wait((self._worker,))

    def end(self) -> None:
        """Cancel the application's work. What waits is not handled."""
        self._worker.cancel()

    async def _work(
        self, job: Awaitable[None], hand_over: Callable[[object], Result], done: Callable[[], None]
    ) -> None:
        following: Result = job
        try:
            while following is not None:
                await self._finish(following)
                following = None
                while self._items and following is None:
                    item = self._items.popleft()
                    self._bytes -= size_of(item)
                    following = hand_over(item)
        finally:
            done()

    async def _finish(self, job: Awaitable[None]) -> None:
        """Let the application work. It may fail, also by a cancellation of something that it waits for: the messages
        behind, and at last the client's disconnect, are handled all the same."""
        try:
            await job
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            log.exception("the application was cancelled")
        except Exception:
            log.exception("the application failed")


def size_of(item: object) -> int:
    return byte_length(item) if isinstance(item, Data) else 0
