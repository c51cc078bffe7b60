"""Long work on the event loop, with turns for others in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TURN: Final = 0.01
"""Seconds of work before others have their turn."""


class Turn:
    """Put in a loop: ``if turn.is_over: await turn.pass_on()``."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = time.perf_counter() + TURN

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._ends

    async def pass_on(self) -> None:
        await asyncio.sleep(0)
        self._ends = time.perf_counter() + TURN


class SharedTurns:
    """Short pieces of work of many callers, which together get `TURN` seconds of each turn of the loop. A caller asks
    `is_over` before each piece, and hands the rest of its work to `later`."""

    def __init__(self) -> None:
        self._ends: float | None = None
        self._waiting: deque[Callable[[], None]] = deque()

    def is_over(self) -> bool:
        now = time.perf_counter()
        if self._ends is None:
            self._ends = now + TURN
            asyncio.get_running_loop().call_soon(self._begin)
        return now > self._ends

    def later(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a turn to come, after those that wait already."""
        self.is_over()  # so that there is another turn
        self._waiting.append(go_on)

    def _begin(self) -> None:
        self._ends = None
        for _ in range(len(self._waiting)):
            if self.is_over():
                return
            try:
                self._waiting.popleft()()
            except Exception as error:  # one that fails must not hold up those behind it
                context = {"message": "work in a shared turn failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
