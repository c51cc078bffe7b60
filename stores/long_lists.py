"""Limits the long lists of a user: each holds a snapshot of the database, or memory, until its client has it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from stores.errors import TooManyLists
from stores.turns import Queue


class LongLists:
    """Counts long lists. `most`: lists of one user at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._of_user: Counter[str] = Counter()
        self._waiting: Queue[asyncio.Future[None]] = Queue()

    def slot(self, user: str) -> ListSlot:
        """Return a slot for one list, not taken yet."""
        return ListSlot(self, user)

    def take(self, user: str) -> bool:
        """Take one of the user's slots, and return whether one was free."""
        is_free = self._of_user[user] < self.most
        if is_free:
            self._of_user[user] += 1
        return is_free

    async def waited(self, user: str, patience: float) -> bool:
        """Wait until `give_back` passes a slot on, and return whether it did."""
        passed_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(user, passed_on)
        try:
            async with asyncio.timeout(patience):
                await passed_on
        except BaseException as error:
            self._withdraw(user, passed_on)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def _withdraw(self, user: str, passed_on: asyncio.Future[None]) -> None:
        if passed_on.done() and not passed_on.cancelled():  # the slot came in the same moment
            self.give_back(user)
            return
        self._waiting.remove(user, passed_on)

    def give_back(self, user: str) -> None:
        """Pass a slot on to the list that has waited longest, or free it."""
        while self._waiting.length(user):
            first = self._waiting.take_from(user)
            if not first.done():
                first.set_result(None)
                return
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]


class ListSlot:
    """The slot of one list. `enter` takes it, as soon as the list is known to be long; `leave` frees it, if it is
    taken."""

    __slots__ = ("_lists", "_user", "is_taken")

    def __init__(self, lists: LongLists, user: str) -> None:
        self._lists = lists
        self._user = user
        self.is_taken = False

    def enter(self, patience: float = 0) -> Awaitable[None] | None:
        """Take the slot, or return an awaitable that takes it within `patience` seconds. Raises TooManyLists."""
        self.is_taken = self.is_taken or self._lists.take(self._user)
        if self.is_taken:
            return None
        if not patience:
            raise TooManyLists(self._lists.most)
        return self._wait(patience)

    async def _wait(self, patience: float) -> None:
        if not await self._lists.waited(self._user, patience):
            raise TooManyLists(self._lists.most)
        self.is_taken = True

    def leave(self) -> None:
        if self.is_taken:
            self.is_taken = False
            self._lists.give_back(self._user)

    def released_after(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Return `body`, which frees the slot when it is read or closed."""
        return _ReleasingBody(self, body)


class _ReleasingBody:
    """An iterator rather than a generator: closing a generator before its first step would run none of its code."""

    def __init__(self, slot: ListSlot, body: Any) -> None:
        self._slot = slot
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await anext(self._body)
        except BaseException:
            self._slot.leave()
            raise
        return piece

    async def aclose(self) -> None:
        self._slot.leave()
        await self._body.aclose()
