"""The change feed: a change stream over the database, read up to now (`read`) or without end (`follow`).

Events carry the document before and after (pre- and post-images), so a change is complete even if another program made
it. The hub's own changes differ from those of other programs: only they raise `_rev`, and they name the user in `_by`.

Only collections of stores are in the feed. The stream itself tells which they are: a store is added to `_stores` before
its first change.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from bson import Timestamp
from pymongo.errors import PyMongoError

from stores.commits import MOST_COMMIT_CHANGES, CommitSize, LargeCommits, mark_commits
from stores.errors import HistoryGone, ReadTimeout
from stores.mongo import position
from stores.mongo.codec import BY, DELETER, Document, entity_text, revision, to_id
from stores.mongo.connection import Connection
from stores.mongo.errors import store_errors, translate
from stores.mongo.position import Resume, parse_order
from stores.mongo.sizes import BATCH_BYTES
from stores.mongo.stream import OPERATIONS, ChangeStream, Outage
from stores.mongo.structure import STORES
from stores.mongo.tail import Tail
from stores.mongo.transactions import OpenTransaction, commit_before, commit_going_on, commit_of
from stores.protocol import MOST_READ_BYTES, Batch
from stores.records import Change, Operation
from stores.turns import Turn

log = logging.getLogger(__name__)

_BATCH: Final = 1_000
_FOLLOW_MS: Final = 500
"""The longest time that the feed needs to pass a moment (a change of visibility) when there are no changes."""
_PATIENCE: Final = 2 * _FOLLOW_MS / 1_000
_READ_MS: Final = 2


class MongoFeed:
    """`stores.protocol.Feed` of one database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known = _Known(Timestamp(0, 0), frozenset())
        self._large = LargeCommits()
        self._tail: Tail | None = None

    async def position(self) -> str:
        with store_errors():
            return position.at_time(self._connection.epoch, await self._connection.now())

    def order(self, position: str) -> bytes:
        return parse_order(self._connection.epoch, position)

    def place(self, position: str) -> str:
        return self.order(position).hex().upper()  # the place of a record is the text of its resume token

    async def read(self, since: str, limit: int = 1_000, *, whole: bool = False) -> Batch:
        with store_errors():
            resume = position.parse(self._connection.epoch, since)
            if self._known.time < resume.time:
                self._learn(*await self._connection.now_and_ids(STORES))
                now = self._known.time
            else:
                now = await self._connection.now()
            _check_past(resume, now)
            if resume.token is None and resume.time == now:
                return Batch([], since, False)
            first = self._connection.sizes.fitting_past_events(limit)
            async with ChangeStream(self._connection, resume, first) as stream:
                part = _Part(limit, whole, commit_before(resume), self._large)
                return await self._read_until(stream, now, part, _Stores(self._known.stores))

    def _learn(self, time: Timestamp, stores: frozenset[str]) -> None:
        if time > self._known.time:
            self._known = _Known(time, stores)

    async def read_entity(self, store: str, id: str, since: str, give_up: float) -> AsyncGenerator[list[Change]]:
        """Yield every change of one entity after `since` that has been committed by now, and possibly earlier ones, a
        few megabytes at a time. Raises HistoryGone like `read`, and ReadTimeout when the search has not ended at
        `give_up` (monotonic time)."""
        now = await self._connection.now()
        start = position.parse(self._connection.epoch, since).time
        # Start at that time, inclusive: the server cannot resume after an event that `only` filters out.
        resume = Resume(Timestamp(start.time, max(0, start.inc - 1)))
        _check_past(resume, now)
        only: Document = {"$match": {"ns.coll": store, "documentKey._id": to_id(id)}}
        first = self._connection.sizes.fitting_past_events(_BATCH)
        async with ChangeStream(self._connection, resume, first, only, give_up) as stream:
            while True:
                turn = Turn()
                events, token = await stream.next(_READ_MS)
                changes = await self._changes_in_turns(events, _Stores(frozenset({store})), turn)
                yield [change for change in changes if change.op != "lost"]
                if changes:
                    stream.batch = min(_fitting(changes), 2 * stream.batch)
                reached = position.after_token(token).time
                if reached > now or (reached == now and not events):
                    return
                if clock.monotonic() > give_up:
                    raise ReadTimeout

    async def _read_until(self, stream: ChangeStream, now: Timestamp, part: _Part, stores: _Stores) -> Batch:
        while True:
            turn = Turn()  # started here, because decoding the reply takes long, too
            events, token = await stream.next(_READ_MS)
            before = len(part.changes)
            for event in events:
                if turn.is_over:
                    await turn.pass_on()
                change = self._change(event, stores)
                if change is not None and not part.add(change):
                    return part.batch(cut=part.commit.goes_on_with(change))
                if part.is_full:
                    return part.batch(cut=True)
            new = part.changes[before:]
            if new:
                stream.batch = min(part.most, _fitting(new), 2 * stream.batch)
            # Events of one transaction share a time, so at `now` reading ends only after a reply without events.
            reached = position.after_token(token).time
            is_over = reached > now or (reached == now and not events)
            if is_over and commit_going_on(stream, events, new) is None:
                return part.batch(position.at_token(self._connection.epoch, token))

    async def follow(self, since: str) -> AsyncGenerator[Batch]:
        """Yield a batch for each reply of the server. There are about two per second without changes. After a lost
        connection it continues at the same place."""
        tail = self._tail = Tail(self.order, since)
        async with aclosing(self._stream(since)) as batches:
            async for batch in batches:
                tail.add(batch)
                yield batch

    async def follow_along(self, since: str) -> AsyncGenerator[Batch]:
        """Yield like `follow`, for a reader that may be late. Uses the stream of the last caller of `follow` where that
        has the changes, otherwise a stream of its own."""
        while True:
            while self._tail is not None and (batch := await self._tail.read(since, _PATIENCE)) is not None:
                since = batch.position
                yield batch
            async with aclosing(self._stream(since)) as batches:
                async for batch in batches:
                    since = batch.position
                    yield batch
                    if self._tail is not None and self._tail.reaches(since):
                        break

    async def _stream(self, since: str) -> AsyncGenerator[Batch]:
        resume = position.parse(self._connection.epoch, since)
        outage = Outage(self._connection.socket_timeout)
        stores: _Stores | None = None
        while True:
            transaction = OpenTransaction(resume, self._large)
            try:
                if stores is None:
                    now, names = await self._connection.now_and_ids(STORES)
                    _check_past(resume, now)
                    stores = _Stores(names)
                async with ChangeStream(self._connection, resume, _BATCH, patience=outage.patience) as stream:
                    while True:
                        turn = Turn()
                        events, token = await stream.next(_READ_MS if transaction.is_waiting else _FOLLOW_MS)
                        outage.over()
                        changes = await self._changes_in_turns(events, stores, turn)
                        more = len(events) == stream.batch
                        going_on = commit_going_on(stream, events, changes)
                        stream.batch = min(_fitting(changes), self._connection.sizes.fitting_events(_BATCH))
                        ready = transaction.add(changes, going_on)
                        reached = position.after_token(token)
                        self._learn(_seen_whole(reached.time, events), stores.names)
                        if not transaction.is_waiting:
                            yield Batch(ready, position.at_token(self._connection.epoch, token), more)
                            resume = reached
                        elif ready:
                            yield Batch(ready, ready[-1].position, True)
                            resume = position.parse(self._connection.epoch, ready[-1].position)
            except PyMongoError as error:
                if translate(error) is None:
                    raise
                await outage.pause(error)

    async def _changes_in_turns(self, events: list[Document], stores: _Stores, turn: Turn) -> list[Change]:
        """Return the changes in events, and let other tasks run in between."""
        changes: list[Change] = []
        if events and turn.is_over:
            await turn.pass_on()
        for change in self._changes(events, stores):
            changes.append(change)
            if turn.is_over:
                await turn.pass_on()
        return changes

    def _changes(self, events: Iterable[Document], stores: _Stores) -> Iterator[Change]:
        """Yield the changes in events. Of several successive ``lost`` changes of a store, only the first."""
        lost = ""
        for event in events:
            change = self._change(event, stores)
            if change is not None and not (change.op == "lost" and change.store == lost):
                lost = change.store if change.op == "lost" else ""
                yield change

    def _change(self, event: Document, stores: _Stores) -> Change | None:
        """Return the change in an event, or None when it is not a change of an entity. Updates `stores`."""
        kind = event["operationType"]
        store = event["ns"]["coll"]
        if store == STORES:
            name = str(event["documentKey"]["_id"])
            stores.names = stores.names | {name} if kind == "insert" else stores.names - {name}
            return None
        if kind not in OPERATIONS:
            return self._broken(event, {store, event.get("to", {}).get("coll")} & stores.names)
        if store not in stores.names:
            return None
        op = OPERATIONS[kind]
        # Taken out, so that large images are freed event by event and not all at the end of a reply.
        before = event.pop("fullDocumentBeforeChange", None)
        after = event.pop("fullDocument", None)
        if (before is None and op != "insert") or (after is None and op != "delete"):
            return self._broken(event, {store})
        if op == "update" and _is_deletion_mark(after):
            return None
        by, time = _origin(op, before, after, event)
        before, after = _text(before), _text(after)
        self._connection.sizes.note(store, len(after or before or ""))
        place = position.at_token(self._connection.epoch, event["_id"])
        commit = commit_of(event)
        return Change(place, op, store, str(event["documentKey"]["_id"]), before, after, by, time, commit)

    def _broken(self, event: Document, stores: set[str]) -> Change | None:
        """Return a ``lost`` change for a store whose changes are not known in full: another program dropped, renamed or
        replaced its collection, or an event lacks its images."""
        if not stores:
            return None
        if len(stores) > 1:
            raise HistoryGone("another program has renamed the collection of one store to that of another")
        [store] = stores
        log.warning("changes of %s are not known in full: another program did %s", store, event["operationType"])
        place = position.at_token(self._connection.epoch, event["_id"])
        return Change(place, "lost", store, "", None, None, None, _time_of(event))


