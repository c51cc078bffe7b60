"""The bound of one entity, judged as it would be after a write, in bytes of JSON text.

A condition on the document's own size lets small entities pass in the same step as the write. Only an entity that may
be near the bound is read before, and the write bound to the revision that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
from bson.raw_bson import RawBSONDocument

from stores import records
from stores.errors import EntityTooLarge
from stores.mongo.codec import Document, entity_text
from stores.mongo.compile import Match
from stores.mongo.sizes import LARGE_DOCUMENT, decoded
from stores.protocol import Update, UpdateMany, Upsert
from stores.records import SYSTEM_FIELDS, Entity

_TEXT_PER_BYTE: Final = 6
"""JSON text that a byte of BSON stands for, at most: a control character."""

_SYSTEM_BYTES: Final = 524_288
"""Bytes of JSON text that system fields take, at most: 10 000 users in `access`, and the groups above."""

SIZE: Final = {"$bsonSize": "$$ROOT"}


class Bound:
    """`most`: bytes of one entity, for a write of `changes`."""

    def __init__(self, most: int, write: Update | Upsert | UpdateMany) -> None:
        self._most = most
        self._changes = write.changes
        self._replaces = isinstance(write, Update) and write.replace
        self._free = records.concerns_system_fields(write.changes)
        self._size = 0 if self._free else len(orjson.dumps(write.changes))

    @property
    def harmless(self) -> int | None:
        """Bytes of a document that is surely within the bound after the write; None if any is."""
        if self._free or (self._replaces and self._size + _SYSTEM_BYTES <= self._most):
            return None
        return -1 if self._replaces else (self._most - self._size) // _TEXT_PER_BYTE

    @property
    def quick(self) -> Match:
        """True of documents that are surely within the bound after the write."""
        return {} if self.harmless is None else {"$expr": {"$lte": [SIZE, self.harmless]}}

    @property
    def likely(self) -> Match:
        """True of nearly all documents that are within the bound after the write, and of few that are beyond it."""
        before = 0 if self._replaces else SIZE
        return {} if self.harmless is None else {"$expr": {"$lte": [before, self._most - self._size]}}

    def check(self, text: bytes, entity: Entity) -> None:
        """Raise EntityTooLarge if the entity (also as JSON text) would be beyond the bound after the write."""
        if self._free or (not self._replaces and len(text) + self._size <= self._most):
            return
        kept = {name: entity[name] for name in SYSTEM_FIELDS if name in entity} if self._replaces else entity
        check_size(orjson.dumps({**kept, **self._changes}), self._most)


def check_size(text: bytes, most: int) -> None:
    if len(text) > most:
        raise EntityTooLarge(most)


async def opened(row: Mapping[str, Any]) -> tuple[bytes, Entity]:
    """The entity in a document that is yet to be decoded, as JSON text and as values."""
    if isinstance(row, RawBSONDocument) and len(row.raw) > LARGE_DOCUMENT:
        return await asyncio.to_thread(_opened, row)
    return _opened(row)


def _opened(row: Mapping[str, Any]) -> tuple[bytes, Entity]:
    document: Document = decoded(row)
    text = entity_text(document)
    return text, orjson.loads(text)
