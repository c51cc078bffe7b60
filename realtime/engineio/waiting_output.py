"""Bounds on the bytes that wait for clients that do not read, for each owner and for the process.

Each connection has a bound of its own. One user with a thousand connections would otherwise hold a thousand times as
much. Beyond these bounds `Connection.offer` takes nothing more for the owner's slow connections.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

from stores.bounds import Limit

SMALL_OUTPUT: Final = 131_072
"""Bytes that may wait for any connection and do not count. More than the transport's high-water mark, so that the
transport reports when bytes that count have been sent."""

MOST_WAITING_BYTES: Final[Annotated[int, Limit("process", "bytes of live output that waits", "events wait")]] = (
    268_435_456
)
"""Bytes that wait for slow connections, of all owners."""
MOST_WAITING_BYTES_PER_USER: Final[Annotated[int, Limit("user", "bytes of live output that waits", "events wait")]] = (
    134_217_728
)
"""Half of them: one user who does not read takes nobody else's room."""


class WaitingOutput:
    """Counts the bytes that wait. `""` is the owner of connections without one, which have the bound of all."""

    def __init__(self, most: int = MOST_WAITING_BYTES, each: int = MOST_WAITING_BYTES_PER_USER) -> None:
        self._most = most
        self._each = each
        self._total = 0
        self._of_owner: Counter[str] = Counter()

    def grow(self, owner: str, size: int) -> None:
        """Count more bytes, or fewer if `size` is negative."""
        self._total += size
        self._of_owner[owner] += size
        if not self._of_owner[owner]:
            del self._of_owner[owner]

    def has_room(self, owner: str) -> bool:
        """Return whether more may wait for this owner."""
        return self._total <= self._most and (not owner or self._of_owner[owner] <= self._each)
