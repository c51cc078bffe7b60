"""Computed changes: read the entity, compute, and write at the revision that was read.

The server's own operators cannot do it: a result has to be checked against the definition before it is written, and
Numeric fields add as decimals, though they are stored as doubles.
"""

from __future__ import annotations

import asyncio
import random
import time as clock
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from stores import records
from stores.bounds import Limit
from stores.computing import effective
from stores.errors import ComputedTooLong, StaleRevision, TooManyMatches, Unavailable
from stores.mongo.altering import at_revisions
from stores.mongo.bounding import SIZE, check_size
from stores.mongo.codec import BY, Document, entity_text, revision
from stores.mongo.compile import Match, compile_filter, conjunction
from stores.mongo.connection import Session
from stores.mongo.sizes import LARGE_DOCUMENT, RAW, decoded
from stores.mongo.slow_reads import milliseconds
from stores.mongo.stamps import NextStamps, StampSource
from stores.protocol import (
    UNBOUNDED,
    BulkBytes,
    Revisions,
    Update,
    UpdateMany,
    Upsert,
    Written,
    stamped_fields,
)
from stores.records import SYSTEM_FIELDS, Entity
from stores.threads import in_thread
from stores.turns import Turn

PART_BYTES: Final = 2_097_152
"""Bytes of documents that are sent to the server together: the driver encodes them in one call."""

PART_WRITES: Final = 1_000
"""Writes that are sent to the server together."""

_GIVE_UP_SECONDS: Final = 15.0
_LONGEST_PAUSE: Final = 0.05
"""Writers of this process take turns at an entity (`stores/mongo/entity_turns.py`), so few compete."""

_READ_TOGETHER: Final = 200
"""Entities of a bulk change that one request reads."""

LONGEST_COMPUTING: Annotated[float, Limit("bulk change on MongoDB", "seconds of computing", "503")] = 45
"""Seconds in which a bulk change computes and writes: the server keeps a transaction open for 60."""

_CREATION: Final = {"time": 1, "_id": 1}


def merge(changes: Entity, by: str | None, removed: frozenset[str] = frozenset()) -> Document:
    """Return the update that merges `changes` into a document, for the user `by`, and removes some fields."""
    update: Document = {"$set": {**changeable(changes), BY: by}, "$inc": {"_rev": 1}}
    return {**update, "$unset": dict.fromkeys(removed, "")} if removed else update


def replacement(changes: Entity, by: str | None) -> list[Document]:
    """Return the update that replaces all fields of a document but the system fields by `changes`."""
    # A pipeline, because only a pipeline can refer to the current entity. $literal, because a pipeline takes "$price"
    # for a field.
    kept = {name: f"${name}" for name in SYSTEM_FIELDS}
    counted = {"_rev": {"$add": [{"$cond": [{"$isNumber": "$_rev"}, "$_rev", 0]}, 1]}}
    new = {"$literal": {**changeable(changes), BY: by}}
    return [{"$replaceWith": {"$mergeObjects": [kept, new, counted]}}]


def changeable(changes: Entity) -> Entity:
    """Return the changes without the fields that no write sets to a given value."""
    return {name: value for name, value in changes.items() if name not in ("_id", "_rev", BY)}


@dataclass(frozen=True, slots=True)
class Alteration:
    """What a write makes of a document.

    `text` and `rev` are the entity's JSON text and revision after it. `update` is None if there is nothing to alter.
    `fields` are those that it sets, without stamps. `before` is the number of bytes of the text before it."""

    id: Any
    text: bytes
    rev: int
    before: int
    fields: Entity
    update: Document | list[Document] | None = None

    @property
    def written(self) -> Written:
        return Written(self.text, self.rev, 0 if self.update is None else 1)


def no_stamps() -> Entity:
    """Return what a write sets beside its changes that has no stamps."""
    return {}


def alter_document(
    document: Document,
    write: Update | Upsert | UpdateMany,
    by: str | None,
    revs: Revisions | None = None,
    stamps: NextStamps = no_stamps,
) -> Alteration:
    """Return what the write makes of a document, from which `_by` is removed, with the next `stamps` if that alters it.
    Raises StaleRevision if its revision is not in `revs`, and the InvalidEntity of `write.compute`."""
    text = entity_text(document)
    entity: Entity = orjson.loads(text)
    rev = revision(entity)
    if revs is not None and rev not in revs:
        raise StaleRevision(rev)
    changes, removed = effective(write.changes, write.compute, entity)
    replace = isinstance(write, Update) and write.replace
    if not write.forced and not removed and not records.alters(entity, changes, replace, stamped_fields(write.stamps)):
        return Alteration(document["_id"], text, rev, len(text), changes)
    stamped = {**changes, **stamps()}
    if replace:
        kept = {name: entity[name] for name in SYSTEM_FIELDS if name in entity}
    else:
        kept = {name: value for name, value in entity.items() if name not in removed} if removed else entity
    after = orjson.dumps({**kept, **changeable(stamped), "_rev": rev + 1})
    update = replacement(stamped, by) if replace else merge(stamped, by, removed)
    return Alteration(document["_id"], after, rev + 1, len(text), changes, update)


async def alter_row(
    row: RawBSONDocument,
    write: Update | Upsert | UpdateMany,
    by: str | None,
    revs: Revisions | None = None,
    stamps: NextStamps = no_stamps,
) -> Alteration:
    """Return what `write` makes of a raw document, as `alter_document` does, in a thread if that takes long."""
    if len(row.raw) + (0 if write.compute is None else write.compute.size) > LARGE_DOCUMENT:
        return await in_thread(lambda: alter_document(decoded(row), write, by, revs, stamps))
    return alter_document(decoded(row), write, by, revs, stamps)


