"""Missed changes: what a subscription that joins or resumes reads, from memory if possible, otherwise from the feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stores.protocol import Batch, Engine
from stores.read_turns import READER
from stores.recent import RecentChanges
from stores.records import Change
from stores.turns import FairSemaphore

READ_AT_ONCE: Final = 500
"""Maximum changes in one read for a subscription that resumes."""


class MissedChanges:
    """Reads changes of the past. `recent` holds those in memory. `delivered` returns the position of fan-out and its
    order: nothing beyond it is returned to readers behind it."""

    def __init__(
        self, engine: Engine, recent: RecentChanges[bytes], delivered: Callable[[], tuple[str, bytes]]
    ) -> None:
        self._engine = engine
        self._recent = recent
        self._delivered = delivered
        self._reading = FairSemaphore(most=1, each=1)

    def kept_after(self, order: bytes) -> list[Change] | None:
        """Return the changes delivered after `order`; None if not all of them are kept."""
        found = self._recent.after(order)
        return None if found is None else [change for _, change in found]

    async def read_after(self, position: str, is_wanted: Callable[[], bool] = lambda: True) -> Batch:
        """Return the first changes after a position, from memory if possible. Raises HistoryGone.

        An empty batch is returned if it `is_wanted` no more when its turn comes.

        Changes that were read from the feed are kept if they adjoin the kept ones: clients that lost the connection at
        the same time resume from about the same position. One read of the feed runs at a time, and the next may find
        its changes in memory. Users take turns.
        """
        feed = self._engine.feed
        order = feed.order(position)
        if (kept := self._first_kept_after(order)) is not None:
            return kept
        async with self._reading.slot(READER.get()):
            if not is_wanted():
                return Batch([], position, more=True)
            if (kept := self._first_kept_after(order)) is not None:
                return kept
            batch = await feed.read(position, READ_AT_ONCE, whole=True)
            if feed.order(batch.position) >= self._recent.oldest:
                self._recent.prepend(order, [(feed.order(change.position), change) for change in batch.changes])
            return self._up_to_here(batch) if order <= self._delivered()[1] else batch

    def _up_to_here(self, batch: Batch) -> Batch:
        """Return the part of a batch up to the position of fan-out. Later changes may have ended the right to see
        what follows, and the listeners have not received them yet."""
        (position, here), order = self._delivered(), self._engine.feed.order
        if order(batch.position) <= here:
            return batch
        return Batch([each for each in batch.changes if order(each.position) <= here], position, more=True)

    def _first_kept_after(self, order: bytes) -> Batch | None:
        """Return the first changes after `order` from memory, or None if they are not there."""
        position, here = self._delivered()
        recent = self._recent.after(order, READ_AT_ONCE) if order <= here else None
        if recent is None:
            return None
        changes = [change for _, change in recent]
        more = len(changes) >= READ_AT_ONCE  # the rest of a commit may exceed it
        return Batch(changes, changes[-1].position if more else position, more)
