"""One timer of the event loop for the deadlines of all connections, instead of a task or a timer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any, Final, Generic, Protocol, TypeVar

from stores.turns import Turn

SLACK: Final = 0.005
"""Seconds by which a deadline may be served late, so that one timer serves several deadlines that are close
together."""

LATE: Final = 0.05
"""A timer that fires later than this many seconds shows that the process was blocked or suspended."""

READING: Final = 0.1
"""Seconds after such a delay in which received data is read, before deadlines are served."""

FEW: Final = 1_000
"""Stale entries that the heap may always have, even if it has few others."""


Entry = list[Any]
"""An entry of the heap: its time, its number, and its item, which is None once the entry no longer counts."""


class Timed(Protocol):
    """Only this module sets `armed`: the item's entry, None if the item is not watched."""

    armed: Entry | None

    @property
    def due(self) -> float: ...


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls `on_due(item)` when an item's `due` has come. To move `due` later costs nothing until then."""

    def __init__(self, on_due: Callable[[T], object]) -> None:
        self._on_due = on_due
        self._heap: list[Entry] = []
        self._outdated = 0
        """Number of entries in the heap that no longer count."""
        self._order = count()
        self._timer: asyncio.Handle | None = None
        self._alarm = inf
        """When the timer fires; minus infinity while its callback runs."""
        self._has_waited = False
        """Whether the current alarm was postponed. It is postponed only once, or a loop that is always late would serve
        nothing."""

    def watch(self, item: T) -> None:
        """Start watching an item, or note that its `due` has changed."""
        due = item.due
        if item.armed is None or due < item.armed[0]:
            self.forget(item)
            item.armed = [due, next(self._order), item]
            heappush(self._heap, item.armed)
            if due + SLACK < self._alarm:
                self._set(due + SLACK)

    def forget(self, item: T) -> None:
        if item.armed is None:
            return
        item.armed[2] = None  # the entry may stay for days, and the item may hold megabytes
        item.armed = None
        self._outdated += 1
        if self._outdated > FEW and 2 * self._outdated > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapify(self._heap)
            self._outdated = 0

    def overdue(self) -> bool:
        """Return whether the process was blocked past a deadline, so that received data may still be unread."""
        return bool(self._heap) and asyncio.get_running_loop().time() > self._heap[0][0] + SLACK + LATE

    def stop(self) -> None:
        """Forget all items."""
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
        # The deadline is long past, so the process was blocked before this call.
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
        try:
            # The turn may end first: thousands may have connected, and become silent, at the same time.
            while self._heap and self._heap[0][0] <= now and not turn.is_over:
                self._serve(heappop(self._heap)[2], now)
        finally:  # `on_due` may fail
            self._alarm = inf
            if self._heap and self._heap[0][0] <= now:
                self._alarm = now
                self._timer = loop.call_soon(self._ring)
            elif self._heap:
                self._set(self._heap[0][0] + SLACK)

    def _serve(self, item: T | None, now: float) -> None:
        if item is None:
            self._outdated -= 1
            return
        item.armed = None
        if item.due <= now:
            self._on_due(item)
        else:
            self.watch(item)
