"""The processor time that one commit may take for what it computes: all other writes wait for the one writer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Final

from stores.bounds import Limit
from stores.errors import ComputedTooLong

LONGEST_COMPUTING: Annotated[float, Limit("commit on SQLite", "seconds of computing", "503")] = 2
"""Seconds of processor time in which a commit computes changes, carries out a batch, or takes the consequences of a
deletion, beside its searches, which `HUB_READ_TIMEOUT` bounds, and what each entity and each byte of its request takes
anyway: on a machine of a quarter of the usual speed."""

SECONDS_PER_CHANGE: Final = 0.0004
"""Seconds that a commit may take longer for each entity that it makes, changes or deletes."""

SECONDS_PER_ENTITY_BYTE: Final = 0.000000025
"""Seconds that a commit may take longer for each byte of an entity before its change: parsing and writing it takes up
to as much (measured: 7 ns for each byte of text, 24 for one of small objects)."""

SECONDS_PER_FOUND: Final = 0.0001
"""Seconds that a commit may take longer for each entity that a procedure finds: what refers to it is looked for too."""

SECONDS_PER_BYTE: Final = 0.0000002
"""Seconds that a commit may take longer for each byte that it is sent."""


class ComputingTime:
    """The processor time of one commit, from its first computed change or procedure on. The methods that check it raise
    ComputedTooLong."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: float | None = None

    def clear(self) -> None:
        """Begin with another commit, for which it does not run."""
        self._ends = None

    def start(self) -> None:
        if self._ends is None:
            self._ends = time.thread_time() + LONGEST_COMPUTING

    def allow(self, *, changed: int = 0, found: int = 0, sent: int = 0) -> None:
        """Allow the time for entities that are changed and found, and for bytes that are sent, if it is running."""
        if self._ends is not None:
            self._ends += changed * SECONDS_PER_CHANGE + found * SECONDS_PER_FOUND + sent * SECONDS_PER_BYTE

    def change(self, size: int) -> None:
        """Check the time, if it is running, before an entity of `size` bytes is changed."""
        if self._ends is not None:
            self._ends += SECONDS_PER_CHANGE + size * SECONDS_PER_ENTITY_BYTE
            self.check()

    def searching(self, search: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """Return the context `search`. The time that its block takes is not counted."""
        return search if self._ends is None else self._not_counted(search)

    @contextmanager
    def _not_counted(self, search: AbstractContextManager[None]) -> Iterator[None]:
        began = time.thread_time()
        try:
            with search:
                yield
        finally:
            assert self._ends is not None
            self._ends += time.thread_time() - began

    def check(self) -> None:
        if self._ends is not None and time.thread_time() > self._ends:
            raise ComputedTooLong(LONGEST_COMPUTING)
