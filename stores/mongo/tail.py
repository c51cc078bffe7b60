"""The newest batches of one change stream, shared with other readers of the feed in this process.

Every open stream costs MongoDB and this process the same work again, so the readers share one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from stores.bounds import Limit
from stores.protocol import Batch
from stores.records import Change

TAIL_BYTES: Final[Annotated[int, Limit("process", "bytes", "the oldest go, and are read from MongoDB")]] = 4_194_304
"""Bytes of changes that are kept for readers behind the first one."""

_MOST: Final = 1_000
"""Changes up to which a reader gets several batches as one: under load a batch of the stream has few changes, and a
reader that commits after each would fall behind."""


@dataclass(frozen=True, slots=True)
class _Part:
    begin: bytes
    end: bytes
    batch: Batch
    size: int


class Tail:
    """The latest batches of a stream that begins at `since`. `order` returns the sort key of a position
    (`stores.protocol.Feed.order`)."""

    def __init__(self, order: Callable[[str], bytes], since: str) -> None:
        self._order = order
        self._parts: deque[_Part] = deque()
        self._size = 0
        self._position = since
        self._begin = self._end = order(since)
        self._grown = asyncio.Event()

    def add(self, batch: Batch) -> None:
        """Append the next batch of the stream, which may have no changes."""
        begin, self._end, self._position = self._end, self._order(batch.position), batch.position
        if batch.changes:
            part = _Part(begin, self._end, batch, sum(change.size for change in batch.changes))
            self._parts.append(part)
            self._size += part.size
            while self._size > TAIL_BYTES:
                oldest = self._parts.popleft()
                self._begin = oldest.end
                self._size -= oldest.size
        self._grown.set()
        self._grown = asyncio.Event()

    def reaches(self, since: str) -> bool:
        """Return whether this tail holds, or will hold, every change after `since`."""
        return self._begin <= self._order(since) <= self._end

    async def read(self, since: str, patience: float) -> Batch | None:
        """Return the first changes after `since`, waiting for the next batch if there are none. Return None when no
        batch arrives for `patience` seconds, or when some of the changes are no longer kept."""
        place = self._order(since)
        if place == self._end:
            try:
                await asyncio.wait_for(self._grown.wait(), patience)
            except TimeoutError:
                return None
        return self._after(place) if self.reaches(since) else None

    def _after(self, place: bytes) -> Batch:
        changes: list[Change] = []
        reached, more = self._position, False
        for part in self._parts:
            if part.end <= place:
                continue
            later = part.batch.changes
            if part.begin < place:
                later = [change for change in later if self._order(change.position) > place]
            if changes and len(changes) + len(later) > _MOST:
                return Batch(changes, reached, True)
            changes += later
            reached, more = part.batch.position, part.batch.more
        return Batch(changes, reached, more)
