"""Bulk changes whose entities take long to find: a reader looks for them, and the writer changes them by row.

All writes wait for the one writer. So it tests the filter of a bulk change for a short time only. If that is not
enough, a reader finds the matches, and the writer tests the filter again only on those that have changed since. It
leaves out what has come to match in between, like a later write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final

import apsw

from stores.bounds import Limit
from stores.errors import ReadTimeout, TooManyMatches, TooManySlowReads, TooManySlowWrites, Unavailable
from stores.protocol import Definitions, DeleteMany, IdempotencyKey, UpdateMany, Written
from stores.query import Filter
from stores.read_turns import ReadLimits, ReadTurns
from stores.sqlite.feed import current_seq
from stores.sqlite.group_commit import GroupCommitter
from stores.sqlite.matches import Found, new_rows, search_sql, state_of
from stores.sqlite.readers import Readers, snapshot
from stores.sqlite.tables import StoreTable
from stores.sqlite.writes import WriteExecutor
from stores.superseded import SupersededDefinitions

MOST_SLOW_CHANGES: Annotated[int, Limit("process on SQLite", "slow bulk changes at a time", "waits, then 503")] = 4
"""Slow bulk changes in progress, one of each user: each holds the rows of its matches in memory."""

SEARCH_SECONDS: Final = 0.1
"""Seconds for which a bulk change may search for its entities in the writer."""

CHECK_SECONDS: Final = 0.1
"""Seconds for which a bulk change may test its filter again in the writer."""

SEARCHES: Final = 3
"""Searches of one bulk change, if each time too many of the matches change before they are written."""

BulkWrite = UpdateMany | DeleteMany
Commit = Callable[[WriteExecutor], list[Written]]


class BulkChanges:
    """The commits of one bulk change each.

    `timeout`: seconds of a search, and seconds that a slow bulk change may wait for others. `waiting`: slow bulk
    changes of one user that may wait."""

    def __init__(
        self,
        committer: GroupCommitter,
        executor: WriteExecutor,
        readers: Readers,
        superseded: SupersededDefinitions,
        timeout: float,
        waiting: int,
    ) -> None:
        self._committer = committer
        self._executor = executor
        self._readers = readers
        self._superseded = superseded
        self._timeout = timeout
        none = (0, 0)
        slow = ReadLimits((MOST_SLOW_CHANGES, 1), (0, 0, 0), none, 0, timeout, waiting, "MOST_SLOW_CHANGES")
        self._turns = ReadTurns(slow, ReadTimeout)

    async def commit(
        self, write: BulkWrite, by: str | None, key: IdempotencyKey | None, definition: Definitions
    ) -> list[Written]:
        """Do the bulk change. Raises the errors of `Engine.commit`, and ReadTimeout for a filter that takes too
        long."""

        def commit(executor: WriteExecutor) -> list[Written]:
            if definition is not None:
                self._superseded.check(definition)
            return executor.run_once([write], key)

        try:
            return await self._submit(commit, by, SEARCH_SECONDS)
        except ReadTimeout:
            pass
        try:
            async with self._turns.long_slot():
                for _ in range(SEARCHES):
                    found = await self._search(write)
                    with suppress(ReadTimeout):
                        return await self._submit(commit, by, CHECK_SECONDS, found)
        except TooManySlowReads as error:
            raise TooManySlowWrites().at(error.limit_name) from error
        raise Unavailable("others change the same entities all the time")

    async def _submit(
        self, commit: Commit, by: str | None, seconds: float, found: Found | None = None
    ) -> list[Written]:
        executor = self._executor.within(min(seconds, self._timeout), found)
        return await self._committer.submit(lambda: commit(executor), by, heavy=True)

    async def _search(self, write: BulkWrite) -> Found:
        table = self._executor.table(write.store)
        return await self._readers.in_thread(lambda connection: search(connection, table, write.where, write.limit))


def search(connection: apsw.Connection, table: StoreTable, where: Filter, limit: int) -> Found:
    """Return the matches. Raises TooManyMatches for more than `limit`."""
    with snapshot(connection):
        current_seq(connection)
        sql, values = search_sql(connection, table, "row, id, rev", where, limit + 1)
        rows, states = new_rows(), new_rows()
        for row, id, rev in connection.execute(sql, values):
            rows.append(row)
            states.append(state_of(id, rev))
    if len(rows) > limit:
        raise TooManyMatches(limit)
    return Found(rows, states)
