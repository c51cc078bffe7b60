"""The audit trail: a durable reader of the feed that writes down every change, in one process at a time.

Who holds the lease in `_meta` records; the position up to which is recorded stands beside it. A record's id is its
place in the feed, so that what two processes record twice is there once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time as clock
from contextlib import aclosing
from typing import Final

import bson
import orjson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.write_concern import WriteConcern

from stores.errors import HistoryGone, StoreError
from stores.mongo import position
from stores.mongo.codec import Document, dumps, revision, to_id
from stores.mongo.connection import META, Connection
from stores.mongo.errors import DUPLICATE_KEY, store_errors
from stores.mongo.feed import MongoFeed
from stores.mongo.structure import HISTORY
from stores.records import Change, Entity, HistoryEntry, difference

log = logging.getLogger(__name__)

_LEASE_MS: Final = 6_000
_RENEW_SECONDS: Final = 2.0
_LEASE: Final = {"_id": "history"}
# The server's clock, since those of hubs differ and jump. What lies further ahead than a lease that is made now was
# said by a clock that was wrong.
_NOW: Final = {"$toLong": "$$NOW"}
_RENEWED: Final = {"$add": [_NOW, _LEASE_MS]}
_IS_FREE: Final = {"$or": [{"$lt": ["$until", _NOW]}, {"$gt": ["$until", _RENEWED]}]}
_WAIT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.025
_LARGEST: Final = 16 * 1024 * 1024


class HistoryKeeper:
    """Records changes between `start` and `stop`, and answers what was recorded."""

    def __init__(self, connection: Connection, feed: MongoFeed) -> None:
        self._connection = connection
        self._feed = feed
        self._holder = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """From now on every change is recorded, by this process or another."""
        with store_errors():
            start = {"position": self._plain(await self._feed.position()), "holder": "", "until": 0}
            await self._connection.collection(META).update_one(_LEASE, {"$setOnInsert": start}, upsert=True)
        self._task = asyncio.create_task(self._run(), name="history")

    async def stop(self) -> None:
        """Leave the recording to others at once."""
        if self._task is None:
            return
        task, self._task = self._task, None
        while not task.done():
            task.cancel()  # again: see `stores.mongo.connection.check_cancelled`
            await asyncio.wait([task], timeout=_RENEW_SECONDS / 2)
        try:
            await self._update({"until": 0})
        except PyMongoError:
            pass  # the lease runs out by itself

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                since = await self._take_lease()
                if since is not None:
                    await self._record(since)
                failing = False
            except (PyMongoError, StoreError) as error:
                if not failing:
                    log.warning("history: interrupted: %s", type(error).__name__)
                failing = True
            except Exception:
                log.exception("history: interrupted by a defect")
            await asyncio.sleep(_RENEW_SECONDS / 2)

    async def _take_lease(self) -> str | None:
        """Become the one that records; the position to go on from, None while another process holds the lease."""
        free = {**_LEASE, "$or": [{"holder": self._holder}, {"$expr": _IS_FREE}]}
        taken = [{"$set": {"holder": self._holder, "until": _RENEWED}}]
        lease = await self._connection.collection(META).find_one_and_update(free, taken)
        return None if lease is None else str(lease["position"])

    async def _record(self, since: str) -> None:
        """Write down what the feed brings, for as long as the lease is ours."""
        renewed = clock.monotonic()
        try:
            async with aclosing(self._feed.follow(since)) as batches:
                async for batch in batches:
                    await self._write(batch.changes)
                    if clock.monotonic() - renewed < _RENEW_SECONDS:
                        continue
                    renewed = clock.monotonic()
                    if not await self._update({"until": _RENEWED, "position": self._plain(batch.position)}):
                        return
        except HistoryGone as error:
            log.warning("history: changes were lost before they were recorded: %s", error)
            await self._update({"position": self._plain(await self._feed.position())})

    def _plain(self, text: str) -> str:
        return position.plain(self._connection.epoch, text)

    async def _update(self, values: Document) -> bool:
        ours = {**_LEASE, "holder": self._holder}
        result = await self._connection.collection(META).update_one(ours, [{"$set": values}])
        return result.matched_count == 1

    async def _write(self, changes: list[Change]) -> None:
        if not changes:
            return
        await self._insert([_encoded(_record_of(change, self._connection.epoch)) for change in changes])

    async def _insert(self, records: list[RawBSONDocument]) -> None:
        # Not waited for a majority: the position is, and it comes after them in the same oplog.
        collection = self._connection.collection(HISTORY).with_options(write_concern=WriteConcern(w=1))
        try:
            await collection.insert_many(records, ordered=False)
        except BulkWriteError as error:
            if any(refused["code"] != DUPLICATE_KEY for refused in error.details["writeErrors"]):
                raise

    async def read(self, store: str, id: str) -> tuple[list[HistoryEntry], Entity | None]:
        """The entries of one entity, oldest first, and its last state if it has been deleted.

        What has been committed is waited for until it is recorded, for 5 s at most.
        """
        give_up = clock.monotonic() + _WAIT_SECONDS
        with store_errors():
            while True:
                # In this order: what is recorded later than `since` but before the records are read is among them.
                since = await self._recorded_up_to()
                current = await self._connection.collection(store).find_one({"_id": to_id(id)}, {"_rev": 1})
                records = await self._records(store, id)
                if clock.monotonic() > give_up or await self._is_complete(store, id, since, current, records):
                    break
                await asyncio.sleep(_POLL_SECONDS)
        deleted = bool(records) and records[-1]["op"] == "delete"
        final = orjson.loads(dumps(records[-1]["final"])) if deleted else None
        return [_entry_of(record) for record in records], final

    async def _records(self, store: str, id: str) -> list[Document]:
        found = self._connection.collection(HISTORY).find({"store": store, "entity": id}).sort("_id", 1)
        return await found.to_list()

    async def _recorded_up_to(self) -> str:
        lease = await self._connection.collection(META).find_one(_LEASE)
        return str((lease or {})["position"])

    async def _is_complete(
        self, store: str, id: str, since: str, current: Document | None, records: list[Document]
    ) -> bool:
        if records and current is None and records[-1]["op"] == "delete":
            return True
        if records and current is not None and records[-1]["rev"] == revision(current):
            return True
        return not await self._is_awaited(store, id, since, {record["_id"] for record in records})

    async def _is_awaited(self, store: str, id: str, since: str, recorded: set[str]) -> bool:
        """Whether the feed holds, after `since`, a change of the entity that is still to be recorded."""
        more = True
        while more:
            try:
                batch = await self._feed.read(since)
            except HistoryGone:
                return False
            for change in batch.changes:
                if (change.store, change.id) == (store, id) and _id_of(change, self._connection.epoch) not in recorded:
                    return True
            since, more = batch.position, batch.more
        return False


def _id_of(change: Change, epoch: position.Epoch) -> str:
    """The change's place in the feed as text whose order is the feed's."""
    return str((position.parse(epoch, change.position).token or {})["_data"])


def _record_of(change: Change, epoch: position.Epoch) -> Document:
    deleted = change.op == "delete"
    # Names may hold anything, so they are values here. A deletion's are those of the entity that it keeps whole.
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
        # That it happened counts for more than how.
        log.warning("history: the values of a change of %s/%s are too large", record["store"], record["entity"])
        data = bson.encode({**record, "changed": [], "final": None})
    return RawBSONDocument(data)


def _entry_of(record: Document) -> HistoryEntry:
    values: Document = orjson.loads(dumps({"changed": record["changed"], "final": record["final"]}))
    changed = {item["field"]: (item["old"], item["new"]) for item in values["changed"]}
    if record["op"] == "delete":
        changed = difference(values["final"], None)
    return HistoryEntry(record["time"], record["by"], record["op"], record["rev"], changed)
