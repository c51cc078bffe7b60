"""Scheduling of reads, so that slow reads leave room for others.

A read that finds a long place free gets its full time at once. Any other read gets a moment in a short place; if it is
not done by then, it waits for a long place. Owners take turns, and no owner gets all places of a kind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from stores.errors import TooManySlowReads
from stores.turns import Occupancy

T = TypeVar("T")

READER: Final[ContextVar[str]] = ContextVar("READER", default="")
"""The id of the user for whom the current task reads; empty for the hub itself."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits of concurrent reads.

    Args:
        long: places for reads with their full time: the number of all, and that of one owner.
        short: places for reads that may turn out to be quick: the number of all, that of one owner, and that of an
            owner with slow reads that wait.
        pieces: places for pieces of long lists: the number of all, and that of one owner.
        moment: seconds of a read in a short place.
        timeout: seconds of a read in a long place, and seconds that a read waits for places.
        waiting: slow reads of one user that may wait for a long place.
        name: the limit that is reported for a read that waits too long.
    """

    long: tuple[int, int]
    short: tuple[int, int, int]
    pieces: tuple[int, int]
    moment: float
    timeout: float
    waiting: int
    name: str


class Line:
    """Waiting reads, by owner. Each has a future, whose result is the kind of place that it gets."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[ReadPlaces]]] = {}

    def length(self, owner: str) -> int:
        return len(self._waiting.get(owner, ()))

    def join(self, owner: str) -> asyncio.Future[ReadPlaces]:
        place: asyncio.Future[ReadPlaces] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        return place

    def leave(self, owner: str, place: asyncio.Future[ReadPlaces]) -> None:
        """Stop waiting."""
        waiting = self._waiting.get(owner, deque())
        if place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[owner]

    def let_in(self, places: ReadPlaces) -> bool:
        """Give one of `places` to the next owner that may have it. Return whether there was such an owner."""
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


class ReadPlaces(Occupancy):
    """Room for some reads at a time. `lines` wait for it, the first before the second."""

    def __init__(self, most: int, each: int, *lines: Line) -> None:
        super().__init__(most, each)
        self.lines = lines


class ShortPlaces(ReadPlaces):
    """Room for reads that may turn out to be quick. An owner of reads in the line `slow` gets `few` places."""

    def __init__(self, most: int, each: int, few: int, fresh: Line, slow: Line) -> None:
        super().__init__(most, each, fresh)
        self._few = few
        self._slow = slow

    def has_room(self, owner: str) -> bool:
        return super().has_room(owner) and (self._inside[owner] < self._few or not self._slow.length(owner))


class ReadTurns:
    """The scheduler of reads. `too_long` is the error that a read raises when its time is over."""

    def __init__(self, limits: ReadLimits, too_long: type[Exception]) -> None:
        self._limits = limits
        self._too_long = too_long
        self._fresh = Line()
        """Reads that have had no time yet."""
        self._slow = Line()
        """Reads that were not done after their moment."""
        self._next_pieces = Line()
        self._long = ReadPlaces(*limits.long, self._slow, self._fresh)
        self._short = ShortPlaces(*limits.short, self._fresh, self._slow)
        self._pieces = ReadPlaces(*limits.pieces, self._next_pieces)

    async def run(self, read: Callable[[float], Awaitable[T]]) -> T:
        """Run `read` and return its result. It gets the seconds that it may take, and may be called twice. Raises
        TooManySlowReads when it gets no turn in time."""
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

    @asynccontextmanager
    async def long_place(self) -> AsyncIterator[None]:
        """Hold a long place while the block runs. Raises TooManySlowReads when there is none in time, or when too many
        wait."""
        owner = READER.get()
        place = await self._long_place(owner, asyncio.get_running_loop().time() + self._limits.timeout)
        try:
            yield
        finally:
            self._leave(place, owner)

    async def run_piece(self, read: Callable[[float], Awaitable[T]]) -> T:
        """Run the read of a piece of a long list, once, and return its result. Raises TooManySlowReads when it gets no
        turn in time."""
        owner, places = READER.get(), self._pieces
        if places.has_room(owner):
            places.take(owner)
        else:
            await self._wait(self._next_pieces, owner, asyncio.get_running_loop().time() + self._limits.timeout)
        return await self._read(places, owner, read, self._limits.timeout)

    async def _long_place(self, owner: str, ends: float) -> ReadPlaces:
        if self._long.has_room(owner):
            self._long.take(owner)
            return self._long
        if owner and self._slow.length(owner) >= self._limits.waiting:
            raise TooManySlowReads().at("max_slow_reads_per_user")
        return await self._wait(self._slow, owner, ends)

    async def _wait(self, line: Line, owner: str, ends: float) -> ReadPlaces:
        place = line.join(owner)
        timer = asyncio.get_running_loop().call_at(ends, self._refuse, line, owner, place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.cancelled():
                line.leave(owner, place)
            elif place.exception() is None:
                self._leave(place.result(), owner)  # it got its place at the moment of the cancellation
            raise
        finally:
            timer.cancel()

    def _refuse(self, line: Line, owner: str, place: asyncio.Future[ReadPlaces]) -> None:
        if not place.done():
            line.leave(owner, place)
            place.set_exception(TooManySlowReads().at(self._limits.name))

    async def _read(self, places: ReadPlaces, owner: str, read: Callable[[float], Awaitable[T]], seconds: float) -> T:
        work: Awaitable[T] | None = None
        try:
            work = read(seconds)
            # A thread goes on when its caller is cancelled, and keeps its place until it ends.
            return await (asyncio.shield(work) if isinstance(work, asyncio.Future) else work)
        finally:
            if isinstance(work, asyncio.Future) and not work.done():
                work.add_done_callback(lambda done: self._leave_after(done, places, owner))
            else:
                self._leave(places, owner)

    def _leave_after(self, done: asyncio.Future[T], places: ReadPlaces, owner: str) -> None:
        if not done.cancelled():
            done.exception()  # mark it as retrieved: the caller has been cancelled
        self._leave(places, owner)

    def _leave(self, places: ReadPlaces, owner: str) -> None:
        places.leave(owner)
        for line in places.lines:
            while line.let_in(places):
                pass
