"""Fair sharing of the event loop and of bounded resources: long work yields, and owners take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final, Generic, TypeVar

T = TypeVar("T")

TURN: Final = 0.01
"""Seconds of work after which other tasks get a turn."""
_LOOKED_AT: Final = 16
"""Owners among which `Queue.take_of_few` chooses the one with the fewest items."""


class Turn:
    """A time slice of a long loop. Usage: ``if turn.is_over: await turn.pass_on()``."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = time.perf_counter() + TURN

    @property
    def is_over(self) -> bool:
        return time.perf_counter() > self._ends

    async def pass_on(self) -> None:
        await asyncio.sleep(0)
        self._ends = time.perf_counter() + TURN


class Queue(Generic[T]):
    """Waiting items by owner: owners take turns, and each owner's items keep their order."""

    def __init__(self) -> None:
        self.by_owner: dict[str, deque[T]] = {}
        """The waiting items of each owner, in the order of the owners' turns."""

    def __bool__(self) -> bool:
        return bool(self.by_owner)

    def put(self, owner: str, item: T) -> None:
        waiting = self.by_owner.get(owner)
        if waiting is None:
            self.by_owner[owner] = deque((item,))
        else:
            waiting.append(item)

    def put_back(self, owner: str, item: T) -> None:
        """Put an item before all other items of its owner."""
        self.by_owner.setdefault(owner, deque()).appendleft(item)

    def remove(self, owner: str, item: T) -> None:
        """Remove an item, if it is waiting."""
        waiting = self.by_owner.get(owner, deque())
        if item in waiting:
            waiting.remove(item)
            if not waiting:
                del self.by_owner[owner]

    def take(self) -> T:
        """Remove and return the next item of the owner whose turn it is."""
        return self.take_from(next(iter(self.by_owner)))

    def take_from(self, owner: str) -> T:
        """Remove and return the next item of an owner, whose next turn comes after those of the others."""
        waiting = self.by_owner.pop(owner)
        item = waiting.popleft()
        if waiting:
            self.by_owner[owner] = waiting  # behind the others
        return item

    def next_owner(self, may: Callable[[str], bool]) -> str | None:
        """Return the first owner for which `may` returns true, in the order of their turns; None without one."""
        return next(filter(may, self.by_owner), None)

    def take_of_few(self) -> T:
        """Remove and return the next item of the owner with the fewest items, among the owners whose turns come next.
        Nobody loses a turn.

        Used now and then, it serves owners with few items early, however many owners there are. Used always, owners
        with many items might never have a turn."""
        owner = min(islice(self.by_owner, _LOOKED_AT), key=self.length)
        item = self.by_owner[owner].popleft()
        if not self.by_owner[owner]:
            del self.by_owner[owner]
        return item

    def length(self, owner: str) -> int:
        """Return the number of items of this owner."""
        return len(self.by_owner.get(owner, ()))