async def alter(
    collection: AsyncCollection[Document],
    write: Update | Upsert,
    visible: Match,
    by: str | None,
    most_bytes: int,
    session: Session | None,
    stamps: NextStamps = no_stamps,
) -> Written | None:
    """Make a computed change of the one entity that meets `visible`; repeat it while other writes come in between.
    Return None when there is no such entity. Raises StaleRevision, EntityTooLarge, the InvalidEntity of the change, and
    Unavailable when it has been overtaken for too long."""
    raw = collection.with_options(RAW)
    revs = write.revs if isinstance(write, Update) else None
    give_up, pause = clock.monotonic() + _GIVE_UP_SECONDS, 0.002
    while True:
        row = await raw.find_one(visible, session=session)
        if row is None:
            return None
        made = await alter_row(row, write, by, revs, stamps)
        if made.update is None:
            return made.written
        if not _is_of_system_fields(write):
            check_size(made.text, most_bytes)
        as_read = conjunction(visible, at_revisions(frozenset({made.rev - 1})))
        # In a transaction, an entity that has changed since is an error.
        if (await collection.update_one(as_read, made.update, session=session)).matched_count:
            return made.written
        if clock.monotonic() > give_up:
            raise Unavailable("the entity is being changed all the time")
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_of_system_fields(write: Update | Upsert | UpdateMany) -> bool:
    """Return whether a write alters system fields only: these may make an entity larger than others can."""
    return write.compute is None and records.concerns_system_fields(write.changes)


class BulkChange:
    """A bulk change that is computed, or that has stamps, within a transaction: entity by entity in order of creation,
    in parts.

    `make_room`: takes room in the server's cache before so many bytes, or more, are written. `met` counts the bytes of
    the entities that it changes. `stamps`: those of the transaction."""

    def __init__(
        self,
        collection: AsyncCollection[Document],
        write: UpdateMany,
        by: str | None,
        most_bytes: int,
        session: Session | None,
        read_timeout: float,
        make_room: Callable[[int], Awaitable[None]],
        met: BulkBytes,
        stamps: StampSource,
    ) -> None:
        self._collection = collection
        self._write = write
        self._by = by
        self._most_bytes = most_bytes
        self._session = session
        self._most_ms = milliseconds(read_timeout)
        self._make_room = make_room
        self._met = met
        self._stamps = stamps
        self._bytes = BulkBytes()
        self._part: list[UpdateOne] = []
        self._part_size = 0
        self._sent = 0

    async def run(self) -> int:
        """Return the number of entities that are altered. Raises TooManyMatches, ReadTimeout, ComputedTooLong,
        EntityTooLarge, and the InvalidEntity of the change."""
        # The ids first: entities that the change moves in an index would be met again.
        ids = await self._matches()
        if self._write.stamps and ids:
            await self._stamps.reserve(self._write.stamps, len(ids))
        stamps = self._stamps.next_of(self._write.stamps)
        ends = clock.monotonic() + LONGEST_COMPUTING
        count, turn = 0, Turn()
        async for row in self._rows(ids):
            made = await alter_row(row, self._write, self._by, stamps=stamps)
            if made.update is not None:
                count += 1
                await self._add(made)
            if clock.monotonic() > ends:
                raise ComputedTooLong(LONGEST_COMPUTING)
            if turn.is_over:
                await turn.pass_on()
        await self._send()
        return count

    async def _matches(self) -> list[Any]:
        """Return the ids of the matches by creation."""
        limit = self._write.limit
        pipeline: list[Document] = [
            {"$match": compile_filter(self._write.where)},
            {"$project": {"time": 1, "size": SIZE}},
            {"$sort": _CREATION},
            {"$limit": limit + 1},
        ]
        cursor = await self._collection.aggregate(
            pipeline, session=self._session, maxTimeMS=self._most_ms, allowDiskUse=True, batchSize=PART_WRITES
        )
        ids: list[Any] = []
        size = 0
        turn = Turn()
        async for row in cursor:
            ids.append(row["_id"])
            size += row["size"]
            if turn.is_over:
                await turn.pass_on()
        if len(ids) > limit:
            raise TooManyMatches(limit)
        if limit != UNBOUNDED:
            self._met.add_matches(len(ids), size, self._write.changes)
        return ids

    async def _rows(self, ids: Sequence[Any]) -> AsyncIterator[RawBSONDocument]:
        raw = self._collection.with_options(RAW)
        for start in range(0, len(ids), _READ_TOGETHER):
            these = {"_id": {"$in": ids[start : start + _READ_TOGETHER]}}
            async for row in raw.find(these, sort=_CREATION, hint={"_id": 1}, session=self._session).max_time_ms(
                self._most_ms
            ):
                yield row

    async def _add(self, made: Alteration) -> None:
        assert made.update is not None
        if not _is_of_system_fields(self._write):
            check_size(made.text, self._most_bytes)
        if self._write.compute is not None:
            self._bytes.add(len(orjson.dumps(made.fields)))
        self._part.append(UpdateOne({"_id": made.id}, made.update))
        self._part_size += len(made.text)
        if self._part_size > PART_BYTES or len(self._part) == PART_WRITES:
            await self._send()

    async def _send(self) -> None:
        if self._part:
            self._sent += self._part_size
            await self._make_room(self._sent)
            await self._collection.bulk_write(self._part, session=self._session)
        self._part, self._part_size = [], 0
