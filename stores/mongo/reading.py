"""Reads: one entity, lists, summaries. The last two come from a snapshot, whose cluster time is their position."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from bson import Timestamp

from stores.cursor import Key
from stores.mongo import keyset, position
from stores.mongo.codec import Document, dumps, entity_of, entity_text, revision, to_id
from stores.mongo.compile import Match, compile_filter, compile_projection, compile_sort, conjunction
from stores.mongo.connection import Connection, time_of
from stores.mongo.errors import store_errors
from stores.projection import compile_projection as compile_view
from stores.protocol import Listing, Summary
from stores.query import CREATION, Filter, Projection, Query, Sort
from stores.records import Entity

AT_ONCE: Final = 1_000
"""Entities of a list that are answered in one piece; a longer one is streamed."""

STREAM_BATCH: Final = 500
"""Entities that one exchange with the server brings to a stream."""

Writer = Callable[[Document], bytes]
"""Shows a document as JSON text."""

_KEY: Final = "_key"


@dataclass(frozen=True)
class Selection:
    """A query compiled for one collection: which documents, in which order, which of their fields."""

    store: str
    match: Match
    sort: tuple[Sort, ...]
    fields: dict[str, int]
    inexact_after: Key | None = None

    @classmethod
    def of(cls, store: str, query: Query, projection: Projection) -> Selection:
        match = compile_filter(query.where)
        inexact = None
        if query.after is not None:
            match = conjunction(match, keyset.beyond(query.sort, query.after))
            inexact = None if keyset.is_exact(query.sort) else query.after
        needed = (*(s.path for s in query.sort), ("_rev",))
        return cls(store, match, query.sort, compile_projection(projection, needed), inexact)

    def keys_only(self) -> Selection:
        """The same documents, of each no more than its sort key."""
        return replace(self, fields=compile_projection(Projection(()), tuple(s.path for s in self.sort)))

    def command(self, skip: int, limit: int, batch: int | None = None) -> Document:
        """The command for `limit` documents beyond the first `skip`, as many as possible in one reply, or `batch`."""
        # With room for one more the server knows at once that it is done, and closes the cursor.
        batch = batch or limit + 1
        if self.inexact_after is not None:
            return self._aggregation(self.inexact_after, skip, limit, batch)
        return {
            "find": self.store,
            "filter": self.match,
            "sort": compile_sort(self.sort),
            "projection": self.fields,
            "skip": skip,
            "limit": limit,
            "batchSize": batch,
            "allowDiskUse": True,
        }

    def _aggregation(self, after: Key, skip: int, limit: int, batch: int) -> Document:
        pipeline: list[Document] = [
            {"$match": self.match},
            {"$sort": compile_sort(self.sort)},
            {"$set": {_KEY: {"$meta": "sortKey"}}},
            {"$match": keyset.beyond_key(self.sort, after, _KEY)},
            *([{"$skip": skip}] if skip else []),
            {"$limit": limit},
            {"$unset": _KEY},
            {"$project": self.fields},
        ]
        return {"aggregate": self.store, "pipeline": pipeline, "cursor": {"batchSize": batch}, "allowDiskUse": True}


class Reader:
    """Answers the reading half of `stores.protocol.Engine`."""

    def __init__(self, connection: Connection, chunk_bytes: int) -> None:
        self._connection = connection
        self._chunk_bytes = chunk_bytes

    async def get(self, store: str, id: str, where: Filter, projection: Projection) -> tuple[bytes, int] | None:
        command = {
            "find": store,
            "filter": conjunction({"_id": to_id(id)}, compile_filter(where)),
            "projection": compile_projection(projection, (("_rev",),)),
            "limit": 1,
            "singleBatch": True,
            "readConcern": {"level": "majority"},
        }
        with store_errors():
            reply = await self._connection.command(command)
        found = reply["cursor"]["firstBatch"]
        if not found:
            return None
        rev = revision(found[0])
        return _writer(projection)(found[0]), rev

    async def find(self, store: str, query: Query, projection: Projection) -> Listing:
        selection = Selection.of(store, query, projection)
        wanted = min(query.limit, AT_ONCE) + 1
        with store_errors():
            reply = await self._connection.snapshot(selection.command(query.offset, wanted))
            at = time_of(reply)
            rows: list[Document] = reply["cursor"]["firstBatch"]
            cut_short = reply["cursor"]["id"] != 0  # by the 16 MB that one reply holds
            if cut_short:
                await self._kill(store, reply["cursor"]["id"])
            if cut_short or (query.limit > AT_ONCE and len(rows) > AT_ONCE):
                return await self._long(selection, query, _writer(projection), rows, at)
        more = len(rows) > query.limit > 0
        rows = rows[: query.limit]
        following = keyset.key_of(rows[-1], query.sort) if more else None
        body = b"[" + b",".join(map(_writer(projection), rows)) + b"]"
        return Listing(self._position(at), following, body)

    async def _long(
        self, selection: Selection, query: Query, write: Writer, head: list[Document], at: Timestamp
    ) -> Listing:
        """A list that is streamed: `head` is read already, the rest is as it was at the same cluster time."""
        ends = await self._connection.snapshot(selection.keys_only().command(query.offset + query.limit - 1, 2), at)
        last = ends["cursor"]["firstBatch"]
        following = keyset.key_of(last[0], query.sort) if len(last) == 2 else None
        head = head[: query.limit]
        rest = selection.command(query.offset + len(head), query.limit - len(head), STREAM_BATCH)
        body = self._stream(head, rest if len(head) < query.limit else None, write, at)
        return Listing(self._position(at), following, body)

    async def _stream(
        self, head: list[Document], rest: Document | None, write: Writer, at: Timestamp
    ) -> AsyncIterator[bytes]:
        pieces = _Pieces(self._chunk_bytes)
        for piece in pieces.add(map(write, head)):
            yield piece
        if rest is not None:
            async for rows in self._batches(rest, at):
                for piece in pieces.add(map(write, rows)):
                    yield piece
        yield pieces.end()

    async def _batches(self, command: Document, at: Timestamp) -> AsyncIterator[list[Document]]:
        """Everything that a reading command finds at one cluster time, as the server's exchanges bring it."""
        store = command.get("find") or command["aggregate"]
        concern = {"level": "snapshot", "atClusterTime": at}
        cursor = 0
        async with self._connection.client.start_session(causal_consistency=False) as session:
            try:
                with store_errors():
                    reply = await self._connection.command({**command, "readConcern": concern}, session)
                cursor = reply["cursor"]["id"]
                yield reply["cursor"]["firstBatch"]
                while cursor:
                    more = {"getMore": cursor, "collection": store, "batchSize": STREAM_BATCH}
                    with store_errors():
                        reply = await self._connection.command(more, session)
                    cursor = reply["cursor"]["id"]
                    yield reply["cursor"]["nextBatch"]
            finally:
                if cursor:
                    with store_errors():
                        await self._kill(store, cursor)

    async def _kill(self, store: str, cursor: int) -> None:
        await self._connection.command({"killCursors": store, "cursors": [cursor]})

    async def entities(self, store: str, query: Query) -> list[Entity]:
        if query.limit == 0:
            return []
        selection = Selection.of(store, query, Projection())
        found: list[Entity] = []
        with store_errors():
            at = await self._connection.now()
        async for rows in self._batches(selection.command(query.offset, query.limit, STREAM_BATCH), at):
            found.extend(map(entity_of, rows))
        return found

    async def summarize(self, store: str, where: Filter, projection: Projection) -> Summary:
        backwards = tuple(Sort(s.path, True) for s in CREATION)
        match = compile_filter(where)
        counting: Document = {"aggregate": store, "pipeline": [{"$match": match}, {"$count": "n"}], "cursor": {}}
        first = Selection.of(store, Query(where), projection)
        last = Selection.of(store, Query(where, backwards), projection)
        with store_errors():
            reply = await self._connection.snapshot(counting)
            at = time_of(reply)
            counted = reply["cursor"]["firstBatch"]
            if not counted:
                return Summary(self._position(at), 0, None, None)
            ends = [await self._connection.snapshot(end.command(0, 1), at) for end in (first, last)]
        texts = [_writer(projection)(end["cursor"]["firstBatch"][0]) for end in ends]
        return Summary(self._position(at), int(counted[0]["n"]), texts[0], texts[1])

    def _position(self, at: Timestamp) -> str:
        return position.at_time(self._connection.epoch, at)


class _Pieces:
    """Gathers JSON texts into pieces of an array, each of about `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[bytes] = []
        self._bytes = 0
        self._lead = b"["

    def add(self, texts: Iterable[bytes]) -> list[bytes]:
        """Take `texts` in; the pieces that are now full."""
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
        """The rest of the array."""
        if self._texts:
            return self._take() + b"]"
        return b"[]" if self._lead == b"[" else b"]"


def _writer(projection: Projection) -> Writer:
    """The function that shows a document as JSON text."""
    if projection.everything:
        return entity_text
    view = compile_view(projection)
    return lambda document: dumps(view(document))
