"""Batched single inserts: they share a request to the server and a flush of its journal. Each one still succeeds or
fails independently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, WriteConcernError

from stores.mongo.coalescer import Coalescer
from stores.mongo.codec import Document
from stores.mongo.connection import Connection
from stores.mongo.errors import MOST_DOCUMENT_BYTES

_BATCH_SIZE: Final = 500


class BatchedInserts:
    """Inserts of documents into stores, one document per call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._coalescer = Coalescer(self._send, _BATCH_SIZE)

    async def insert(self, store: str, document: Document) -> None:
        """Insert one document. Raises PyMongo's errors as `insert_one` does."""
        data = bson.encode(document)  # here, so that a document that cannot be encoded fails alone
        if len(data) > MOST_DOCUMENT_BYTES:
            raise DocumentTooLarge("an entity must not be larger than 16 MB")
        await self._coalescer.call(store, RawBSONDocument(data))

    async def _send(self, store: str, documents: list[RawBSONDocument]) -> list[BaseException | None]:
        try:
            await self._connection.collection(store).insert_many(documents, ordered=False)
        except BulkWriteError as error:
            return _refusals(error, len(documents))
        return [None] * len(documents)


def _refusals(error: BulkWriteError, count: int) -> list[BaseException | None]:
    """Return the error of each document of a failed bulk write, or None."""
    details: Mapping[str, Any] = error.details
    unsure = details.get("writeConcernErrors") or []
    refused: list[BaseException | None] = [None] * count
    if unsure:  # written, but not known to be durable
        refused = [WriteConcernError(unsure[0]["errmsg"], unsure[0]["code"], unsure[0]) for _ in range(count)]
    for entry in details.get("writeErrors") or []:
        own = {**entry, "index": 0}  # the position in the caller's commit, not among those of other callers
        refused[entry["index"]] = OperationFailure(entry["errmsg"], entry["code"], own)
    return refused
