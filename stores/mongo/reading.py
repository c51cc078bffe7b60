"""Reads of single entities, lists and summaries. Lists and summaries are read from a snapshot, and their position is
its cluster time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import bson
import pymongo
from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.read_concern import ReadConcern

from stores.compound import CompoundIndex
from stores.cursor import Key
from stores.mongo import keyset, position
from stores.mongo.batched_reads import BatchedReads
from stores.mongo.codec import CODEC, Document, dumps, entity_of, entity_text, entity_texts, revision, with_revision
from stores.mongo.compile import compile_filter, compile_projection, conjunction
from stores.mongo.connection import Connection, Session
from stores.mongo.documents import Row, document_groups
from stores.mongo.errors import store_errors
from stores.mongo.selection import Selection
from stores.mongo.sizes import LARGE_DOCUMENT, Pace, decoded, first_bytes
from stores.mongo.slow_reads import HOUSEKEEPING_SECONDS, milliseconds
from stores.projection import compile_projection as compile_view
from stores.protocol import BeforeLong, Listing, Summary
from stores.query import CREATION_ORDER, WHOLE, Filter, Projection, Query, Sort
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.threads import in_thread
from stores.turns import Turn

AT_ONCE: Final = 1_000
"""Entities of a list in one piece; a longer list is streamed."""

STREAM_BATCH: Final = 500
"""The most entities in one reply of the server for a stream."""

Render = Callable[[Document], bytes]
"""Converts a document to the JSON text that is shown."""

RenderAll = Callable[[Sequence[Document]], list[bytes]]
"""Converts several documents."""

_AT_ONCE: Final = 16
"""Collections that are queried at the same time."""

_COUNT_BATCH: Final = 500
"""Documents in one reply of the server that are checked one by one; it holds at most 16 MB."""


class Reader:
    """The reading methods of `stores.protocol.Engine`."""

    def __init__(self, connection: Connection, chunk_bytes: int) -> None:
        self._connection = connection
        self._chunk_bytes = chunk_bytes
        self._batched_reads = BatchedReads(connection)
        self._indexes: dict[str, Sequence[CompoundIndex]] = {}

    def note_indexes(self, definition: StoreDefinition) -> None:
        """Note the compound indexes of a store, so that pages are asked for in a form that suits them."""
        self._indexes[definition.name] = definition.compounds

    def _selection(self, store: str, query: Query, projection: Projection) -> Selection:
        return Selection.of(store, query, projection, self._indexes.get(store, ()))

    async def get(self, store: str, id: str, where: Filter, projection: Projection) -> tuple[bytes, int] | None:
        match, fields = compile_filter(where), compile_projection(projection, (("_rev",),))
        with store_errors():
            document = await self._batched_reads.get(store, id, match, fields)
        if document is None:
            return None
        rev = revision(document)
        return renderer_of(projection)(document), rev

    async def find(self, store: str, query: Query, projection: Projection, before_long: BeforeLong | None) -> Listing:
        selection = self._selection(store, query, projection)
        render = group_renderer_of(projection)
        with store_errors():
            rows, at, is_all = await self._head(selection, query.offset, query.limit + 1)
            if not is_all:
                if before_long is not None and (slot := before_long()) is not None:
                    rows.clear()
                    await slot
                    rows, at, _ = await self._head(selection, query.offset, query.limit + 1)
                return await self._long(selection, query, render, rows, at)
        more = len(rows) > query.limit > 0
        rows = rows[: query.limit]
        following = await self._key_of(rows[-1], query.sort) if more else None
        texts = await self._texts(store, rows, render)
        return Listing(self._position(at), following, b"[" + b",".join(texts) + b"]")

    async def _texts(self, store: str, rows: Sequence[Row], render: RenderAll) -> list[bytes]:
        """Return the documents as JSON texts, and let other tasks run in between."""
        texts: list[bytes] = []
        turn = Turn()
        for documents in document_groups(rows):
            texts += render(documents)
            if turn.is_over:
                await turn.pass_on()
        if texts:
            self._connection.sizes.note(store, max(map(len, texts)))
        return texts

    async def _key_of(self, row: Row, sort: tuple[Sort, ...]) -> Key:
        if isinstance(row, RawBSONDocument) and len(row.raw) > LARGE_DOCUMENT:
            # In a thread: the lowest value of a long array takes long to find.
            return await in_thread(lambda: keyset.key_of(decoded(row), sort))
        return keyset.key_of(decoded(row), sort)

    async def _head(self, selection: Selection, skip: int, limit: int) -> tuple[list[Row], Timestamp, bool]:
        """Return the first of at most `limit` documents, the cluster time of the read, and whether they are all."""
        wanted = min(limit, AT_ONCE + 1)
        sizes, store = self._connection.sizes, selection.store
        raw = sizes.may_be_large(store, wanted)
        # One more, so that the server closes the cursor at once.
        batch = sizes.fitting(store, wanted) + 1 if raw else None
        cursor, at = await self._connection.snapshot(selection.command(skip, wanted, batch), raw=raw)
        rows: list[Row] = cursor["firstBatch"]
        if cursor["id"]:  # the reply has reached `batch`, or its limit of 16 MB
            await self._connection.kill(store, cursor["id"])
        return rows, at, not cursor["id"] and (len(rows) < wanted or wanted == limit)

    async def _long(
        self, selection: Selection, query: Query, render: RenderAll, head: list[Row], at: Timestamp
    ) -> Listing:
        """Return a list that is streamed: `head` has been read, and the rest will be read at the same cluster time."""
        keys = selection.keys_only().command(query.offset + query.limit - 1, 2)
        last = (await self._connection.snapshot(keys, at, raw=True))[0]["firstBatch"]
        following = await self._key_of(last[0], query.sort) if len(last) == 2 else None
        head = head[: query.limit]
        body = self._stream(selection, query, render, head, at)
        return Listing(self._position(at), following, body)

    async def _stream(
        self, selection: Selection, query: Query, render: RenderAll, head: list[Row], at: Timestamp
    ) -> AsyncIterator[bytes]:
        pieces = _Pieces(self._chunk_bytes)
        async with aclosing(self._batches(selection, query, head, at)) as batches:
            async for rows in batches:
                for piece in pieces.add(await self._texts(selection.store, rows, render)):
                    yield piece
        yield pieces.end()

    async def _batches(
        self, selection: Selection, query: Query, head: list[Row], at: Timestamp
    ) -> AsyncGenerator[list[Row]]:
        """Yield `head`, which has been read, and then the other documents of the query at the same cluster time, one
        reply of the server at a time."""
        yield head
        store, known = selection.store, len(head)
        pace = Pace(self._connection.sizes, store, STREAM_BATCH)
        concern = {"level": "snapshot", "atClusterTime": at}
        cursor = 0
        if known >= query.limit:
            return
        async with self._connection.client.start_session(causal_consistency=False) as session:
            try:
                command = selection.command(query.offset + known, query.limit - known, pace.next(head))
                head.clear()
                with store_errors():
                    reply = await self._piece({**command, "readConcern": concern}, session)
                cursor, rows = reply["cursor"]["id"], reply["cursor"]["firstBatch"]
                pace.came(rows)
                yield rows
                while cursor:
                    more = {"getMore": cursor, "collection": store, "batchSize": pace.next(rows)}
                    with store_errors():
                        reply = await self._piece(more, session)
                    cursor, rows = reply["cursor"]["id"], reply["cursor"]["nextBatch"]
                    pace.came(rows)
                    yield rows
            finally:
                pace.release()
                if cursor:
                    with store_errors():
                        await self._connection.kill(store, cursor)

    async def _piece(self, command: Document, session: Session) -> Document:
        """Return the server's next reply for a long list. The time limit of the first command is for all of them."""

        async def read(most: float) -> Document:
            bound = {} if "getMore" in command else {"maxTimeMS": milliseconds(most)}
            return await self._connection.command({**command, **bound}, session, raw=True)

        return await self._connection.reads.run_piece(read)

    async def entities(self, store: str, query: Query, most_bytes: int | None) -> list[Entity]:
        if query.limit == 0:
            return []
        selection = self._selection(store, query, WHOLE)
        with store_errors():
            head, at, is_all = await self._head(selection, query.offset, query.limit)
        if is_all:
            return first_bytes(await self._entities(head), most_bytes)[0]
        found: list[Entity] = []
        async with aclosing(self._batches(selection, query, head, at)) as batches:
            async for rows in batches:
                these, left = first_bytes(await self._entities(rows), most_bytes)
                found += these
                if left == 0:
                    break
                most_bytes = left
        return found

    async def _entities(self, rows: Sequence[Row]) -> list[Entity]:
        found: list[Entity] = []
        turn = Turn()
        for documents in document_groups(rows):
            found += map(entity_of, documents)
            if turn.is_over:
                await turn.pass_on()
        return found

    async def summarize(self, store: str, where: Filter, projection: Projection) -> Summary:
        backwards = tuple(Sort(s.path, True) for s in CREATION_ORDER)
        match = compile_filter(where)
        counting: Document = {"aggregate": store, "pipeline": [{"$match": match}, {"$count": "n"}], "cursor": {}}
        first = Selection.of(store, Query(where), projection)
        last = Selection.of(store, Query(where, backwards), projection)
        with store_errors():
            cursor, at = await self._connection.snapshot(counting)
            counted = cursor["firstBatch"]
            if not counted:
                return Summary(self._position(at), 0, None, None)
            raw = self._connection.sizes.may_be_large(store, 1)
            ends = [(await self._connection.snapshot(end.command(0, 1), at, raw=raw))[0] for end in (first, last)]
        texts = await self._texts(store, [end["firstBatch"][0] for end in ends], group_renderer_of(projection))
        return Summary(self._position(at), int(counted[0]["n"]), texts[0], texts[1])

    async def count(self, store: str, where: Filter, counts: Callable[[Entity], bool] | None) -> int:
        """See `stores.protocol.Engine.count`."""
        match = compile_filter(where)
        concern = ReadConcern("majority")
        # Without it, the socket's time limit would end the read.
        with store_errors(), pymongo.timeout(HOUSEKEEPING_SECONDS):
            if counts is None:
                pipeline = [{"$match": match}, {"$count": "n"}]
                command = {"aggregate": store, "pipeline": pipeline, "cursor": {}, "readConcern": concern.document}
                found = (await self._connection.command(command))["cursor"]["firstBatch"]
                return int(found[0]["n"]) if found else 0
            count = 0
            collection = self._connection.collection(store).with_options(read_concern=concern)
            async with collection.find_raw_batches(match, batch_size=_COUNT_BATCH) as batches:
                async for batch in batches:
                    count += await in_thread(_count_in, batch, counts)
            return count

    async def groups_in_use(self, stores: Sequence[str], groups: Sequence[str]) -> set[tuple[str, str]]:
        """See `stores.protocol.Engine.groups_in_use`."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def in_use(store: str) -> set[tuple[str, str]]:
            command: Document = {"distinct": store, "key": "group", "query": {"group": {"$in": [*groups]}}}
            async with turns:
                reply = await self._connection.read(command)
            return {(store, str(group)) for group in reply["values"]}

        with store_errors():
            found = await asyncio.gather(*map(in_use, stores))
        return set().union(*found)

    async def count_duplicates(self, store: str, paths: Sequence[str], where: Filter) -> tuple[int, str]:
        values = [f"${path}" for path in paths]
        scalars = [{"$or": [{"$eq": [{"$type": value}, "string"]}, {"$isNumber": value}]} for value in values]
        pipeline: list[Document] = [
            {"$match": conjunction(compile_filter(where), {"$expr": {"$and": scalars}})},
            {"$group": {"_id": values, "n": {"$sum": 1}, "first": {"$min": "$_id"}}},
            {"$match": {"n": {"$gt": 1}}},
            {"$group": {"_id": None, "n": {"$sum": "$n"}, "first": {"$min": "$first"}}},
        ]
        command = {"aggregate": store, "pipeline": pipeline, "cursor": {}, "allowDiskUse": True}
        # Longer than any read of users, as SQLite's: the index for which this explains a refusal may take as long.
        with store_errors(), pymongo.timeout(HOUSEKEEPING_SECONDS):
            found = (await self._connection.command(command))["cursor"]["firstBatch"]
        return (int(found[0]["n"]), str(found[0]["first"])) if found else (0, "")

    def _position(self, at: Timestamp) -> str:
        return position.at_time(self._connection.epoch, at)


class _Pieces:
    """JSON texts joined to pieces of an array, each of about `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[bytes] = []
        self._bytes = 0
        self._lead = b"["

    def add(self, texts: Iterable[bytes]) -> list[bytes]:
        """Add `texts`, and return the pieces that are now full."""
        full: list[bytes] = []
        for text in texts:
            self._texts.append(text)
            self._bytes += len(text)
            if self._bytes >= self._size:
                full.append(self._take())
        return full

    def _take(self) -> bytes:
        piece = self._lead + b",".join(self._texts)
        self._lead = b","
        self._texts.clear()
        self._bytes = 0
        return piece

    def end(self) -> bytes:
        """Return the rest of the array."""
        if self._texts:
            return self._take() + b"]"
        return b"[]" if self._lead == b"[" else b"]"


def _count_in(batch: bytes, counts: Callable[[Entity], bool]) -> int:
    return sum(counts(entity_of(document)) for document in bson.decode_iter(batch, CODEC))


def renderer_of(projection: Projection) -> Render:
    """Return the function that converts a document to the JSON text that is shown."""
    if projection.everything:
        return entity_text
    view = compile_view(projection)
    return lambda document: dumps(view(with_revision(document)))


def group_renderer_of(projection: Projection) -> RenderAll:
    """Return the function that converts several documents."""
    if projection.everything:
        return entity_texts
    render = renderer_of(projection)
    return lambda documents: [render(document) for document in documents]
