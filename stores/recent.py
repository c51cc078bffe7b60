"""The newest changes, kept in memory for readers that are a little behind. Bounded by number and by bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Generic, TypeVar

from stores.commits import is_cut
from stores.records import Change

Order = TypeVar("Order", int, bytes)


class RecentChanges(Generic[Order]):
    """Changes in their order. All changes after `oldest` are present."""

    oldest: Order

    def __init__(self, oldest: Order, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.clear(oldest)

    def clear(self, oldest: Order) -> None:
        """Remove all changes. The next one appended follows right after `oldest`."""
        self.oldest = oldest
        self._orders: list[Order] = []
        self._changes: list[Change] = []
        self._bytes = 0

    def append(self, order: Order, change: Change) -> None:
        self._orders.append(order)
        self._changes.append(change)
        self._bytes += change.size
        if len(self._changes) > 2 * self._most or self._bytes > self._most_bytes:
            self._trim()

    def prepend(self, order: Order, changes: Sequence[tuple[Order, Change]]) -> None:
        """Add earlier changes: `changes` holds every change after `order` up to `oldest` at least. Does nothing if
        there is no room for them."""
        earlier = [(at, change) for at, change in changes if order < at <= self.oldest]
        size = sum(change.size for _, change in earlier)
        if order >= self.oldest or len(self._changes) + len(earlier) > self._most:
            return
        if self._bytes + size <= self._most_bytes:
            self.oldest = order
            self._orders[:0] = [at for at, _ in earlier]
            self._changes[:0] = [change for _, change in earlier]
            self._bytes += size

    def after(self, order: Order, limit: int | None = None) -> list[tuple[Order, Change]] | None:
        """Return the first `limit` changes after `order` (None: all of them), and the rest of the last one's commit;
        None when some of them have been dropped."""
        if order < self.oldest:
            return None
        first = bisect_right(self._orders, order)
        end = len(self._changes) if limit is None else min(first + limit, len(self._changes))
        while first < end < len(self._changes) and is_cut(self._changes[end - 1 : end]):
            end += 1
        return list(zip(self._orders[first:end], self._changes[first:end], strict=True))

    def _trim(self) -> None:
        """Drop the oldest changes, down to the wanted number, and to half of the bytes if there are too many bytes. So
        it is needed now and then, not at every change."""
        gone = max(0, len(self._changes) - self._most)
        self._bytes -= sum(change.size for change in self._changes[:gone])
        while self._bytes > self._most_bytes // 2 and gone < len(self._changes):
            self._bytes -= self._changes[gone].size
            gone += 1
        self.oldest = self._orders[gone - 1]
        del self._orders[:gone], self._changes[:gone]