class SharedTurns:
    """Short pieces of work of many callers, which together get `TURN` seconds of each iteration of the event loop. A
    caller checks `is_over` before each piece, and passes the rest of its work to `later`."""

    def __init__(self) -> None:
        self._ends: float | None = None
        self._waiting: Queue[Callable[[], None]] = Queue()

    def is_over(self) -> bool:
        now = time.perf_counter()
        if self._ends is None:
            self._ends = now + TURN
            asyncio.get_running_loop().call_soon(self._begin)
        return now > self._ends

    def later(self, owner: str, go_on: Callable[[], None]) -> None:
        """Call `go_on` in a later turn, after the work of this owner that waits already. Owners take turns."""
        self.is_over()  # it schedules the next turn
        self._waiting.put(owner, go_on)

    def _begin(self) -> None:
        self._ends = None
        while self._waiting and not self.is_over():
            try:
                self._waiting.take()()
            except Exception as error:  # a failure must not delay the work behind it
                context = {"message": "work in a shared turn failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class Gate:
    """A gate that lets at most `at_once` callers begin in each iteration of the event loop. Owners take turns."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._begun = 0
        self._waiting: Queue[asyncio.Future[None]] = Queue()

    async def enter(self, owner: str = "") -> None:
        """Wait for an iteration in which there is room."""
        if self._begun == 0:
            asyncio.get_running_loop().call_soon(self._open)
        if self._begun < self._at_once and not self._waiting:
            self._begun += 1
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.put(owner, waiting)
        await waiting

    def _open(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._at_once:
            waiting = self._waiting.take()
            if not waiting.done():  # cancelled
                waiting.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._open)


class LoopTime:
    """Work of many callers on the event loop, of about `longest` seconds each at most. Together they get about `TURN`
    seconds of each iteration: a caller adds what its work took, and while `is_over` it waits before it begins. If the
    work took longer than `longest`, fewer of those that wait begin in the next iterations.

    Without it a burst of requests, each of which is short, would be one long iteration."""

    __slots__ = ("_dearest", "_is_scheduled", "_longest", "_spent", "_waiting", "is_over")

    def __init__(self, longest: float) -> None:
        self.is_over = False
        """Whether the time of this iteration is used up, or others wait."""
        self._spent = 0.0
        self._longest = longest
        self._dearest = 0.0
        """Seconds that work has taken recently, at most; it is halved in each iteration."""
        self._is_scheduled = False
        self._waiting: Queue[asyncio.Future[None]] = Queue()

    def add(self, seconds: float) -> None:
        """Count work of this iteration."""
        self._spent += seconds
        self._dearest = max(self._dearest, seconds)
        if self._spent > TURN:
            self.is_over = True
        self._schedule()

    async def wait(self, owner: str) -> None:
        """Wait for an iteration with time left. Owners take turns."""
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.put(owner, admitted)
        self._schedule()
        await admitted

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_scheduled = False
        self._spent = 0.0
        admissions = max(1, int(TURN / max(self._longest, self._dearest)))
        self._dearest /= 2
        while self._waiting and admissions:
            waiting = self._waiting.take()
            if not waiting.done():  # cancelled
                waiting.set_result(None)
                admissions -= 1
        if self._waiting:
            self._schedule()
        self.is_over = bool(self._waiting)


class Occupancy:
    """A count of occupied slots: `most` in all, `each` for one owner."""

    def __init__(self, most: int, each: int) -> None:
        self._free = most
        self._each = each
        self._inside: Counter[str] = Counter()

    def has_room(self, owner: str) -> bool:
        """Return whether the owner may take a slot now."""
        return self._free > 0 and self._inside[owner] < self._each

    def take(self, owner: str) -> None:
        self._free -= 1
        self._inside[owner] += 1

    def leave(self, owner: str) -> None:
        self._free += 1
        self._inside[owner] -= 1
        if not self._inside[owner]:
            del self._inside[owner]


class FairSemaphore:
    """A semaphore of `most` slots, at most `each` for one owner. Waiting owners take turns."""

    def __init__(self, most: int, each: int) -> None:
        self._occupancy = Occupancy(most, each)
        self._waiting: Queue[asyncio.Future[None]] = Queue()

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Hold a slot while the block runs. Waits until there is one for this owner."""
        await self._enter(owner)
        try:
            yield
        finally:
            self._leave(owner)

    async def run(self, owner: str, start: Callable[[], asyncio.Future[T]]) -> T:
        """Start work when there is a slot for this owner, and return its result.

        The slot is held until the work ends, also if the caller is cancelled before: a thread cannot be stopped.
        """
        await self._enter(owner)
        try:
            work = start()
        except BaseException:
            self._leave(owner)
            raise
        work.add_done_callback(lambda _: self._leave(owner))
        return await asyncio.shield(work)

    async def _enter(self, owner: str) -> None:
        if self._occupancy.has_room(owner) and owner not in self._waiting.by_owner:
            self._occupancy.take(owner)
        else:
            await self._wait(owner)

    async def _wait(self, owner: str) -> None:
        let_in = asyncio.get_running_loop().create_future()
        self._waiting.put(owner, let_in)
        try:
            await let_in
        except asyncio.CancelledError:
            if let_in.done() and not let_in.cancelled():
                self._leave(owner)  # it got its slot at the moment of the cancellation
            raise

    def _leave(self, owner: str) -> None:
        self._occupancy.leave(owner)
        has_room = self._occupancy.has_room
        # Few owners are skipped: at most `most / each` owners can hold `each` slots.
        while (following := self._waiting.next_owner(has_room)) is not None:
            let_in = self._waiting.take_from(following)
            if not let_in.done():  # cancelled
                self._occupancy.take(following)
                let_in.set_result(None)
