"""The open transaction of the writer: who writes, when, and which changes it has made."""

from __future__ import annotations

import time as clock

import apsw

from stores import commits
from stores.records import Change, Operation
from stores.sqlite.feed import FOLLOW_BATCH, RING_BYTES, CommittedChanges, SQLiteFeed, current_seq


class Transaction:
    """The changes of a transaction, collected while the writes run, so that the feed need not read its table back.

    `by` is the user of the running job, `commit` its number, and `time` the time of all changes (Unix ms). The triggers
    of the tables use them.
    """

    __slots__ = (
        "_changes",
        "_commit_bytes",
        "_commit_changes",
        "_commit_text",
        "_large",
        "_size",
        "by",
        "commit",
        "time",
    )

    def __init__(self) -> None:
        self.by: str | None = None
        self.commit = 0
        self._commit_text = ""
        self._commit_changes = self._commit_bytes = 0
        self.begin(0)

    def begin(self, time: int) -> None:
        self.time = time
        self._size = 0
        self._changes: list[Change] | None = []
        self._large: set[int] = set()

    def begin_job(self, by: str | None) -> None:
        """Begin the next job: a commit of this user. Its number differs from those of all other commits of the file: it
        is the time in microseconds, or the number after the last one."""
        self.by = by
        self.commit = max(self.commit + 1, clock.time_ns() // 1_000)
        self._commit_text = str(self.commit)
        self._commit_changes = self._commit_bytes = 0

    def note(self, op: Operation, store: str, id: str, before: str | None, after: str | None) -> None:
        """Add a change that the triggers record, too. `before` and `after` are JSON text."""
        change = Change("", op, store, id, before, after, self.by, self.time, self._commit_text)
        size = change.size
        self._commit_changes += 1
        self._commit_bytes += size
        if self._commit_changes > commits.MOST_COMMIT_CHANGES or self._commit_bytes > commits.MOST_COMMIT_BYTES:
            self._large.add(self.commit)
        changes = self._changes
        if changes is None:
            return
        changes.append(change)
        self._size += size
        if len(changes) > FOLLOW_BATCH or self._size > RING_BYTES:
            self._changes = None

    @property
    def is_full(self) -> bool:
        """Whether the changes are too many to hand over: none is kept."""
        return self._changes is None

    def mark(self) -> tuple[int, int]:
        """Return the present end of the changes, for `rewind`."""
        return len(self._changes or ()), self._size

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget the changes since `mark`: their job has failed."""
        if self._changes is not None:
            del self._changes[mark[0] :]
            self._size = mark[1]

    def changes_for(self, feed: SQLiteFeed, connection: apsw.Connection) -> CommittedChanges:
        """Return what the transaction adds to `feed`. It is still open on `connection`."""
        newest = current_seq(connection)
        if self._large:
            rows = [(number, newest) for number in self._large]
            connection.executemany("INSERT OR IGNORE INTO large_commits VALUES(?,?)", rows)
        if self._changes is None:
            return CommittedChanges(newest, None)
        if newest - feed.seq != len(self._changes):
            # A statement outside the write executor made changes.
            return feed.read_changes(connection)
        numbered = list(enumerate(self._changes, feed.seq + 1))
        for seq, change in numbered:
            change.position = feed.at(seq)
        commits.mark_commits(self._changes)
        return CommittedChanges(newest, numbered)
