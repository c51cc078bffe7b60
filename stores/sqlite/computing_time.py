"""The processor time that one commit may take for what it computes: all other writes wait for the one writer."""

from __future__ import annotations

import time
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import ComputedTooLong

LONGEST_COMPUTING: Annotated[float, Limit("commit on SQLite", "seconds of computing", "503")] = 2
"""Seconds of processor time in which a commit computes changes, carries out a batch, or takes the consequences of a
deletion, beside what each entity and each byte of its request takes anyway."""

SECONDS_PER_CHANGE: Final = 0.0002
"""Seconds that a commit may take longer for each entity that it changes."""

SECONDS_PER_FOUND: Final = 0.00005
"""Seconds that a commit may take longer for each entity that a procedure finds: what refers to it is looked for too."""

SECONDS_PER_BYTE: Final = 0.0000001
"""Seconds that a commit may take longer for each byte that it is sent."""


class ComputingTime:
    """The processor time of one commit, from its first computed change or procedure on. The methods that check it raise
    ComputedTooLong."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: float | None = None

    def start(self) -> None:
        if self._ends is None:
            self._ends = time.thread_time() + LONGEST_COMPUTING

    def allow(self, *, changed: int = 0, found: int = 0, sent: int = 0) -> None:
        """Allow the time for so many entities that are changed and found, and bytes that are sent, if it is running."""
        if self._ends is not None:
            self._ends += changed * SECONDS_PER_CHANGE + found * SECONDS_PER_FOUND + sent * SECONDS_PER_BYTE

    def change(self) -> None:
        """Check the time, if it is running, before the next entity is changed."""
        if self._ends is not None:
            self._ends += SECONDS_PER_CHANGE
            self.check()

    def check(self) -> None:
        if self._ends is not None and time.thread_time() > self._ends:
            raise ComputedTooLong(LONGEST_COMPUTING)
