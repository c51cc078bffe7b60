"""Measures the turns of the event loop: how late timers run, and how much CPU time one turn takes of its thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 0.02
"""Seconds between looks. A measured turn includes what other turns took since the last look, so it may be this much
too long, and never too short."""

WINDOW: Final = 60
"""Seconds for which the longest turn is remembered."""


class LongestOf:
    """The largest value of the last `WINDOW` seconds, to the second."""

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
    """Looks at the loop that it is started in until it is stopped.

    `observe` takes the CPU seconds that the loop's thread has spent since the last look, which is at most one turn and
    `INTERVAL`. CPU time rather than wall-clock time: a busy neighbour on the machine makes no turn longer.
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
        """Seconds of the longest turn of the last minute, by the clock: what a client had to wait for the loop."""
        return self._lag.read(time.monotonic())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, cpu = loop.time(), time.thread_time()
        self._lag.add(max(0.0, now - self._due), time.monotonic())
        self._observe(cpu - self._cpu)
        self._due, self._cpu = now + INTERVAL, cpu
        self._timer = loop.call_at(self._due, self._look, loop)
