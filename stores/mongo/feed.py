"""The change feed: one change stream over the database, read to now (`read`) or for ever (`follow`).

Events carry the document before and after (pre- and post-images), so a change is whole whoever made it. How to tell
the hub's own changes from another program's: they alone raise `_rev`, and name who in `_by`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Final, Self

from bson import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from stores.errors import HistoryGone, Unavailable
from stores.mongo import position
from stores.mongo.codec import BY, DELETER, Document, entity_text, revision
from stores.mongo.connection import Connection, check_cancelled
from stores.mongo.errors import is_passing, store_errors, translate
from stores.mongo.position import Resume, Token, parse_order
from stores.mongo.structure import DROPPED
from stores.protocol import MOST_READ_BYTES, Batch
from stores.records import Change, Operation

log = logging.getLogger(__name__)

_OPERATIONS: Final[dict[str, Operation]] = {
    "insert": "insert",
    "update": "update",
    "replace": "update",
    "delete": "delete",
}
_PIPELINE: Final[list[Document]] = [
    {
        "$match": {
            "ns.coll": {"$not": {"$regex": "^_"}},
            "$or": [
                {"operationType": {"$in": [*_OPERATIONS, "drop"]}},
                {"operationType": "rename", "to.coll": {"$ne": DROPPED}},
            ],
        }
    },
    {"$unset": ["updateDescription", "lsid", "txnNumber"]},
]
_NAMESPACE: Final = "$cmd.aggregate"
_BATCH: Final = 1_000
_FOLLOW_MS: Final = 500
"""What waits for the feed to pass a moment (a change of sight) does so for no longer, though nothing may happen."""
_READ_MS: Final = 2
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class MongoFeed:
    """`stores.protocol.Feed` of one database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def position(self) -> str:
        with store_errors():
            return position.at_time(self._connection.epoch, await self._connection.now())

    def order(self, position: str) -> bytes:
        return parse_order(self._connection.epoch, position)

    async def read(self, since: str, limit: int = 1_000) -> Batch:
        with store_errors():
            now = await self._connection.now()
            resume = position.parse(self._connection.epoch, since)
            _check_past(resume, now)
            if resume.token is None and resume.time == now:
                return Batch([], since, False)
            async with _Stream(self._connection, resume, limit) as stream:
                return await self._read_until(stream, now, limit)

    async def _read_until(self, stream: _Stream, now: Timestamp, limit: int) -> Batch:
        changes: list[Change] = []
        size = 0
        while True:
            events, token = await stream.next(_READ_MS)
            for event in events:
                change = self._change(event)
                if change is not None:
                    changes.append(change)
                    size += change.size
                if len(changes) == limit or (changes and size >= MOST_READ_BYTES):
                    return Batch(changes, changes[-1].position, True)
            # Events of one transaction share a time, so one that is reached is not left before an exchange is empty.
            reached = position.after_token(token).time
            if reached > now or (reached == now and not events):
                return Batch(changes, position.at_token(self._connection.epoch, token), False)

    async def follow(self, since: str) -> AsyncGenerator[Batch]:
        """A batch for each exchange with the server, also when it brought no change: two a second. A lost connection
        is taken up again where it broke off."""
        resume = position.parse(self._connection.epoch, since)
        outage = _Outage()
        checked = False
        while True:
            try:
                if not checked:
                    _check_past(resume, await self._connection.now())
                    checked = True
                async with _Stream(self._connection, resume, _BATCH) as stream:
                    while True:
                        events, token = await stream.next(_FOLLOW_MS)
                        outage.over()
                        changes = [change for change in map(self._change, events) if change is not None]
                        yield Batch(changes, position.at_token(self._connection.epoch, token), len(events) == _BATCH)
                        resume = position.after_token(token)
            except PyMongoError as error:
                if translate(error) is None:
                    raise
                await outage.pause(error)

    def _change(self, event: Document) -> Change | None:
        """The change that an event stands for, None when it is none of an entity's."""
        kind = event["operationType"]
        store = event["ns"]["coll"]
        if kind not in _OPERATIONS:
            raise HistoryGone(f"another program has removed or renamed the collection {store}")
        op = _OPERATIONS[kind]
        before = event.get("fullDocumentBeforeChange")
        after = event.get("fullDocument")
        if (before is None and op != "insert") or (after is None and op != "delete"):
            self._check_foreign(store)
            return None
        if op == "update" and _is_deletion_mark(after):
            return None
        by, time = _origin(op, before, after, event)
        return Change(
            position.at_token(self._connection.epoch, event["_id"]),
            op,
            store,
            str(event["documentKey"]["_id"]),
            _text(before),
            _text(after),
            by,
            time,
        )

    def _check_foreign(self, store: str) -> None:
        """Pass over a change without images in a collection that is no store, and so has no subscriber."""
        if store in self._connection.stores:
            raise HistoryGone(f"a change of {store} is no longer known in full")


