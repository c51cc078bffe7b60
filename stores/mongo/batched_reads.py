"""Batched reads by id: reads of one store with the same filter and fields share a request to the server."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument

from stores.mongo.coalescer import Coalescer
from stores.mongo.codec import Document, to_id
from stores.mongo.compile import Match, conjunction
from stores.mongo.connection import Connection
from stores.mongo.sizes import decoded
from stores.turns import Turn

_BATCH_SIZE: Final = 100


class BatchedReads:
    """Reads of documents by id, one document per call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._coalescer = Coalescer(self._send, _BATCH_SIZE)

    async def get(self, store: str, id: str, match: Match, fields: dict[str, int]) -> Document | None:
        """Return the `fields` of the document with this id if it matches, otherwise None. Several callers may get the
        same object. Raises PyMongo's errors."""
        # As BSON: in Python 1, 1.0 and True are equal.
        kind = bson.encode({"find": store, "filter": match, "projection": fields})
        return await self._coalescer.call(kind, id)

    async def _send(self, kind: bytes, ids: list[str]) -> list[Document | BaseException | None]:
        command = RawBSONDocument(kind)
        found: dict[str, Document] = {}
        missing = set(ids)
        while missing:
            some = list(islice(missing, self._connection.sizes.fitting(command["find"], len(missing))))
            cursor = await self._find(command, [to_id(id) for id in some])
            turn = Turn()
            for row in cursor["firstBatch"]:
                document = decoded(row)
                found[str(document["_id"])] = document
                if turn.is_over:
                    await turn.pass_on()
            if cursor["id"]:
                # The reply has reached its limit of 16 MB. It contains the first document at least.
                await self._connection.kill(command["find"], cursor["id"])
                missing -= found.keys()
            else:
                missing.difference_update(some)
        return [found.get(id) for id in ids]

    async def _find(self, command: RawBSONDocument, ids: list[Any]) -> Document:
        raw = len(ids) > 1 and self._connection.sizes.may_be_large(command["find"], len(ids))
        by_id = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}}
        reply = await self._connection.command(
            {
                **command,
                "filter": conjunction(by_id, command["filter"]),
                "batchSize": len(ids) + 1,  # one more, so that the server closes the cursor at once
                "readConcern": {"level": "majority"},
            },
            raw=raw,
        )
        cursor: Document = reply["cursor"]
        return cursor
