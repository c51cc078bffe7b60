"""A change stream over the database, and the pauses between attempts to reopen it."""

from __future__ import annotations

import asyncio
import logging
import time as clock
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import pymongo
from pymongo.errors import ExecutionTimeout, NetworkTimeout, OperationFailure, PyMongoError

from stores.errors import HistoryGone, Unavailable
from stores.mongo.codec import Document
from stores.mongo.connection import Connection, check_cancelled
from stores.mongo.errors import is_passing
from stores.mongo.position import Resume, Token
from stores.mongo.sizes import LARGE, decoded, raw_bytes
from stores.mongo.structure import DROPPED, STORES
from stores.records import Operation
from stores.turns import Turn

log = logging.getLogger(__name__)

OPERATIONS: Final[dict[str, Operation]] = {
    "insert": "insert",
    "update": "update",
    "replace": "update",
    "delete": "delete",
}
_OF_HUB: Final = {"$regex": "^_"}
_PIPELINE: Final[list[Document]] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": {"$not": _OF_HUB}, "operationType": {"$in": [*OPERATIONS, "drop"]}},
                {"ns.coll": STORES, "operationType": {"$in": ["insert", "delete"]}},
                {"ns.coll": {"$not": _OF_HUB}, "operationType": "rename", "to.coll": {"$ne": DROPPED}},
                {"operationType": "rename", "to.coll": {"$not": _OF_HUB}},
            ],
        }
    },
    {"$unset": ["updateDescription", "lsid"]},
]
_NAMESPACE: Final = "$cmd.aggregate"
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LONGEST_SEARCH: Final = 600.0


class ChangeStream:
    """One open change stream, of all stores or of the events that `only` matches. Raises HistoryGone when the server
    cannot start it at `resume`. `give_up`: monotonic time at which the server stops searching for a first event.
    `patience`: seconds for that search, if not those of other requests."""

    def __init__(
        self,
        connection: Connection,
        resume: Resume,
        batch: int,
        only: Document | None = None,
        give_up: float = 0.0,
        patience: float | None = None,
    ) -> None:
        self._connection = connection
        self._resume = resume
        self.batch = batch
        self._only = [only] if only else []
        self._give_up = give_up
        self._patience = patience
        self._cursor: int | None = None
        self.is_full = False
        """Whether the last reply had as many events as were asked for: more may wait."""

    @property
    def is_of_router(self) -> bool:
        """Whether a reply may end anywhere."""
        return self._connection.is_router

    async def __aenter__(self) -> Self:
        self._session = self._connection.client.start_session(causal_consistency=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._cursor:
                await self._connection.command(
                    {"killCursors": _NAMESPACE, "cursors": [self._cursor]}, session=self._session
                )
        except (PyMongoError, Unavailable):
            pass  # the server closes idle cursors itself
        finally:
            await self._session.end_session()

    async def next(self, wait_ms: int) -> tuple[list[Document], Token]:
        """Return the events of the server's next reply, which arrives after at most `wait_ms`, and the token that
        resumes after them.

        An event whose images are too large for one document arrives in fragments, which are joined here.
        """
        events: list[Document] = []
        whole: Document = {}
        while True:
            fragments, token = await self._exchange(wait_ms)
            turn = Turn()
            for fragment in fragments:
                whole.update(decoded(fragment))
                part = whole.pop("splitEvent", None)
                if part is None or part["fragment"] == part["of"]:
                    events.append(whole)
                    whole = {}
                if turn.is_over:
                    await turn.pass_on()
            if not whole:
                return events, token

    async def _exchange(self, wait_ms: int) -> tuple[list[Mapping[str, Any]], Token]:
        """Return the documents of the server's next reply, decoded or raw, and its token."""
        if self._cursor is None:
            with pymongo.timeout(self._patience):
                cursor = await self._run(self._opening())
        elif not self._cursor:
            raise HistoryGone("the database has been dropped")
        else:
            more = {"getMore": self._cursor, "collection": _NAMESPACE, "batchSize": self.batch, "maxTimeMS": wait_ms}
            cursor = await self._run(more)
        self._cursor = cursor["id"]
        events: list[Mapping[str, Any]] = cursor.get("nextBatch") or cursor.get("firstBatch") or []
        if not self._cursor and not events:
            raise HistoryGone("the database has been dropped")
        self.is_full = len(events) >= self.batch
        return events, decoded(cursor["postBatchResumeToken"])

    def _opening(self) -> Document:
        images = {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"}
        splitting: list[Document] = [{"$changeStreamSplitLargeEvent": {}}] if self._connection.splits_events else []
        return {
            "aggregate": 1,
            "pipeline": [
                {"$changeStream": {**images, **self._resume.options()}},
                *self._only,
                *_PIPELINE,
                *splitting,
            ],
            "cursor": {"batchSize": self.batch},
            "readConcern": {"level": "majority"},
            **({"maxTimeMS": max(1, round(1_000 * (self._give_up - clock.monotonic())))} if self._give_up else {}),
        }

    async def _run(self, command: Document) -> Mapping[str, Any]:
        """Return the cursor in the reply. Its events are raw if decoding them in one call would hold the loop."""
        try:
            reply = await self._connection.command(command, self._session, raw=True)
        except OperationFailure as error:
            if is_passing(error):
                raise
            raise HistoryGone("the change stream cannot be resumed from this position") from error
        check_cancelled()
        cursor: Mapping[str, Any] = (reply if raw_bytes([reply]) > LARGE else decoded(reply))["cursor"]
        return cursor


class Outage:
    """The pauses between attempts to reconnect, and the time that each has. Logs the first attempt and the end of the
    outage. `usual`: seconds after which a request counts as unanswered."""

    def __init__(self, usual: float) -> None:
        self._wait = 0.0
        self._usual = usual
        self.patience: float | None = None
        """Seconds for the next attempt; None for the usual ones. They double while the server does not answer in time:
        it may have to search an oplog in which other databases have written much."""

    def over(self) -> None:
        if self._wait:
            log.info("change feed: connected again")
            self._wait, self.patience = 0.0, None

    async def pause(self, error: PyMongoError) -> None:
        if not self._wait:
            log.warning("change feed: lost the database, reconnecting: %s", type(error).__name__)
        if isinstance(error, NetworkTimeout | ExecutionTimeout):
            self.patience = min(2 * (self.patience or self._usual), _LONGEST_SEARCH)
        self._wait = min(max(2 * self._wait, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        await asyncio.sleep(self._wait)
