"""Bounds on the long lists that are made for live clients, and held in memory until the clients have read them.

These lists are snapshots, and the entities that enter or leave a changed view. A list that its engine returns in one
piece is not long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import Annotated, Final

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
    """Counts the unread long lists of all live clients. `places` also counts the long lists over REST."""

    def __init__(
        self,
        places: LongLists,
        most_bytes: int = MOST_UNREAD_BYTES,
        most_bytes_per_user: int = MOST_UNREAD_BYTES_PER_USER,
    ) -> None:
        self.places = places
        self.bytes = 0
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

    __slots__ = ("_bytes", "_lists", "_place", "_user")

    def __init__(self, lists: UnreadLists, user: str) -> None:
        self._lists = lists
        self._user = user
        self._place = lists.places.place(user)
        self._bytes = 0

    @property
    def is_long(self) -> bool:
        return self._place.is_taken

    def enter(self) -> Awaitable[None] | None:
        """Count the list, because it is long. Raises TooManyLists if the user has too many for PATIENCE seconds."""
        return self._place.enter(PATIENCE)

    def enter_at_once(self) -> None:
        """Do the same without waiting."""
        self._place.enter()

    def grow(self, size: int) -> None:
        """Count more bytes of the list. Raises Unavailable beyond MOST_UNREAD_BYTES, or the user's share of them."""
        if self.is_long:
            self._bytes += size
            self._lists.grow(self._user, size)

    def end(self) -> None:
        """Count the list no longer."""
        self._place.leave()
        self._lists.shrink(self._user, self._bytes)
        self._bytes = 0