@dataclass(slots=True)
class _Part:
    """A part of the feed while it is read. `before` is the commit that it may continue. With `whole` it ends with the
    end of a commit."""

    limit: int
    whole: bool
    before: str | None
    large: LargeCommits
    changes: list[Change] = field(default_factory=list)
    size: int = 0
    commit: CommitSize = field(default_factory=CommitSize)

    @property
    def most(self) -> int:
        """Changes of which it may consist, as far as is known."""
        return max(self.limit, MOST_COMMIT_CHANGES) if self.whole and self._has_enough else self.limit

    @property
    def _has_enough(self) -> bool:
        return len(self.changes) >= self.limit or (bool(self.changes) and self.size >= MOST_READ_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether the part ends here, whatever follows."""
        return self._has_enough and (not self.whole or self.changes[-1].commit is None)

    def add(self, change: Change) -> bool:
        """Add the next change. Return false if it belongs to the next part."""
        if self._has_enough and (not self.commit.goes_on_with(change) or self.commit.is_too_large):
            return False
        self.changes.append(change)
        self.size += change.size
        self.commit.add(change)
        return True

    def batch(self, end: str | None = None, *, cut: bool = False) -> Batch:
        """Return the part. `end`: the position that was reached; None if more follows its last change."""
        mark_commits(self.changes, self.before, cut=cut, too_large=self.large.too_large)
        return Batch(self.changes, end or self.changes[-1].position, end is None)


@dataclass(slots=True)
class _Stores:
    """The stores that exist at an event of a stream. Each reader of a stream has an object of its own."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Known:
    """The stores that existed at a time. A stream reports later stores itself, so this is valid for any stream that
    begins at this time or earlier."""

    time: Timestamp
    stores: frozenset[str]


def _seen_whole(time: Timestamp, events: list[Document]) -> Timestamp:
    """Return the time up to which all events have been read, after a reply with `events` that reached `time`. Events of
    a transaction share a time, so more of `time` may follow."""
    return Timestamp(time.time, max(0, time.inc - 1)) if events else time


def _fitting(changes: list[Change]) -> int:
    """Return how many events the next reply should contain, if they are like these."""
    size = sum(change.size for change in changes)
    return min(_BATCH, max(1, BATCH_BYTES * len(changes) // size)) if changes else _BATCH


def _check_past(resume: Resume, now: Timestamp) -> None:
    if resume.time > now:
        raise HistoryGone("this position has not been reached")


def _is_deletion_mark(after: Document | None) -> bool:
    """Return whether the update only sets the user who deletes the document in the same transaction."""
    return isinstance((after or {}).get(BY), dict)


def _origin(op: Operation, before: Document | None, after: Document | None, event: Document) -> tuple[str | None, int]:
    """Return the id of the user who made a change (None if unknown), and its time (Unix ms)."""
    time = _time_of(event)
    if op == "delete":
        mark = (before or {}).get(BY)
        return (mark.get(DELETER) if isinstance(mark, dict) else None), time
    document = after or {}
    ours = op == "insert" or revision(before) != revision(after)
    return (document.get(BY) if ours else None), time


def _time_of(event: Document) -> int:
    happened = event.get("wallTime") or event["clusterTime"].as_datetime()
    return int(happened.timestamp() * 1000)


def _text(document: Document | None) -> str | None:
    return None if document is None else entity_text(document).decode()
