"""Measures the event loop: how late its timers run, and the CPU time of one iteration in its thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 0.02
"""Seconds between two samples. A sample includes other iterations since the last one, so it may be this much too long;
it is never too short."""

WINDOW: Final = 60
"""Seconds over which the longest iteration is reported."""


class LongestOf:
    """The largest value of the last `WINDOW` seconds, at a resolution of one second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque()

    def add(self, value: float, now: float) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            value = max(value, self._seconds.pop()[1])
        self._seconds.append((second, value))
        self._drop_old(now)

    def read(self, now: float) -> float:
        self._drop_old(now)
        return max((value for _, value in self._seconds), default=0.0)

    def _drop_old(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - WINDOW:
            self._seconds.popleft()


class LoopWatch:
    """Samples the loop in which it was started, until it is stopped.

    `observe` receives the CPU seconds of the loop's thread since the last sample, which span at most one iteration and
    `INTERVAL`. CPU time, unlike wall-clock time, does not include the load of other processes.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._lag = LongestOf()
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._cpu = 0.0

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due, self._cpu = loop.time() + INTERVAL, time.thread_time()
        self._timer = loop.call_at(self._due, self._look, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def longest(self) -> float:
        """Return the longest delay of the last minute in seconds, by the clock: the time that clients waited for the
        loop."""
        return self._lag.read(time.monotonic())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, cpu = loop.time(), time.thread_time()
        self._lag.add(max(0.0, now - self._due), time.monotonic())
        self._observe(cpu - self._cpu)
        self._due, self._cpu = now + INTERVAL, cpu
        self._timer = loop.call_at(self._due, self._look, loop)
