"""A page of an audit trail while it is built: bounded by its number of entries and by the bytes of their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from stores.bounds import Limit
from stores.protocol import MOST_HISTORY_BYTES
from stores.records import HistoryEntry

MOST_EXAMINED_HISTORY_BYTES: Final[Annotated[int, Limit("request", "bytes examined", "`Link`")]] = 67_108_864
"""Bytes of stored records that are read for one page, even if little has changed in each."""


@dataclass(slots=True)
class Page:
    """A page under construction. `place` is the place of the last entry."""

    limit: int
    entries: list[HistoryEntry] = field(default_factory=list)
    place: str = ""
    size: int = 0
    examined: int = 0

    @property
    def is_full(self) -> bool:
        if not self.entries:
            return False
        too_large = self.size >= MOST_HISTORY_BYTES or self.examined >= MOST_EXAMINED_HISTORY_BYTES
        return too_large or len(self.entries) >= self.limit

    def add(self, place: str, entry: HistoryEntry, size: int, examined: int) -> None:
        """Add the entry at `place`. `size`: bytes of its values; `examined`: bytes that were read for it."""
        self.entries.append(entry)
        self.place = place
        self.size += size
        self.examined += examined
