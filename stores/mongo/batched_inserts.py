"""Batched single inserts: they share an exchange with the server and a flush of its journal, whatever their number.
Each still succeeds or fails by itself."""

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
    """Inserts documents into stores, each by a call of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._coalescer = Coalescer(self._send, _BATCH_SIZE)

    async def insert(self, store: str, document: Document) -> None:
        """Insert one document; raises PyMongo's errors as `insert_one` does."""
        data = bson.encode(document)  # here, so that whatever cannot be encoded harms no other
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
    """What became of the documents of a bulk write that failed."""
    details: Mapping[str, Any] = error.details
    unsure = details.get("writeConcernErrors") or []
    refused: list[BaseException | None] = [None] * count
    if unsure:  # written, but not known to be durable
        refused = [WriteConcernError(unsure[0]["errmsg"], unsure[0]["code"], unsure[0]) for _ in range(count)]
    for entry in details.get("writeErrors") or []:
        refused[entry["index"]] = OperationFailure(entry["errmsg"], entry["code"], entry)
    return refused
