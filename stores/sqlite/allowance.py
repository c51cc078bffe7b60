"""The remaining cost that a thread's current read may have: steps on the event loop, time in a reader thread.

SQLite checks the clock between steps of its virtual machine. One such step may call a function in Python on an entity
of any size; that work is counted here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from stores.errors import ReadTimeout

ON_LOOP: Final = 20_000
"""Steps (see `stores.steps`) that a read may take on the event loop: about 2 ms."""

_LOOK_EVERY: Final = 20_000


class AllowanceSpent(Exception):
    """The event loop has no more time for the read; it is run again in a thread."""


class Allowance(threading.local):
    """The allowance of one thread.

    `steps`: steps left until the next check; `end`: the `time.monotonic()` at which the read is ended; `is_over`:
    returns whether it is ended now; `on_loop`: whether the thread runs the event loop."""

    steps: float = math.inf
    end: float = math.inf
    is_over: Callable[[], bool] | None = None
    on_loop = False

    def claim(self) -> None:
        """Mark this thread as that of the event loop. Its reads set `steps` to `ON_LOOP`, and have no `end`."""
        self.on_loop = True

    @contextmanager
    def until(self, end: float, is_over: Callable[[], bool]) -> Iterator[None]:
        """Limit a read in this thread by time, and end it once `is_over` returns true."""
        on_loop, self.on_loop = self.on_loop, False
        self.steps, self.end, self.is_over = _LOOK_EVERY, end, is_over
        try:
            yield
        finally:
            self.steps = self.end = math.inf
            self.is_over = None
            self.on_loop = on_loop

    def look(self) -> None:
        if self.on_loop:
            raise AllowanceSpent
        if time.monotonic() > self.end or (self.is_over is not None and self.is_over()):
            raise ReadTimeout
        self.steps = _LOOK_EVERY


allowance: Final = Allowance()


def spend(steps: int) -> None:
    """Count steps before they are done. Raises AllowanceSpent on the loop, ReadTimeout in a thread."""
    left = allowance.steps = allowance.steps - steps
    if left < 0:
        allowance.look()
