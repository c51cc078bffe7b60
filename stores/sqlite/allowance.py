"""What the read that a thread is doing may still cost: on the event loop a number of steps, in a reader thread time.

SQLite looks at the clock between steps of its own. What our functions do within one such step, in Python and over an
entity of any size, counts here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from stores.errors import ReadTimeout

ON_LOOP: Final = 20_000
"""Steps (see `stores.steps`) that a read may take on the event loop: some 2 ms."""

_LOOK_EVERY: Final = 20_000


class TakesLonger(Exception):
    """The read is too long for the event loop: it starts again in a thread."""


class Allowance(threading.local):
    """One thread's. `steps` are those left until somebody looks; `end` is the `time.monotonic()` at which the read is
    given up; the loop's thread is the one that has been `claimed`."""

    steps: float = math.inf
    end: float = math.inf
    on_loop = False

    def claim(self) -> None:
        """Here reads run on the event loop: they set `steps` to `ON_LOOP` while they run, and have no `end`."""
        self.on_loop = True

    @contextmanager
    def until(self, end: float) -> Iterator[None]:
        """The time that a read in this thread has."""
        on_loop, self.on_loop = self.on_loop, False
        self.steps, self.end = _LOOK_EVERY, end
        try:
            yield
        finally:
            self.steps = self.end = math.inf
            self.on_loop = on_loop

    def look(self) -> None:
        if self.on_loop:
            raise TakesLonger
        if time.monotonic() > self.end:
            raise ReadTimeout
        self.steps = _LOOK_EVERY


allowance: Final = Allowance()


def spend(steps: int) -> None:
    """Take in steps that are about to be taken. Raises TakesLonger on the loop, ReadTimeout in a thread."""
    left = allowance.steps = allowance.steps - steps
    if left < 0:
        allowance.look()
