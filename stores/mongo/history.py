"""The audit trail: a consumer of the feed that records every change.

The id of a record is its place in the feed, so a change that two processes record has one record.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time as clock
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final, NoReturn

import bson
import orjson
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from stores.consumer import LeasedConsumer, end_task
from stores.errors import ConsumerBehind, HistoryGone, InvalidQuery, ReadTimeout, StoreError, Unavailable
from stores.history import Page
from stores.mongo import position
from stores.mongo.codec import Document, dumps, revision
from stores.mongo.connection import META, Connection
from stores.mongo.consumer import MongoConsumerState
from stores.mongo.errors import DUPLICATE_KEY, store_errors
from stores.mongo.feed import MongoFeed
from stores.mongo.sizes import BATCH_BYTES, LARGE_DOCUMENT, RAW, decoded
from stores.mongo.structure import HISTORY
from stores.options import ConsumerOptions
from stores.records import Change, Entity, History, HistoryEntry, difference
from stores.threads import in_thread
from stores.turns import Turn

log = logging.getLogger(__name__)

ID: Final = "history"
"""The id of the document of `_meta` with the position up to which changes are recorded."""

# The consumer never stops.
_OPTIONS: Final = ConsumerOptions(most_attempts=None, first_pause=1, longest_pause=2)
_READ_SECONDS: Final = 5.0
"""Seconds that the feed may be searched for changes without a record."""
_PAGE_BATCH: Final = 10
"""Records in one reply of the server: each may be 16 MB."""
_PLACE: Final = re.compile(r"[0-9A-F]{1,4096}\Z")
_LARGEST: Final = 16 * 1024 * 1024
_TAIL_BYTES: Final = 33_554_432
"""Bytes of values in changes without a record that are read for one answer."""

Row = Document | RawBSONDocument
"""A record, decoded or as MongoDB returned it."""


class HistoryKeeper:
    """The recorder of changes, from `start` to `stop`, and the reader of the trail. `state` is that of the document
    `ID`."""

    def __init__(self, connection: Connection, feed: MongoFeed, state: MongoConsumerState) -> None:
        self._connection = connection
        self._feed = feed
        self._state = state
        self.consumer = LeasedConsumer("history", self._write, _OPTIONS, state)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to record. From now on every change is recorded, by this process or another."""
        with store_errors():
            await self._state.make(None)
        self._task = asyncio.create_task(self._run(), name="history")

    async def stop(self) -> None:
        """Stop recording, so that another process can take over at once."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None

    async def _run(self) -> NoReturn:
        while True:
            with suppress(ConsumerBehind):
                await self.consumer.run()
            try:
                await self.consumer.restart_at()
                log.warning("history: changes were lost before they were recorded")
            except StoreError as error:
                log.warning("history: interrupted: %s", error)
            await asyncio.sleep(_OPTIONS.first_pause)

    async def _write(self, changes: Sequence[Change]) -> None:
        records: list[RawBSONDocument] = []
        size = 0
        turn = Turn()
        for change in changes:
            if change.op != "lost":
                records.append(await self._encoded(change))
                size += len(records[-1].raw)
            if size > BATCH_BYTES:
                await self._insert(records)
                records, size = [], 0
            if turn.is_over:
                await turn.pass_on()
        if records:
            await self._insert(records)

    async def _encoded(self, change: Change) -> RawBSONDocument:
        if change.size > LARGE_DOCUMENT:
            return await in_thread(lambda: _encoded(_record_of(change, self._connection.epoch)))
        return _encoded(_record_of(change, self._connection.epoch))

    async def _insert(self, records: list[RawBSONDocument]) -> None:
        # With majority write concern, before the position moves: otherwise a primary could fail with records that no
        # other member has, and the next primary could have a position after them.
        collection = self._connection.collection(HISTORY)
        with store_errors():
            try:
                await collection.insert_many(records, ordered=False)
            except BulkWriteError as error:
                unsure = error.details.get("writeConcernErrors")  # there may be no write error then
                if unsure or any(refused["code"] != DUPLICATE_KEY for refused in error.details["writeErrors"]):
                    raise

    async def read(self, store: str, id: str, after: str | None, limit: int, fields: frozenset[str]) -> History:
        """Return a page of the entries of one entity, and its last state if it has been deleted.

        Changes without a record are read from the feed. Raises Unavailable when that takes longer than 5 s or
        more than `_TAIL_BYTES`.
        """
        if after is not None and not _PLACE.match(after):
            raise InvalidQuery("after", "this cursor does not belong to this history")
        give_up = clock.monotonic() + _READ_SECONDS
        with store_errors():
            # In this order: all changes up to `since` have records when the records are read.
            since = await self._recorded_up_to()
            try:
                tail = await self._unrecorded(store, id, since, give_up)
            except ReadTimeout as error:
                raise Unavailable("the history of the latest changes is still being written: ask again") from error
            except HistoryGone as error:
                raise Unavailable("the record of the latest changes is being put right: ask again") from error
            page = await self._page(store, id, after or "", limit, tail)
            final = await self._final(store, id, tail)
            later = {} if page.next is None else await self._later(store, id, page.next, fields, tail)
        return replace(page, final=final, later=later)

    async def _unrecorded(self, store: str, id: str, since: str, give_up: float) -> dict[str, Document]:
        """Return records of the changes of one entity after `since`, by their ids. Raises HistoryGone, and ReadTimeout
        also when they are too large together."""
        tail: dict[str, Document] = {}
        size = 0

        def note(changes: list[Change]) -> int:
            records = [_record_of(change, self._connection.epoch) for change in changes]
            tail.update((record["_id"], record) for record in records)
            return sum(len(_values(record)) for record in records)

        async with aclosing(self._feed.read_entity(store, id, since, give_up)) as read:
            async for changes in read:
                size += await in_thread(note, changes) if changes else 0
                if size > _TAIL_BYTES:
                    raise ReadTimeout
        return tail

    async def _page(self, store: str, id: str, after: str, limit: int, tail: dict[str, Document]) -> History:
        page = Page(limit)
        beyond = {"store": store, "entity": id, "_id": {"$gt": after}}
        cursor = self._raw.find(beyond, batch_size=_PAGE_BATCH).sort("_id", 1)
        turn = Turn()
        async with cursor:
            async for place, row in _merged(cursor, [(place, tail[place]) for place in sorted(tail) if place > after]):
                if page.is_full:
                    return History(page.entries, page.place, None, place=page.place)
                is_large = not isinstance(row, RawBSONDocument) or len(row.raw) > LARGE_DOCUMENT
                entry, size = await in_thread(_entry_of, row) if is_large else _entry_of(row)
                page.add(place, entry, size, size)
                if turn.is_over:
                    await turn.pass_on()
        return History(page.entries, None, None, place=page.place)

    async def _final(self, store: str, id: str, tail: dict[str, Document]) -> Entity | None:
        """Return the last state of an entity that has been deleted; None if its newest change is another one."""
        shown = {"op": 1, "final": 1}
        newest = await self._raw.find_one({"store": store, "entity": id}, shown, sort=[("_id", -1)])
        last: Row | None = newest
        if tail and (newest is None or max(tail) > newest["_id"]):
            last = tail[max(tail)]
        return None if last is None or last["op"] != "delete" else await in_thread(_final_of, last)

    @property
    def _raw(self) -> AsyncCollection[RawBSONDocument]:
        return self._connection.collection(HISTORY).with_options(RAW)

    async def _later(
        self, store: str, id: str, place: str, fields: frozenset[str], tail: dict[str, Document]
    ) -> Entity:
        """Return those of `fields` that records after `place` change, with their values at `place`."""
        later: Entity = {}
        beyond = {"store": store, "entity": id, "_id": {"$gt": place}}
        for name in fields:
            changing = {"$or": [{"op": "delete"}, {"changed.field": name}]}
            shown = {"op": 1, "changed": {"$elemMatch": {"field": name}}, f"final.{name}": 1}
            found = await self._connection.collection(HISTORY).find_one(
                {**beyond, **changing}, shown, sort=[("_id", 1)]
            )
            waiting = (tail[key] for key in sorted(tail) if key > place)
            records = [record for record in waiting if _changes_field(record, name)][:1]
            records += [found] if found is not None else []
            if records:
                first = min(records, key=lambda record: str(record["_id"]))
                later[name] = orjson.loads(dumps(_old_value(first, name)))
        return later

    async def _recorded_up_to(self) -> str:
        lease = await self._connection.collection(META).find_one({"_id": ID})
        return str((lease or {})["position"])


async def _merged(
    recorded: AsyncIterable[RawBSONDocument], waiting: list[tuple[str, Document]]
) -> AsyncIterator[tuple[str, Row]]:
    """Yield the records of both and their ids in the order of the feed, each once."""
    index = 0
    async for record in recorded:
        id: str = record["_id"]
        while index < len(waiting) and waiting[index][0] <= id:
            if waiting[index][0] < id:
                yield waiting[index]
            index += 1
        yield id, record
    for rest in waiting[index:]:
        yield rest


def _changes_field(record: Document, name: str) -> bool:
    return record["op"] == "delete" or any(item["field"] == name for item in record["changed"])


def _old_value(record: Document, name: str) -> Any:
    """Return the value of a field before the change in a record."""
    if record["op"] == "delete":
        return (record.get("final") or {}).get(name)
    return next(item["old"] for item in record["changed"] if item["field"] == name)


def _id_of(change: Change, epoch: position.Epoch) -> str:
    """Return the change's place in the feed as text that sorts in the order of the feed."""
    return position.token_text(epoch, change.position)


