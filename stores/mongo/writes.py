"""One write, or a run of similar writes, inside or outside a transaction.

An update is a single findAndModify, so its condition, its change and its answer are one atomic step. A deletion first
stores the user in the document; the change feed finds it in the pre-image of the deletion's event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pymongo import ReturnDocument
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    ServerSelectionTimeoutError,
    WriteError,
)

from stores import records
from stores.errors import (
    InvalidEntity,
    NotAsExpected,
    NotFound,
    StaleRevision,
    TooManyMatches,
    Unavailable,
    refused_at,
)
from stores.mongo.altering import alters, at_revisions, is_quick, may_alter
from stores.mongo.bounding import SIZE, SizeLimit, check_size, opened
from stores.mongo.codec import BY, DELETER, Document, dumps, entity_text, revision, to_document, to_id
from stores.mongo.compile import Match, compile_filter, conjunction
from stores.mongo.computing import PART_BYTES, BulkChange, alter, changeable, merge
from stores.mongo.connection import META, Connection, Session
from stores.mongo.errors import refusals_at
from stores.mongo.locks import locks_of
from stores.mongo.room import Room
from stores.mongo.serials import numbered, take
from stores.mongo.sizes import RAW
from stores.mongo.slow_reads import milliseconds
from stores.mongo.upserts import UpsertRun
from stores.paths import value_at
from stores.protocol import (
    UNBOUNDED,
    BulkBytes,
    Delete,
    DeleteMany,
    Expect,
    Find,
    Insert,
    InsertMany,
    Lock,
    Take,
    Update,
    UpdateMany,
    Upsert,
    UpsertBytes,
    Written,
)
from stores.records import SYSTEM_FIELDS, Entity
from stores.turns import Turn

Statement = Insert | Update | Delete | Upsert | UpdateMany | DeleteMany | Expect
"""The writes that are sent to the server."""

_FOUND_AT_ONCE: Final = 500
"""Entities of a step of a procedure that the server sends at once."""

_TRIES: Final = 5
"""Attempts of a write that concurrent writes interfere with."""


class WriteExecutor:
    """The writes of one user (`by`), in one transaction if there is a session."""

    def __init__(
        self,
        connection: Connection,
        by: str | None,
        most_bytes: int,
        session: Session | None = None,
        room: Room | None = None,
    ) -> None:
        self._connection = connection
        self._most_bytes = most_bytes
        self._by = by
        self._session = session
        self._room = room
        self._met = UpsertBytes()
        self._bulk = BulkBytes()
        self._found = BulkBytes()
        self._single_bytes = 0

    async def write(self, write: Statement) -> Written:
        """Do one write. Delete, UpdateMany, DeleteMany and Expect need a session, because they take several steps."""
        if self._room is not None:
            self._room.note_write(write)
        match write:
            case Insert():
                return await self._insert(write)
            case Update():
                return await self._update(write)
            case Upsert():
                return await self._upsert(write)
            case Delete():
                return await self._delete(write)
            case UpdateMany():
                return await self._update_many(write)
            case DeleteMany():
                return await self._delete_many(write)
            case Expect():
                return await self._expect(write)

    async def find(self, step: Find) -> list[Entity]:
        """Return the entities of a step of a procedure. Raises InvalidQuery for too many bytes in one commit, and
        ReadTimeout."""
        only = None if step.only is None else {"_id": 1, **dict.fromkeys(step.only, 1)}
        collection, match = self._connection.collection(step.store), compile_filter(step.where)
        # The driver decodes a reply at once, on the event loop.
        sizes = self._connection.sizes
        at_once = _FOUND_AT_ONCE if step.only == () else sizes.fitting(step.store, _FOUND_AT_ONCE)
        rows = collection.find(match, only, limit=step.limit, batch_size=at_once, session=self._session)
        rows.max_time_ms(milliseconds(self._connection.read_timeout))
        if step.in_order:
            rows.sort([("time", 1), ("_id", 1)])
        found: list[Entity] = []
        turn = Turn()
        async for row in rows:
            text = entity_text(row) if only is None else dumps(row)
            self._found.add(len(text))
            found.append(orjson.loads(text))
            if turn.is_over:
                await turn.pass_on()
        return found

    async def take(self, step: Take) -> int:
        """Take numbers within the transaction: it may be repeated, and the numbers follow each other all the same."""
        return await take(self._connection, step.serial, step.count, self._session)

    @property
    def found_bytes(self) -> int:
        """The bytes of what the procedures of the commit have found."""
        return self._found.count

    async def lock(self, step: Lock) -> None:
        """Write to the documents of the keys: of two transactions that write to the same one, one is repeated."""
        meta = self._connection.collection(META)
        if self._room is not None and step.exclusive:
            self._room.excludes = True
        documents = locks_of(step, self._room.number if self._room is not None else 0)
        done = await meta.update_many({"_id": {"$in": documents}}, {"$inc": {"commits": 1}}, session=self._session)
        if done.matched_count < len(documents):
            raise Unavailable("documents of locks are missing in _meta: they are made again")

    async def insert_all(self, writes: Sequence[Insert], start: int) -> list[Written]:
        """Insert into one store, with one request to the server for every few megabytes. `start` is the position of the
        first write in its commit, from which DuplicateValue counts."""
        collection = self._connection.collection(writes[0].store)
        outcome: list[Written] = []
        documents: list[Document] = []
        size = 0
        turn = Turn()
        entities = await numbered(self._connection, [write.entity for write in writes], writes[0].serials)
        for entity in entities:
            documents.append(to_document(entity, self._by))
            # The same text as that of the document: an entity begins with its `_id`, as a document does.
            outcome.append(Written(orjson.dumps(entity), revision(entity)))
            with refused_at(start + len(outcome) - 1):
                check_size(outcome[-1].entity, self._most_bytes)
            size += len(outcome[-1].entity)
            if size > PART_BYTES or len(outcome) == len(writes):
                await self._make_room(size)
                with refusals_at(start + len(outcome) - len(documents)):
                    await collection.insert_many(documents, session=self._session)
                documents, size = [], 0
            elif turn.is_over:
                await turn.pass_on()
        return outcome

    async def insert_many(self, step: InsertMany) -> None:
        """Insert the entities of a step of a procedure."""
        writes = [Insert(step.store, entity) for entity in step.entities]
        if writes:
            if self._room is not None:
                self._room.note_write(writes[0])
            await self.insert_all(writes, 0)

    async def upsert_all(self, writes: Sequence[Upsert], start: int) -> list[Written]:
        """Upsert into one store by one key, with different values of the key, with one request to the server for every
        few megabytes. `start` is the position of the first write in its commit."""
        collection = self._connection.collection(writes[0].store)
        run = UpsertRun(writes, self._by, self._met)
        turn = Turn()
        async for row in collection.with_options(RAW).find(run.match, session=self._session):
            await run.meet(row)
            if turn.is_over:
                await turn.pass_on()
        unmet = [index for index in range(len(writes)) if not run.has_met(index)]
        entities = await numbered(self._connection, [writes[index].entity for index in unmet], writes[0].serials)
        for index, entity in zip(unmet, entities, strict=True):
            run.add_new(index, entity)
            if turn.is_over:
                await turn.pass_on()
        for index in range(len(writes)):
            with refused_at(start + index):
                run.check_size(index, self._most_bytes)
        await self._make_room(run.size)
        for part in run.parts():
            with refusals_at(start, part.indexes):
                await collection.bulk_write(part.statements, session=self._session)
        return run.outcome()

    async def _make_room(self, size: int) -> None:
        """Take room in the server's cache before `size` bytes of documents, or more, are written."""
        if self._room is not None and size > PART_BYTES:
            await self._room.take()

    async def _count_single(self, size: int) -> None:
        """Count the bytes of an entity that one of many single writes concerns, as those of procedures may be."""
        self._single_bytes += size
        await self._make_room(self._single_bytes)

    async def _insert(self, write: Insert) -> Written:
        [entity] = await numbered(self._connection, [write.entity], write.serials)
        text = orjson.dumps(entity)
        check_size(text, self._most_bytes)
        await self._count_single(len(text))
        document = to_document(entity, self._by)
        await self._connection.collection(write.store).insert_one(document, session=self._session)
        return Written(text, revision(entity))

    async def _update(self, write: Update) -> Written:
        visible = conjunction({"_id": to_id(write.id)}, compile_filter(write.where))
        done = await self._alter(write, visible)
        if done is None:
            raise NotFound(f"{write.store} has no {write.id}")
        await self._count_single(len(done.entity))
        return done

    async def _alter(self, write: Update | Upsert, visible: Match) -> Written | None:
        """Change the one entity that meets `visible`, unless the write alters nothing. Return None when there is no
        such entity. Raises StaleRevision and EntityTooLarge."""
        collection = self._connection.collection(write.store)
        if write.compute is not None:
            return await alter(collection, write, visible, self._by, self._most_bytes, self._session)
        limit = SizeLimit(self._most_bytes, write)
        replace, revs = (write.replace, write.revs) if isinstance(write, Update) else (False, None)
        change = self._replacement(write.changes) if replace else merge(write.changes, self._by)
        match = conjunction(visible, at_revisions(revs))
        condition = _quick_condition(write, replace)
        known = None if condition is None else conjunction(match, condition, limit.quick)

        async def attempt(match: Match) -> Written | None:
            document: Document | None = await collection.find_one_and_update(
                match, change, return_document=ReturnDocument.AFTER, session=self._session
            )
            return None if document is None else written(document)

        for _ in range(_TRIES):
            done = None if known is None else await attempt(known)
            present = None if done else await self._present(write.store, visible)
            if done or present is None:
                return done
            text, entity = await opened(present)
            current = revision(entity)
            if revs is not None and current not in revs:
                raise StaleRevision(current)
            if not write.forced and not records.alters(entity, write.changes, replace):
                return Written(text, current, 0)
            limit.check(text, entity)
            done = await attempt(conjunction(visible, at_revisions(frozenset({current}))))
            if done:
                return done
        # Other writes change it continually: write now without checking whether this alters the entity.
        done = await attempt(conjunction(match, limit.likely))
        if done is None and await collection.find_one(visible, {"_id": 1}, session=self._session) is not None:
            raise Unavailable("the entity is being changed all the time") if revs is None else StaleRevision(current)
        return done

    async def _present(self, store: str, match: Match) -> Mapping[str, Any] | None:
        """Return the first document that matches, not decoded. Every change without effect asks for it. The cursor API
        takes a fifth longer, but asks once more when the primary is lost."""
        if self._session is None:
            try:
                command = {"find": store, "filter": match, "limit": 1, "singleBatch": True}
                found = (await self._connection.command(command, raw=True))["cursor"]["firstBatch"]
                return found[0] if found else None
            except (NetworkTimeout, ServerSelectionTimeoutError):
                raise  # another attempt would wait for as long
            except AutoReconnect:
                pass
        collection = self._connection.collection(store).with_options(RAW)
        return await collection.find_one(match, session=self._session)

    async def _delete(self, write: Delete) -> Written:
        collection = self._connection.collection(write.store)
        visible = conjunction({"_id": to_id(write.id)}, compile_filter(write.where))
        match = conjunction(visible, at_revisions(write.revs))
        document: Document | None = await collection.find_one_and_update(
            match, {"$set": {BY: {DELETER: self._by}}}, return_document=ReturnDocument.BEFORE, session=self._session
        )
        if document is None:
            # In the same snapshot: a change of the entity meanwhile is an error of the transaction.
            present = await collection.find_one(visible, {"_rev": 1}, session=self._session)
            if present is None:
                raise NotFound(f"{write.store} has no {write.id}")
            raise StaleRevision(revision(present))
        await collection.delete_one({"_id": document["_id"]}, session=self._session)
        done = written(document)
        await self._count_single(len(done.entity))
        return done

    async def _upsert(self, write: Upsert) -> Written:
        """Update the entity, or insert it. If another process inserts it first, the next attempt finds it."""
        value = value_at(write.entity, write.key)
        match = conjunction({write.key: {"$eq": value}}, compile_filter(write.where))
        tries = _TRIES
        while True:
            tries -= 1
            done = None if value is None else await self._alter(write, match)
            if done is not None:
                self._met.add(len(done.entity))
                await self._count_single(len(done.entity))
                return done
            if write.missing:
                raise InvalidEntity(write.missing)
            try:
                return await self._insert(Insert(write.store, write.entity, write.serials))
            except DuplicateKeyError as error:
                # A transaction ends with any error. A duplicate in another unique field is not a race.
                if self._session is not None or tries == 0 or write.key not in _key_pattern(error):
                    raise

    async def _update_many(self, write: UpdateMany) -> Written:
        if write.compute is not None:
            return Written(b"", 0, await self._bulk_change(write).run())
        match = compile_filter(write.where)
        limit = SizeLimit(self._most_bytes, write)
        largest = await self._check_count(write, match, write.changes)
        condition = {} if write.forced else alters(write.changes, False)
        if condition is None:
            return Written(b"", 0, 0)
        narrowed = conjunction(match, condition)
        if limit.harmless is not None and largest > limit.harmless:
            near = conjunction(narrowed, {"$expr": {"$gt": [SIZE, limit.harmless]}})
            raw = self._connection.collection(write.store).with_options(RAW)
            most = milliseconds(self._connection.read_timeout)
            async for row in raw.find(near, batch_size=1, max_time_ms=most, session=self._session):
                limit.check(*await opened(row))
        return Written(b"", 0, await self._change_all(write.store, narrowed, merge(write.changes, self._by)))

    def _bulk_change(self, write: UpdateMany) -> BulkChange:
        collection, timeout = self._connection.collection(write.store), self._connection.read_timeout
        bounds = self._most_bytes, self._session, timeout
        return BulkChange(collection, write, self._by, *bounds, self._make_room, self._bulk)

    async def _delete_many(self, write: DeleteMany) -> Written:
        match = compile_filter(write.where)
        await self._check_count(write, match)
        await self._change_all(write.store, match, {"$set": {BY: {DELETER: self._by}}})
        deleted = await self._run_bounded({"delete": write.store, "deletes": [{"q": match, "limit": 0}]})
        return Written(b"", 0, deleted)

    async def _change_all(self, store: str, match: Match, change: Document) -> int:
        """Change all matches, and return their number."""
        return await self._run_bounded({"update": store, "updates": [{"q": match, "u": change, "multi": True}]})

    async def _run_bounded(self, command: Document) -> int:
        """Run a command that writes, and return the number of documents that it matches. The server ends it after
        `read_timeout`: PyMongo's own methods set no limit in the server, which would go on when the driver gives up."""
        most = milliseconds(self._connection.read_timeout)
        reply = await self._connection.command({**command, "maxTimeMS": most}, self._session)
        for error in reply.get("writeErrors", ()):
            raise WriteError(error["errmsg"], error["code"], error)
        return int(reply["n"])

    async def _expect(self, write: Expect) -> Written:
        collection = self._connection.collection(write.store)
        match, options = compile_filter(write.where), {"limit": write.count_limit} if write.count_limit else {}
        options["maxTimeMS"] = milliseconds(self._connection.read_timeout)
        if not write.holds(await collection.count_documents(match, session=self._session, **options)):
            raise NotAsExpected
        return Written(b"", 0, 0)

    async def _check_count(self, write: UpdateMany | DeleteMany, match: Match, changes: Entity | None = None) -> int:
        """Return the bytes of the largest match. Raises TooManyMatches, InvalidQuery for matches that are too large
        together, and ReadTimeout when they are not found in time."""
        limit = write.limit
        counted = {"_id": None, "count": {"$sum": 1}, "largest": {"$max": SIZE}, "size": {"$sum": SIZE}}
        pipeline: list[Document] = [{"$match": match}, {"$limit": limit + 1}, {"$group": counted}]
        most = milliseconds(self._connection.read_timeout)
        collection = self._connection.collection(write.store)
        cursor = await collection.aggregate(pipeline, session=self._session, maxTimeMS=most)
        found = next(iter(await cursor.to_list()), {"count": 0, "largest": 0, "size": 0})
        if found["count"] > limit:
            raise TooManyMatches(limit)
        if limit != UNBOUNDED:
            self._bulk.add_matches(found["count"], found["size"], changes)
        return int(found["largest"])

    def _replacement(self, changes: Entity) -> list[Document]:
        # A pipeline, because only a pipeline can refer to the current entity. $literal, because a pipeline takes
        # "$price" for a field.
        kept = {name: f"${name}" for name in SYSTEM_FIELDS}
        counted = {"_rev": {"$add": [{"$cond": [{"$isNumber": "$_rev"}, "$_rev", 0]}, 1]}}
        new = {"$literal": {**changeable(changes), BY: self._by}}
        return [{"$replaceWith": {"$mergeObjects": [kept, new, counted]}}]


def _quick_condition(write: Update | Upsert, replace: bool) -> Match | None:
    """Return the condition that the write alters the entity; None where it is better to read the entity first."""
    if write.forced:
        return {}
    if not is_quick(write.changes):
        return None
    return alters(write.changes, True) if replace else may_alter(write.changes)


def written(document: Document) -> Written:
    """Return the outcome of a write that left `document`. Removes `_by` from the document."""
    rev = revision(document)
    return Written(entity_text(document), rev)


def _key_pattern(error: DuplicateKeyError) -> Mapping[str, Any]:
    pattern: Mapping[str, Any] = (error.details or {}).get("keyPattern") or {}
    return pattern
