"""Which read may use the database next, so that reads that take long leave room for others.

A read that finds a long place free has all its time at once. Any other has a moment, in a short place; one that is not
done by then waits for a long place. Owners take turns, and none has all places of a kind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from stores.errors import TooManySlowReads
from stores.turns import Occupancy

T = TypeVar("T")

READER: Final[ContextVar[str]] = ContextVar("READER", default="")
"""The id of the user for whom the task at hand reads; empty for the hub itself."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """`long`, `short` and `pieces` are places: for reads with all their time, for reads that may yet be quick, and for
    pieces of long lists. Each comes with the number that one owner may have, and short ones with the number for an
    owner of whom slow reads wait already. `moment` and `timeout` are the seconds of
    a read in a short and a long place; `timeout` is also how long it waits for places. `waiting`: reads of one user
    that wait for a long place. `name` is the limit that a read meets which waits too long."""

    long: tuple[int, int]
    short: tuple[int, int, int]
    pieces: tuple[int, int]
    moment: float
    timeout: float
    waiting: int
    name: str


class Line:
    """Reads that wait, by owner. Each has a future, whose result is the place that it gets."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[Places]]] = {}

    def length(self, owner: str) -> int:
        return len(self._waiting.get(owner, ()))

    def join(self, owner: str) -> asyncio.Future[Places]:
        place: asyncio.Future[Places] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        return place

    def leave(self, owner: str, place: asyncio.Future[Places]) -> None:
        """Wait no more."""
        waiting = self._waiting.get(owner, deque())
        if place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[owner]

    def let_in(self, places: Places) -> bool:
        """Give one of `places` to the next owner that may have it; whether there was one."""
        owner = next(filter(places.has_room, self._waiting), None)
        if owner is None:
            return False
        waiting = self._waiting.pop(owner)
        place = waiting.popleft()
        if waiting:
            self._waiting[owner] = waiting  # behind the others
        if not place.done():  # cancelled
            places.take(owner)
            place.set_result(places)
        return True


class Places(Occupancy):
    """Room for some reads at a time. `lines` are those that wait for it, the first before the second."""

    def __init__(self, most: int, each: int, *lines: Line) -> None:
        super().__init__(most, each)
        self.lines = lines


class ShortPlaces(Places):
    """For reads that may yet be quick. An owner of reads in `slow`, which were not, has `few`."""

    def __init__(self, most: int, each: int, few: int, fresh: Line, slow: Line) -> None:
        super().__init__(most, each, fresh)
        self._few = few
        self._slow = slow

    def has_room(self, owner: str) -> bool:
        return super().has_room(owner) and (self._inside[owner] < self._few or not self._slow.length(owner))


class ReadTurns:
    """`too_long` is what a read raises when its time is over."""

    def __init__(self, limits: ReadLimits, too_long: type[Exception]) -> None:
        self._limits = limits
        self._too_long = too_long
        self._fresh = Line()
        """Reads that have had no time yet."""
        self._slow = Line()
        """Reads that were not done after a moment."""
        self._next_pieces = Line()
        self._long = Places(*limits.long, self._slow, self._fresh)
        self._short = ShortPlaces(*limits.short, self._fresh, self._slow)
        self._pieces = Places(*limits.pieces, self._next_pieces)

    async def run(self, read: Callable[[float], Awaitable[T]]) -> T:
        """The result of `read`, which is told the seconds that it may take, and may be done twice. Raises
        TooManySlowReads when there is no turn for it."""
        owner = READER.get()
        ends = asyncio.get_running_loop().time() + self._limits.timeout
        if self._long.has_room(owner):
            place = self._long
            place.take(owner)
        elif self._short.has_room(owner):
            place = self._short
            place.take(owner)
        else:
            place = await self._wait(self._fresh, owner, ends)
        if place is self._short:
            with suppress(self._too_long):
                return await self._read(place, owner, read, min(self._limits.moment, self._limits.timeout))
            place = await self._long_place(owner, ends)
        return await self._read(place, owner, read, self._limits.timeout)

    async def run_piece(self, read: Callable[[float], Awaitable[T]]) -> T:
        """The same of a piece of a long list, which is read once."""
        owner, places = READER.get(), self._pieces
        if places.has_room(owner):
            places.take(owner)
        else:
            await self._wait(self._next_pieces, owner, asyncio.get_running_loop().time() + self._limits.timeout)
        return await self._read(places, owner, read, self._limits.timeout)

    async def _long_place(self, owner: str, ends: float) -> Places:
        if self._long.has_room(owner):
            self._long.take(owner)
            return self._long
        if owner and self._slow.length(owner) >= self._limits.waiting:
            raise TooManySlowReads().at("max_slow_reads_per_user")
        return await self._wait(self._slow, owner, ends)

    async def _wait(self, line: Line, owner: str, ends: float) -> Places:
        place = line.join(owner)
        timer = asyncio.get_running_loop().call_at(ends, self._refuse, line, owner, place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.cancelled():
                line.leave(owner, place)
            elif place.exception() is None:
                self._leave(place.result(), owner)  # it came in the moment in which the read was cancelled
            raise
        finally:
            timer.cancel()

    def _refuse(self, line: Line, owner: str, place: asyncio.Future[Places]) -> None:
        if not place.done():
            line.leave(owner, place)
            place.set_exception(TooManySlowReads().at(self._limits.name))

    async def _read(self, places: Places, owner: str, read: Callable[[float], Awaitable[T]], seconds: float) -> T:
        work: Awaitable[T] | None = None
        try:
            work = read(seconds)
            # A thread goes on when its caller is cancelled, and has its place as long.
            return await (asyncio.shield(work) if isinstance(work, asyncio.Future) else work)
        finally:
            if isinstance(work, asyncio.Future) and not work.done():
                work.add_done_callback(lambda _: self._leave(places, owner))
            else:
                self._leave(places, owner)

    def _leave(self, places: Places, owner: str) -> None:
        places.leave(owner)
        for line in places.lines:
            while line.let_in(places):
                pass
