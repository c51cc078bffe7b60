"""Single inserts, gathered: those that arrive while others are on their way to a store go together next time.

Durability costs an exchange with the server and a flush of its journal, whatever the number of documents. Alone, an
insert waits for nobody; in a crowd hundreds share that cost. Each still succeeds or fails by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, WriteConcernError

from stores.mongo.codec import Document
from stores.mongo.connection import Connection

_TOGETHER: Final = 500
_LARGEST: Final = 16 * 1024 * 1024

_Waiting = tuple[RawBSONDocument, asyncio.Future[None]]


class Inserter:
    """Inserts documents into stores, each by a call of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, list[_Waiting]] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}

    async def insert(self, store: str, document: Document) -> None:
        """Insert one document; raises PyMongo's errors as `insert_one` does."""
        data = bson.encode(document)  # here, so that whatever cannot be encoded harms no other
        if len(data) > _LARGEST:
            raise DocumentTooLarge("an entity must not be larger than 16 MB")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(store, []).append((RawBSONDocument(data), done))
        if store not in self._senders:
            self._senders[store] = asyncio.create_task(self._send_all(store))
        await done

    async def _send_all(self, store: str) -> None:
        while waiting := self._waiting[store]:
            self._waiting[store] = waiting[_TOGETHER:]
            await self._send(store, waiting[:_TOGETHER])
        del self._waiting[store], self._senders[store]

    async def _send(self, store: str, waiting: list[_Waiting]) -> None:
        refused: dict[int, BaseException] = {}
        try:
            collection = self._connection.collection(store)
            await collection.insert_many([document for document, _ in waiting], ordered=False)
        except BulkWriteError as error:
            refused = _refusals(error, len(waiting))
        except Exception as error:
            refused = dict.fromkeys(range(len(waiting)), error)
        for index, (_, done) in enumerate(waiting):
            if index in refused:
                done.set_exception(refused[index])
            else:
                done.set_result(None)


def _refusals(error: BulkWriteError, count: int) -> dict[int, BaseException]:
    """What became of the documents of a bulk write that failed: the errors by position."""
    details: Mapping[str, Any] = error.details
    unsure = details.get("writeConcernErrors") or []
    refused: dict[int, BaseException] = {}
    if unsure:  # written, but not known to be durable
        refused = {i: WriteConcernError(unsure[0]["errmsg"], unsure[0]["code"], unsure[0]) for i in range(count)}
    for entry in details.get("writeErrors") or []:
        refused[entry["index"]] = OperationFailure(entry["errmsg"], entry["code"], entry)
    return refused
