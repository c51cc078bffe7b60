"""A consumer's position and lease on SQLite: the position in the file, the lease in memory.

Only one process opens a file, so a lease decides only between consumers of that process, and ends with it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import apsw

from stores.consumer import Lease
from stores.errors import LeaseLost
from stores.protocol import Batch, Write
from stores.sqlite.feed import SQLiteFeed, current_seq

T = TypeVar("T")


class CommitWith(Protocol):
    async def __call__(
        self,
        writes: Sequence[Write],
        also: Callable[[apsw.Connection], T],
        committed: Callable[[], None] | None = None,
    ) -> T:
        """Call `also` with the writing connection, then do `writes`: both or neither. Return the result of `also`. With
        `committed`, do it in a transaction of its own, and call `committed` before later writes run."""


@dataclass(slots=True)
class LeaseState:
    """The lease of a consumer. `until` is in monotonic time."""

    token: int = 0
    holder: str = ""
    until: float = 0.0


class SQLiteConsumerState:
    """See `stores.consumer.ConsumerState`. All states of one consumer share `state`."""

    def __init__(self, name: str, feed: SQLiteFeed, commit_with: CommitWith, state: LeaseState) -> None:
        self._name = name
        self._feed = feed
        self._commit_with = commit_with
        self._state = state

    def follow(self, since: str) -> AsyncGenerator[Batch]:
        return self._feed.follow(since)

    async def acquire(self, holder: str, seconds: float, since: str | None) -> Lease | None:
        state = self._state
        if state.holder not in ("", holder) and state.until > time.monotonic():
            return None
        state.token, state.holder, state.until = state.token + 1, holder, time.monotonic() + seconds
        token = state.token
        # Through the writer, after the waiting commits: one of them may belong to the lease before.
        return Lease(token, seconds, await self._commit_with((), lambda connection: self._position(connection, since)))

    def _position(self, connection: apsw.Connection, since: str | None) -> str:
        start = since or self._feed.at(current_seq(connection))
        connection.execute("INSERT OR IGNORE INTO consumers VALUES(?,?)", (self._name, start))
        return str(connection.execute("SELECT position FROM consumers WHERE name=?", (self._name,)).get)

    async def renew(self, lease: Lease, position: str) -> None:
        if position != lease.position:
            await self.commit(lease, (), position)
            return
        self._check(lease)
        self._state.until = time.monotonic() + lease.seconds

    async def commit(self, lease: Lease, writes: Sequence[Write], position: str) -> None:
        await self._commit_with(writes, lambda connection: self._store(connection, lease, position))
        lease.position = position
        if self._state.token == lease.token:
            self._state.until = time.monotonic() + lease.seconds

    def _store(self, connection: apsw.Connection, lease: Lease, position: str) -> None:
        self._check(lease)
        self._replace(connection, lease.position, position)

    def _replace(self, connection: apsw.Connection, old: str, new: str) -> None:
        sql = "UPDATE consumers SET position=? WHERE name=? AND position=?"
        connection.execute(sql, (new, self._name, old))
        if connection.changes() != 1:
            raise LeaseLost("another position has been stored")

    def _check(self, lease: Lease) -> None:
        if self._state.token != lease.token:
            raise LeaseLost("another consumer of this name works now")

    async def release(self, lease: Lease) -> None:
        if self._state.token == lease.token:
            self._state.until = 0.0

    async def restart_at(self, since: str | None, writes: Sequence[Write], instead_of: str | None) -> None:
        def store(connection: apsw.Connection) -> None:
            start = since or self._feed.at(current_seq(connection))
            if instead_of is None:
                connection.execute("INSERT OR REPLACE INTO consumers VALUES(?,?)", (self._name, start))
            else:
                self._replace(connection, instead_of, start)

        def end_leases() -> None:
            self._state.token, self._state.holder, self._state.until = self._state.token + 1, "", 0.0

        await self._commit_with(writes, store, end_leases)
