"""Transactions in the change stream: which changes were committed together, also across the server's replies.

The events of a transaction have its cluster time and a number (`txnNumber`) in common, and follow one another. Nothing
marks the last one. A reply that is not full ends with the end of a transaction, except that of a router; after one that
may be cut, the changes of its last transaction wait for the next reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stores.commits import LargeCommits, mark_commits
from stores.mongo.codec import Document
from stores.mongo.position import Resume
from stores.mongo.stream import ChangeStream
from stores.records import Change

_SURELY_WHOLE: Final = 500_000
"""Bytes of changes below which a reply has surely not been cut for its size, 16 MiB: as BSON, with the images that are
not used, they are at most 16 times as large."""


def commit_of(event: Document) -> str | None:
    """Return the text that the changes of the event's transaction have in common; None outside of transactions."""
    if "txnNumber" not in event:
        return None
    time = event["clusterTime"]
    return f"{time.time}.{time.inc}"


def commit_before(resume: Resume) -> str | None:
    """Return the commit that a stream may continue which resumes at this place."""
    return None if resume.token is None else f"{resume.time.time}.{resume.time.inc}"


def commit_going_on(stream: ChangeStream, events: Sequence[Document], changes: Sequence[Change]) -> str | None:
    """Return the commit of the last event if the next reply may go on with it; None if this reply has all of it.
    `changes` are those in the events."""
    if not events or (commit := commit_of(events[-1])) is None:
        return None
    marks = sum(change.op == "delete" for change in changes)  # a deletion is two events
    unknown = len(events) > len(changes) + marks
    size = sum(change.size for change in changes)
    is_cut = stream.is_full or stream.is_of_router or unknown or size > _SURELY_WHOLE
    return commit if is_cut else None


class OpenTransaction:
    """Holds the changes of a transaction until all of them have arrived. Those of one that is too large pass through,
    without their commit. `large` remembers these."""

    def __init__(self, resume: Resume, large: LargeCommits) -> None:
        self._waiting: list[Change] = []
        self._before = commit_before(resume)
        self._large = large

    @property
    def is_waiting(self) -> bool:
        """Whether changes wait for the next reply."""
        return bool(self._waiting)

    def add(self, changes: list[Change], going_on: str | None) -> list[Change]:
        """Add the changes of a reply. Return those whose commits are complete."""
        ready, self._waiting = self._waiting + changes, []
        if going_on is not None:
            start = len(ready)
            while start and ready[start - 1].commit == going_on:
                start -= 1
            if start < len(ready) and not self._large.too_large(ready[start:]):
                ready, self._waiting = ready[:start], ready[start:]
        mark_commits(ready, self._before, too_large=self._large.too_large)
        return ready
