"""The newest entities for each of several values (`stores.newest`)."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from bson import ObjectId

from stores.errors import ReadTooLarge
from stores.mongo.codec import Document, to_id, with_revision
from stores.mongo.compile import compile_filter, compile_projection, compile_sort, field_name
from stores.mongo.connection import META, Connection, Session
from stores.mongo.documents import Row, document_groups
from stores.mongo.errors import store_errors
from stores.mongo.reading import renderer_of
from stores.mongo.slow_reads import milliseconds
from stores.newest import Collected, Newest, Texts
from stores.paths import Path
from stores.query import NEWEST_FIRST, Projection
from stores.relation import Value, values_along
from stores.turns import Turn

_CONCERN: Final[Document] = {"level": "majority"}

_BATCH: Final = 1_000
"""The most documents in one reply of the server."""


class NewestReader:
    """Reads the newest entities for each of several values."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, store: str, wanted: Newest, projection: Projection) -> Texts:
        """See `stores.protocol.Engine.newest`."""
        if not wanted.values:
            return {}
        with store_errors():
            if wanted.path == ("_id",):
                return await self._by_id(store, wanted, projection)
            if wanted.each == 1:
                return await self._newest_one(store, wanted, projection)
            return await self._newest_of_each(store, wanted, projection)

    async def _by_id(self, store: str, wanted: Newest, projection: Projection) -> Texts:
        """Find the entity of each value, of which none has several."""
        render, texts, size = renderer_of(projection), Texts(), 0
        command = _find(store, wanted, projection, (("_rev",),))
        async with aclosing(self._groups(store, store, command)) as groups:
            async for documents in groups:
                ids = [str(document["_id"]) for document in documents]
                for id, document in zip(ids, documents, strict=True):
                    if type(document["_id"]) is ObjectId:
                        document["_id"] = id  # so that it is not converted again
                found = list(map(render, documents))
                self._connection.sizes.note(store, max(map(len, found)))
                size += sum(map(len, found))
                if size > wanted.most_bytes:
                    raise ReadTooLarge(wanted.most_bytes)
                texts.update((id, [text]) for id, text in zip(ids, found, strict=True))
        return texts

    async def _newest_one(self, store: str, wanted: Newest, projection: Projection) -> Texts:
        """Find the entities of all values by one condition: almost always, the path is unique, and this takes a tenth
        of the time of a lookup for each value."""
        command = _find(store, wanted, projection, (wanted.path, ("time",), ("_rev",)))
        render, sought = renderer_of(projection), frozenset(wanted.values)
        newest: dict[Value, tuple[tuple[float, str], bytes]] = {}
        collected = Collected(wanted)
        async for document in self._documents(store, store, command):
            values = values_along(_with_text_id(document), wanted.path) & sought
            key, text = _age(document), render(document)
            self._connection.sizes.note(store, len(text))
            for value in values:
                if value not in newest:
                    collected.count(text)
                if value not in newest or newest[value][0] < key:
                    newest[value] = key, text
        return {value: [text] for value, (_, text) in newest.items()}

    async def _newest_of_each(self, store: str, wanted: Newest, projection: Projection) -> Texts:
        """Look up each value, so that the index of its entities in order of creation is read from the end, and no
        further than needed."""
        render, collected = renderer_of(projection), Collected(wanted)
        async for document in self._documents(META, store, lookup(store, wanted, projection)):
            text = render(document["found"])
            self._connection.sizes.note(store, len(text))
            collected.add(wanted.values[int(document["number"])], text)
        return collected.texts

    async def _documents(self, collection: str, store: str, command: Document) -> AsyncGenerator[Document]:
        """Yield the documents of a reading command."""
        async with aclosing(self._groups(collection, store, command)) as groups:
            async for documents in groups:
                for document in documents:
                    yield document

    async def _groups(self, collection: str, store: str, command: Document) -> AsyncGenerator[Sequence[Document]]:
        """Yield the documents of a reading command in groups, and let other tasks run in between."""
        turn = Turn()
        async with aclosing(self._batches(collection, store, command)) as batches:
            async for rows in batches:
                for documents in document_groups(rows):
                    yield documents
                    if turn.is_over:
                        await turn.pass_on()

    async def _batches(self, collection: str, store: str, command: Document) -> AsyncGenerator[Sequence[Row]]:
        """Yield the replies of the server to a reading command, not decoded."""
        batch = self._connection.sizes.fitting(store, _BATCH)
        own = {"batchSize": batch} if "find" in command else {"cursor": {"batchSize": batch}}
        cursor = 0
        async with self._connection.client.start_session(causal_consistency=False) as session:
            try:
                reply = await self._connection.reads.run(self._run({**command, **own}, session))
                cursor = reply["cursor"]["id"]
                yield reply["cursor"]["firstBatch"]
                while cursor:
                    more = {"getMore": cursor, "collection": collection, "batchSize": batch}
                    reply = await self._connection.reads.run_piece(self._run(more, session))
                    cursor = reply["cursor"]["id"]
                    yield reply["cursor"]["nextBatch"]
            finally:
                if cursor:
                    await self._connection.kill(collection, cursor)

    def _run(self, command: Document, session: Session) -> Any:
        async def run(most: float) -> Document:
            bound = {} if "getMore" in command else {"maxTimeMS": milliseconds(most), "readConcern": _CONCERN}
            return await self._connection.command({**command, **bound}, session, raw=True)

        return run


def _find(store: str, wanted: Newest, projection: Projection, needed: tuple[Path, ...]) -> Document:
    """Return the command for the entities of all values, with the fields of the projection and those needed here."""
    return {
        "find": store,
        "filter": compile_filter(wanted.condition),
        "projection": compile_projection(projection, needed),
    }


def lookup(store: str, wanted: Newest, projection: Projection) -> Document:
    """Return the command that looks up each value: documents of the number of a value and one of its entities."""
    values = [to_id(value) for value in wanted.values] if wanted.path == ("_id",) else [*wanted.values]
    found: list[Document] = [
        {"$match": compile_filter(wanted.where)},
        {"$sort": compile_sort(NEWEST_FIRST)},
        {"$limit": wanted.each},
        {"$project": compile_projection(projection, (("_rev",),))},
    ]
    pipeline: list[Document] = [
        # The values as documents. The aggregation begins at a document that every database of a hub has.
        {"$match": {"_id": "epoch"}},
        {"$project": {"_id": 0, "value": {"$literal": values}}},
        {"$unwind": {"path": "$value", "includeArrayIndex": "number"}},
        {
            "$lookup": {
                "from": store,
                "localField": "value",
                "foreignField": field_name(wanted.path),
                "pipeline": found,
                "as": "found",
            }
        },
        # One document for each entity: those of one value may be larger than a document may be.
        {"$unwind": "$found"},
        {"$project": {"value": 0}},
    ]
    return {"aggregate": META, "pipeline": pipeline, "allowDiskUse": True}


def _with_text_id(document: Document) -> Document:
    """Return the document with its id as text, as entities have it."""
    return {**document, "_id": str(document["_id"])}


def _age(document: Document) -> tuple[float, str]:
    """Return a sort key, greater for a later document."""
    time = with_revision(document).get("time")
    return (time if isinstance(time, int | float) else -math.inf), str(document["_id"])
