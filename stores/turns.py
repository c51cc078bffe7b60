"""Long work on the event loop, with turns for others in between."""

from __future__ import annotations

import asyncio
import time
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
