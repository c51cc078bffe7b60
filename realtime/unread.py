"""Bounds on the long lists that are made for live clients, and held in memory until the clients have read them.

These lists are snapshots, and the entities that enter or leave a changed view. A list that its engine returns in one
piece is not long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Annotated, Final

from realtime.client_sink import ClientSink
from stores.bounds import Limit
from stores.errors import Unavailable
from stores.long_lists import LongLists

MOST_UNREAD_BYTES: Final[Annotated[int, Limit("process", "bytes of unread long snapshots", "503")]] = 268_435_456
"""Bytes of the long lists that live clients have not read."""
MOST_UNREAD_BYTES_PER_USER: Final[Annotated[int, Limit("user", "bytes of unread long snapshots", "503")]] = 134_217_728
"""Half of them: one user who does not read refuses nobody else's."""

PATIENCE: Final = 5.0
"""Seconds for which a long list waits until its user has fewer: after a restart many clients begin at once."""


class UnreadLists:
    """Counts the unread long lists of all live clients. `long_lists` also counts the long lists over REST."""

    def __init__(
        self,
        long_lists: LongLists,
        most_bytes: int = MOST_UNREAD_BYTES,
        most_bytes_per_user: int = MOST_UNREAD_BYTES_PER_USER,
    ) -> None:
        self.long_lists = long_lists
        self.bytes = 0
        self.reading: set[asyncio.Task[None]] = set()
        """One task for each long list that a client is reading."""
        self._most_bytes = most_bytes
        self._most_bytes_per_user = most_bytes_per_user
        self._of_user: Counter[str] = Counter()

    def begin(self, user: str) -> UnreadList:
        """Return the count of one list, which begins when the list turns out to be long. Call `end` in any case."""
        return UnreadList(self, user)

    def grow(self, user: str, size: int) -> None:
        """Count more bytes of a list of this user. Raises Unavailable beyond a limit; they are counted anyway."""
        self.bytes += size
        self._of_user[user] += size
        if self._of_user[user] > self._most_bytes_per_user:
            raise Unavailable("too much waits for clients of this user that do not read").at(
                "MOST_UNREAD_BYTES_PER_USER"
            )
        if self.bytes > self._most_bytes:
            raise Unavailable("too much waits for clients that do not read").at("MOST_UNREAD_BYTES")

    def shrink(self, user: str, size: int) -> None:
        """Count these bytes no longer."""
        self.bytes -= size
        self._of_user[user] -= size
        if not self._of_user[user]:
            del self._of_user[user]


class UnreadList:
    """One list that is made or waits for its client."""

    __slots__ = ("_bytes", "_lists", "_slot", "_user")

    def __init__(self, lists: UnreadLists, user: str) -> None:
        self._lists = lists
        self._user = user
        self._slot = lists.long_lists.slot(user)
        self._bytes = 0

    @property
    def is_long(self) -> bool:
        return self._slot.is_taken

    def enter(self) -> Awaitable[None] | None:
        """Count the list, because it is long. Raises TooManyLists if the user has too many for PATIENCE seconds."""
        return self._slot.enter(PATIENCE)

    def enter_at_once(self) -> None:
        """Count the list, without waiting. Raises TooManyLists if the user has too many."""
        self._slot.enter()

    def grow(self, size: int) -> None:
        """Count more bytes of the list. Raises Unavailable beyond MOST_UNREAD_BYTES, or the user's share of them."""
        if self.is_long:
            self._bytes += size
            self._lists.grow(self._user, size)

    def end(self) -> None:
        """Count the list no longer."""
        self._slot.leave()
        self._lists.shrink(self._user, self._bytes)
        self._bytes = 0


class ClientList:
    """The list that is being made for one client. A long one counts until the client has read it.

    `seconds` is the time in which the client must read it. After that it is disconnected as `lagging`.
    """

    __slots__ = ("_current", "_lists", "_seconds", "_sink")

    def __init__(self, lists: UnreadLists, sink: ClientSink, seconds: float) -> None:
        self._lists = lists
        self._sink = sink
        self._seconds = seconds
        self._current: UnreadList | None = None

    def begin(self, user: str) -> UnreadList:
        """Return the count of a new list, which replaces the previous one."""
        self.drop()
        self._current = self._lists.begin(user)
        return self._current

    def drop(self) -> None:
        """Count the list no longer, because it is not going to be sent."""
        if self._current is not None:
            self._current.end()
            self._current = None

    def hand_over(self) -> None:
        """Count the list, which has been sent, until the client has read it."""
        unread, self._current = self._current, None
        if unread is not None and unread.is_long:
            task = asyncio.get_running_loop().create_task(self._count_until_taken(unread))
            self._lists.reading.add(task)
            task.add_done_callback(self._lists.reading.discard)

    async def _count_until_taken(self, unread: UnreadList) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._sink.taken()
        except TimeoutError:
            self._sink.close("lagging")
        finally:
            unread.end()
