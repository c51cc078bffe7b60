"""Scheduling of reads, so that slow reads leave room for others.

A read that finds a long slot free gets its full time at once. Any other read gets a moment in a short slot; if it is
not done by then, it waits for a long slot. Owners take turns, and no owner gets all slots of a kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar

from stores.errors import TooManySlowReads
from stores.tracebacks import drop_tracebacks
from stores.turns import Occupancy, Queue

T = TypeVar("T")

READER: Final[ContextVar[str]] = ContextVar("READER", default="")
"""The id of the user for whom the current task reads; empty for the hub itself."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits of concurrent reads.

    Args:
        long: slots for reads with their full time: the number of all, and that of one owner.
        short: slots for reads that may turn out to be quick: the number of all, that of one owner, and that of an
            owner with slow reads that wait.
        pieces: slots for pieces of long lists: the number of all, and that of one owner.
        moment: seconds of a read in a short slot.
        timeout: seconds of a read in a long slot, and seconds that a read waits for slots.
        waiting: slow reads of one user that may wait for a long slot.
        name: the limit that is reported for a read that waits too long.
    """

    long: tuple[int, int]
    short: tuple[int, int, int]
    pieces: tuple[int, int]
    moment: float
    timeout: float
    waiting: int
    name: str


class Line(Queue["asyncio.Future[ReadSlots]"]):
    """Waiting reads. Each has a future, whose result is the kind of slot that it gets."""

    def join(self, owner: str) -> asyncio.Future[ReadSlots]:
        slot: asyncio.Future[ReadSlots] = asyncio.get_running_loop().create_future()
        self.put(owner, slot)
        return slot

    def let_in(self, slots: ReadSlots) -> bool:
        """Give one of `slots` to the next owner that may have it. Return whether there was such an owner."""
        owner = self.next_owner(slots.has_room)
        if owner is None:
            return False
        slot = self.take_from(owner)
        if not slot.done():  # cancelled
            slots.take(owner)
            slot.set_result(slots)
        return True


class ReadSlots(Occupancy):
    """Room for some reads at a time. `lines` wait for it, the first before the second."""

    def __init__(self, most: int, each: int, *lines: Line) -> None:
        super().__init__(most, each)
        self.lines = lines


class ShortReadSlots(ReadSlots):
    """Room for reads that may turn out to be quick. An owner of reads in the line `slow` gets `few` slots."""

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
        self._long = ReadSlots(*limits.long, self._slow, self._fresh)
        self._short = ShortReadSlots(*limits.short, self._fresh, self._slow)
        self._pieces = ReadSlots(*limits.pieces, self._next_pieces)

    async def run(self, read: Callable[[float], Awaitable[T]]) -> T:
        """Run `read` and return its result. It gets the seconds that it may take, and may be called twice. Raises
        TooManySlowReads when it gets no turn in time."""
        owner = READER.get()
        ends = asyncio.get_running_loop().time() + self._limits.timeout
        if self._long.has_room(owner):
            slot = self._long
            slot.take(owner)
        elif self._short.has_room(owner):
            slot = self._short
            slot.take(owner)
        else:
            slot = await self._wait(self._fresh, owner, ends)
        if slot is self._short:
            try:
                return await self._read(slot, owner, read, min(self._limits.moment, self._limits.timeout))
            except self._too_long as error:
                drop_tracebacks(error)
            slot = await self._long_slot(owner, ends)
        return await self._read(slot, owner, read, self._limits.timeout)

    @asynccontextmanager
    async def long_slot(self) -> AsyncIterator[None]:
        """Hold a long slot while the block runs. Raises TooManySlowReads when there is none in time, or when too many
        wait."""
        owner = READER.get()
        slot = await self._long_slot(owner, asyncio.get_running_loop().time() + self._limits.timeout)
        try:
            yield
        finally:
            self._leave(slot, owner)

    async def run_piece(self, read: Callable[[float], Awaitable[T]]) -> T:
        """Run the read of a piece of a long list, once, and return its result. Raises TooManySlowReads when it gets no
        turn in time."""
        owner, slots = READER.get(), self._pieces
        if slots.has_room(owner):
            slots.take(owner)
        else:
            await self._wait(self._next_pieces, owner, asyncio.get_running_loop().time() + self._limits.timeout)
        return await self._read(slots, owner, read, self._limits.timeout)

    async def _long_slot(self, owner: str, ends: float) -> ReadSlots:
        if self._long.has_room(owner):
            self._long.take(owner)
            return self._long
        if owner and self._slow.length(owner) >= self._limits.waiting:
            raise TooManySlowReads().at("max_slow_reads_per_user")
        return await self._wait(self._slow, owner, ends)

    async def _wait(self, line: Line, owner: str, ends: float) -> ReadSlots:
        slot = line.join(owner)
        timer = asyncio.get_running_loop().call_at(ends, self._refuse, line, owner, slot)
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.cancelled():
                line.remove(owner, slot)
            elif slot.exception() is None:
                self._leave(slot.result(), owner)  # it got its slot at the moment of the cancellation
            raise
        finally:
            timer.cancel()

    def _refuse(self, line: Line, owner: str, slot: asyncio.Future[ReadSlots]) -> None:
        if not slot.done():
            line.remove(owner, slot)
            slot.set_exception(TooManySlowReads().at(self._limits.name))

    async def _read(self, slots: ReadSlots, owner: str, read: Callable[[float], Awaitable[T]], seconds: float) -> T:
        work: Awaitable[T] | None = None
        try:
            work = read(seconds)
            # A thread goes on when its caller is cancelled, and keeps its slot until it ends.
            return await (asyncio.shield(work) if isinstance(work, asyncio.Future) else work)
        finally:
            if isinstance(work, asyncio.Future) and not work.done():
                work.add_done_callback(lambda done: self._leave_after(done, slots, owner))
            else:
                self._leave(slots, owner)
            del work  # its error would keep this frame, and this frame the read

    def _leave_after(self, done: asyncio.Future[T], slots: ReadSlots, owner: str) -> None:
        if not done.cancelled():
            done.exception()  # mark it as retrieved: the caller has been cancelled
        self._leave(slots, owner)

    def _leave(self, slots: ReadSlots, owner: str) -> None:
        slots.leave(owner)
        for line in slots.lines:
            while line.let_in(slots):
                pass
