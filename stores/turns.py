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


class Queue:
    """Calls that wait, by who asked for them: they are taken from each in turn, from one in the order of asking."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Callable[[], None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, owner: str, call: Callable[[], None]) -> None:
        self._waiting.setdefault(owner, deque()).append(call)

    def take(self) -> Callable[[], None]:
        owner = next(iter(self._waiting))
        calls = self._waiting.pop(owner)
        call = calls.popleft()
        if calls:
            self._waiting[owner] = calls  # behind the others
        return call


class SharedTurns:
    """Short pieces of work of many callers, which together get `TURN` seconds of each turn of the loop. A caller asks
    `is_over` before each piece, and hands the rest of its work to `later`."""

    def __init__(self) -> None:
        self._ends: float | None = None
        self._waiting = Queue()

    def is_over(self) -> bool:
        now = time.perf_counter()
        if self._ends is None:
            self._ends = now + TURN
            asyncio.get_running_loop().call_soon(self._begin)
        return now > self._ends

    def later(self, owner: str, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a turn to come, after those of this owner that wait already; owners take turns."""
        self.is_over()  # so that there is another turn
        self._waiting.put(owner, go_on)

    def _begin(self) -> None:
        self._ends = None
        while self._waiting and not self.is_over():
            try:
                self._waiting.take()()
            except Exception as error:  # one that fails must not hold up those behind it
                context = {"message": "work in a shared turn failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class Gate:
    """Lets a few callers begin in each turn of the loop, in the order in which they came."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a turn in which there is room."""
        if self._begun == 0:
            asyncio.get_running_loop().call_soon(self._open)
        if self._begun < self._at_once and not self._waiting:
            self._begun += 1
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _open(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._at_once:
            waiting = self._waiting.popleft()
            if not waiting.done():  # cancelled
                waiting.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._open)
