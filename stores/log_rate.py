"""Rate limiting of log lines that requests can cause: one line of each kind per second, or per other period."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

SECONDS: Final = 1.0
"""Seconds between two lines of one kind, unless told otherwise."""


class RateLimitedLog:
    """A log with at most one line of each kind per period of `seconds`. A line reports how many of its kind were left
    out before it. `clock` returns seconds."""

    def __init__(
        self, log: logging.Logger, clock: Callable[[], float] = time.monotonic, *, seconds: float = SECONDS
    ) -> None:
        self._log = log
        self._clock = clock
        self._seconds = seconds
        self._next: dict[Hashable, float] = {}
        self._left_out: Counter[Hashable] = Counter()

    def write(self, level: int, kind: Hashable, message: str, *values: object) -> None:
        """Log `message % values`, unless there was a line of this kind less than a period ago. Kinds are kept in
        memory, so their number must be bounded."""
        now = self._clock()
        if now < self._next.get(kind, now):
            self._left_out[kind] += 1
            return
        self._next[kind] = now + self._seconds
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            message, values = message + " (and %d more like it before)", (*values, left_out)
        self._log.log(level, message, *values)
