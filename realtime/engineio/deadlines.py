"""One timer of the event loop for the deadlines of all connections, instead of a task or a timer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, Protocol, TypeVar

from stores.turns import Turn

SLACK: Final = 0.005
"""Seconds by which a deadline may be served late, together with those that follow so closely."""

LATE: Final = 0.05
"""Seconds by which a timer that rings later shows that the process stood still."""

READING: Final = 0.1
"""Seconds in which, after that, what has arrived meanwhile is read before deadlines are served."""

FEW: Final = 1_000
"""Entries of the heap that may be out of date, however few others there are."""


class Timed(Protocol):
    """`armed` is this module's: the time of the one entry that counts, None when it is no longer watched."""

    armed: float | None

    @property
    def due(self) -> float: ...


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls `on_due(item)` when an item's `due` has come. An item whose `due` moves later costs nothing until then."""

    def __init__(self, on_due: Callable[[T], None]) -> None:
        self._on_due = on_due
        self._heap: list[tuple[float, int, T]] = []
        self._outdated = 0
        """Entries of the heap that no longer count."""
        self._order = count()
        self._timer: asyncio.Handle | None = None
        self._alarm = inf
        """When the timer rings; minus infinity while it does."""
        self._has_waited = False
        """Whether the ring at hand has been put off: once only, or a loop that is always late would serve nothing."""

    def watch(self, item: T) -> None:
        """Start watching, or note that `due` has changed."""
        due = item.due
        if item.armed is None or due < item.armed:
            self.forget(item)
            item.armed = due
            heappush(self._heap, (due, next(self._order), item))
            if due + SLACK < self._alarm:
                self._set(due + SLACK)

    def forget(self, item: T) -> None:
        if item.armed is None:
            return
        item.armed = None
        self._outdated += 1
        if self._outdated > FEW and 2 * self._outdated > len(self._heap):  # each holds its item until it is due
            self._heap = [entry for entry in self._heap if entry[2].armed == entry[0]]
            heapify(self._heap)
            self._outdated = 0

    def overdue(self) -> bool:
        """Whether the process stood still over a deadline, and what came meanwhile may be unread."""
        return bool(self._heap) and asyncio.get_running_loop().time() > self._heap[0][0] + SLACK + LATE

    def stop(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._outdated = 0
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = inf

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        now = loop.time()
        # A deadline that is long past: the process stood still while this was on its way.
        self._alarm = now + READING if now > when + LATE else max(when, now)
        self._timer = loop.call_at(self._alarm, self._ring)

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        now, turn = loop.time(), Turn()
        if now > self._alarm + LATE and not self._has_waited:
            self._has_waited = True
            self._set(self._alarm)
            return
        self._has_waited = False
        self._timer, self._alarm = None, -inf
        while self._heap and self._heap[0][0] <= now:
            if turn.is_over:  # thousands may have come together, and gone silent together
                self._alarm = now
                self._timer = loop.call_soon(self._ring)
                return
            due, _, item = heappop(self._heap)
            if item.armed == due:
                item.armed = None
                self._serve(item, now)
            else:
                self._outdated -= 1
        self._alarm = inf
        if self._heap:
            self._set(self._heap[0][0] + SLACK)

    def _serve(self, item: T, now: float) -> None:
        if item.due <= now:
            self._on_due(item)
        else:
            self.watch(item)