class _Stream:
    """One open change stream. It raises HistoryGone when the server cannot serve it from where it should start."""

    def __init__(self, connection: Connection, resume: Resume, batch: int) -> None:
        self._connection = connection
        self._resume = resume
        self._batch = batch
        self._cursor: int | None = None

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
            pass  # the server forgets an idle cursor by itself
        finally:
            await self._session.end_session()

    async def next(self, wait_ms: int) -> tuple[list[Document], Token]:
        """What the next exchange with the server brings, after at most `wait_ms`, and the token that resumes after.

        An event whose images are too large for one document comes in fragments, which are put together again.
        """
        events: list[Document] = []
        whole: Document = {}
        while True:
            fragments, token = await self._exchange(wait_ms)
            for fragment in fragments:
                whole.update(fragment)
                part = whole.pop("splitEvent", None)
                if part is None or part["fragment"] == part["of"]:
                    events.append(whole)
                    whole = {}
            if not whole:
                return events, token

    async def _exchange(self, wait_ms: int) -> tuple[list[Document], Token]:
        if self._cursor is None:
            cursor = await self._run(self._opening())
        else:
            more = {"getMore": self._cursor, "collection": _NAMESPACE, "batchSize": self._batch, "maxTimeMS": wait_ms}
            cursor = await self._run(more)
        self._cursor = cursor["id"]
        if not self._cursor:
            raise HistoryGone("the database has been dropped")
        return cursor.get("nextBatch") or cursor.get("firstBatch") or [], cursor["postBatchResumeToken"]

    def _opening(self) -> Document:
        images = {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"}
        splitting: list[Document] = [{"$changeStreamSplitLargeEvent": {}}] if self._connection.splits_events else []
        return {
            "aggregate": 1,
            "pipeline": [{"$changeStream": {**images, **self._resume.options()}}, *_PIPELINE, *splitting],
            "cursor": {"batchSize": self._batch},
            "readConcern": {"level": "majority"},
        }

    async def _run(self, command: Document) -> Document:
        try:
            cursor: Document = (await self._connection.command(command, self._session))["cursor"]
        except OperationFailure as error:
            if is_passing(error):
                raise
            raise HistoryGone("the change stream cannot be resumed from this position") from error
        check_cancelled()
        return cursor


class _Outage:
    """Paces the attempts to reconnect, and says once that they began and once that they are over."""

    def __init__(self) -> None:
        self._wait = 0.0

    def over(self) -> None:
        if self._wait:
            log.info("change feed: connected again")
            self._wait = 0.0

    async def pause(self, error: PyMongoError) -> None:
        if not self._wait:
            log.warning("change feed: lost the database, reconnecting: %s", type(error).__name__)
        self._wait = min(max(2 * self._wait, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        await asyncio.sleep(self._wait)


def _check_past(resume: Resume, now: Timestamp) -> None:
    if resume.time > now:
        raise HistoryGone("this position has not been reached")


def _is_deletion_mark(after: Document | None) -> bool:
    """Whether the update only says who is about to delete the document, in the same transaction."""
    return isinstance((after or {}).get(BY), dict)


def _origin(op: Operation, before: Document | None, after: Document | None, event: Document) -> tuple[str | None, int]:
    """Who made a change, and when (Unix ms)."""
    happened = event.get("wallTime") or event["clusterTime"].as_datetime()
    time = int(happened.timestamp() * 1000)
    if op == "delete":
        mark = (before or {}).get(BY)
        return (mark.get(DELETER) if isinstance(mark, dict) else None), time
    document = after or {}
    ours = op == "insert" or revision(before) != revision(after)
    return (document.get(BY) if ours else None), time


def _text(document: Document | None) -> str | None:
    return None if document is None else entity_text(document).decode()