def _record_of(change: Change, epoch: position.Epoch) -> Document:
    deleted = change.op == "delete"
    # Names of fields may contain any character, so they are stored as values. For a deletion the whole entity is kept
    # instead.
    changed = {} if deleted else difference(change.before, change.after)
    return {
        "_id": _id_of(change, epoch),
        "store": change.store,
        "entity": change.id,
        "op": change.op,
        "rev": revision(change.after or change.before),
        "time": change.time,
        "by": change.by,
        "changed": [{"field": name, "old": old, "new": new} for name, (old, new) in changed.items()],
        "final": change.before if deleted else None,
    }


def _encoded(record: Document) -> RawBSONDocument:
    data = bson.encode(record)
    if len(data) > _LARGEST:
        # Without the values: the fact of the change is more important.
        log.warning("history: the values of a change of %s/%s are too large", record["store"], record["entity"])
        data = bson.encode({**record, "changed": [], "final": None})
    return RawBSONDocument(data)


def _values(record: Document) -> bytes:
    """Return the values in a record as JSON text."""
    return dumps({"changed": record["changed"], "final": record["final"]})


def _entry_of(row: Row) -> tuple[HistoryEntry, int]:
    """Return the entry in a record, and the bytes of its values."""
    record = decoded(row)
    text = _values(record)
    values: Document = orjson.loads(text)
    changed = {item["field"]: (item["old"], item["new"]) for item in values["changed"]}
    if record["op"] == "delete":
        changed = difference(values["final"], None)
    return HistoryEntry(record["time"], record["by"], record["op"], record["rev"], changed), len(text)


def _final_of(row: Row) -> Entity | None:
    final: Entity | None = orjson.loads(dumps(decoded(row)["final"]))
    return final
