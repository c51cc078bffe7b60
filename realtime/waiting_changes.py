"""Missed changes in memory while the clients that they are for have no room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

from stores.bounds import Limit
from stores.records import Change

MOST_MISSED_BYTES: Final[Annotated[int, Limit("process", "bytes of missed changes", "they are read again")]] = (
    67_108_864
)
"""Bytes of missed changes that wait for clients with room. Beyond that they are dropped, and read again later."""


class WaitingChanges:
    """Counts the changes that wait. One read of the feed has up to 40 MiB, and thousands of clients that read nothing
    may resume at once."""

    def __init__(self) -> None:
        self._bytes = 0

    @contextmanager
    def count(self, changes: Sequence[Change]) -> Iterator[bool]:
        """Count the changes while the block runs, and pass whether there is room for them: without it they must not be
        kept."""
        size = sum(change.size for change in changes)
        if self._bytes + size > MOST_MISSED_BYTES:
            yield False
            return
        self._bytes += size
        try:
            yield True
        finally:
            self._bytes -= size
