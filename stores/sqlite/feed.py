"""The change feed of a SQLite file: the `changes` table. The newest changes are kept in memory for followers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import cast

import apsw

from stores.commits import MOST_COMMIT_CHANGES, CommitSize, mark_commits
from stores.errors import HistoryGone
from stores.protocol import MOST_READ_BYTES, Batch
from stores.recent import RecentChanges
from stores.records import Change
from stores.sqlite.readers import Readers, snapshot

COLUMNS = "seq, op, store, id, before, after, by, time, commit_number"
RING = 10_000
"""Changes kept in memory; followers that are further behind read the file."""

RING_BYTES = 33_554_432

FOLLOW_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class CommittedChanges:
    """The changes of a commit: the last `seq`, and the changes, or None when they are too many to hand over."""

    seq: int
    changes: list[tuple[int, Change]] | None


def current_seq(connection: apsw.Connection) -> int:
    return connection.execute("SELECT max(seq) FROM changes").get or 0


class SQLiteFeed:
    """See `stores.protocol.Feed`. A position is ``<epoch>.<seq>``."""

    def __init__(self, epoch: str, readers: Readers, seq: int) -> None:
        self.epoch = epoch
        self.readers = readers
        self.seq = seq
        self._recent = RecentChanges(seq, RING, RING_BYTES)
        self._news = asyncio.Event()

    def at(self, seq: int) -> str:
        return f"{self.epoch}.{seq}"

    async def position(self) -> str:
        return self.at(self.seq)

    def order(self, position: str) -> bytes:
        return self._parse(position).to_bytes(8)

    def place(self, position: str) -> str:
        return str(self._parse(position))

    async def read(self, since: str, limit: int = 1_000, *, whole: bool = False) -> Batch:
        start = self._parse(since)

        def read(connection: apsw.Connection) -> Batch:
            with snapshot(connection):
                return self._read(connection, start, limit, whole)

        return await self.readers.run(read)

    def read_from(self, connection: apsw.Connection, since: str) -> Batch:
        """Return the changes after `since` as the open transaction of `connection` sees them. Raises HistoryGone."""
        return self._read(connection, self._parse(since), FOLLOW_BATCH, False)

    async def follow(self, since: str) -> AsyncGenerator[Batch]:
        start = self._parse(since)
        if start > self.seq:
            await self.read(since, 1)  # raises, unless a commit that is not published yet has reached the position
        while True:
            recent = self._recent.after(start, FOLLOW_BATCH)
            if recent is None:
                batch = await self.read(self.at(start), FOLLOW_BATCH, whole=True)
                changes, start = batch.changes, self._parse(batch.position)
            else:
                changes, start = [change for _, change in recent], recent[-1][0] if recent else start
            if changes:
                yield Batch(changes, self.at(start), start < self.seq)
            elif start >= self.seq:
                await self._news.wait()

    def publish(self, committed: CommittedChanges) -> None:
        """Add the changes of a commit and wake the followers."""
        if committed.seq == self.seq:
            return
        self.seq = committed.seq
        if committed.changes is None:
            self._recent.clear(committed.seq)
        else:
            for seq, change in committed.changes:
                self._recent.append(seq, change)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def read_changes(self, connection: apsw.Connection) -> CommittedChanges:
        """Return the changes that the open transaction of `connection` has added so far."""
        changes: list[tuple[int, Change]] = []
        size = 0
        for seq, change in self._changes(self._rows(connection, self.seq, FOLLOW_BATCH + 1)):
            changes.append((seq, change))
            size += change.size
            if len(changes) > FOLLOW_BATCH or size > RING_BYTES:
                return CommittedChanges(current_seq(connection), None)
        mark_commits([change for _, change in changes])
        return CommittedChanges(changes[-1][0] if changes else self.seq, changes)

    def _read(self, connection: apsw.Connection, start: int, limit: int, whole: bool) -> Batch:
        newest = current_seq(connection)
        oldest = connection.execute("SELECT min(seq) FROM changes").get or 1
        if start > newest or start < oldest - 1:
            raise HistoryGone("the changes since that position are not kept any more")
        changes: list[Change] = []
        size, end, cut = 0, newest, False
        commit = CommitSize()
        for seq, change in self._changes(self._rows(connection, start, limit + MOST_COMMIT_CHANGES + 1)):
            if len(changes) >= limit or size >= MOST_READ_BYTES:
                goes_on = commit.goes_on_with(change)
                if not (goes_on and whole) or commit.is_too_large:
                    end, cut = seq - 1, goes_on
                    break
            changes.append(change)
            size += change.size
            commit.add(change)
        self._mark(connection, start, changes, cut)
        return Batch(changes, self.at(end), end < newest)

    def _mark(self, connection: apsw.Connection, start: int, changes: list[Change], cut: bool) -> None:
        """Mark the commits of the changes after `start`."""
        numbers = [int(change.commit) for change in changes if change.commit is not None]
        if not numbers:
            return
        before = connection.execute("SELECT commit_number FROM changes WHERE seq=?", (start,)).get
        sql = "SELECT number FROM large_commits WHERE number BETWEEN ? AND ?"
        large = {str(number) for (number,) in connection.execute(sql, (min(numbers), max(numbers)))}
        continued = None if before is None else str(before)
        mark_commits(changes, continued, cut=cut, too_large=lambda run: run[0].commit in large)

    @staticmethod
    def _rows(connection: apsw.Connection, start: int, limit: int) -> Iterable[tuple[apsw.SQLiteValue, ...]]:
        sql = f"SELECT {COLUMNS} FROM changes WHERE seq>? ORDER BY seq LIMIT ?"
        return connection.execute(sql, (start, limit))

    def _changes(self, rows: Iterable[tuple[apsw.SQLiteValue, ...]]) -> Iterable[tuple[int, Change]]:
        for seq, *rest, commit in rows:
            change = Change(self.at(seq), *rest)  # type: ignore[arg-type]
            change.commit = None if commit is None else str(commit)
            yield cast(int, seq), change

    def _parse(self, position: str) -> int:
        epoch, _, seq = position.partition(".")
        if epoch != self.epoch or not (seq.isascii() and seq.isdigit() and len(seq) < 19):
            raise HistoryGone("this position is not of this database")
        return int(seq)
