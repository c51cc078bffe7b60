"""Bounds on the long lists that are made for live clients, and held in memory until the clients have read them.

These lists are snapshots, and the entities that enter or leave a changed view. A list that its engine returns in one
piece is not long.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import Unavailable
from stores.long_lists import LongLists, Place

MOST_UNREAD_BYTES: Final[Annotated[int, Limit("process", "bytes of unread long snapshots", "503")]] = 268_435_456
"""Bytes of the long lists that live clients have not read."""

PATIENCE: Final = 5.0
"""Seconds for which a long list waits until its user has fewer: after a restart many clients begin at once."""


class UnreadLists:
    """Counts the unread long lists of all live clients. `places` also counts the long lists over REST."""

    def __init__(self, places: LongLists, most_bytes: int = MOST_UNREAD_BYTES) -> None:
        self.places = places
        self.most_bytes = most_bytes
        self.bytes = 0

    def begin(self, user: str) -> UnreadList:
        """Return the count of one list, which begins when the list turns out to be long. Call `end` in any case."""
        return UnreadList(self, self.places.place(user))


class UnreadList:
    """One list that is made or waits for its client."""

    __slots__ = ("_all", "_bytes", "_place")

    def __init__(self, all: UnreadLists, place: Place) -> None:
        self._all = all
        self._place = place
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
        """Count more bytes of the list. Raises Unavailable beyond MOST_UNREAD_BYTES."""
        if not self.is_long:
            return
        self._bytes += size
        self._all.bytes += size
        if self._all.bytes > self._all.most_bytes:
            raise Unavailable("too much waits for clients that do not read").at("MOST_UNREAD_BYTES")

    def end(self) -> None:
        """Count the list no longer."""
        self._place.leave()
        self._all.bytes -= self._bytes
        self._bytes = 0
