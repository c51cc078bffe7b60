"""The bound on the size of an entity after a write, in bytes of JSON text.

For small entities, a condition on the size of the document is checked in the same step as the write. Only an entity
that may be near the bound is read first, and the write then requires the revision that was read.
"""

from __future__ import annotations

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
from stores.threads import in_thread

_TEXT_PER_BYTE: Final = 6
"""The most bytes of JSON text for a byte of BSON: those of a control character."""

_SYSTEM_BYTES: Final = 524_288
"""The most bytes of JSON text of system fields: 10 000 users in `access`, and the groups above."""

SIZE: Final = {"$bsonSize": "$$ROOT"}


class SizeLimit:
    """The limit of `most` bytes on an entity, for one write."""

    def __init__(self, most: int, write: Update | Upsert | UpdateMany) -> None:
        self._most = most
        self._changes = write.changes
        self._replaces = isinstance(write, Update) and write.replace
        self._free = records.concerns_system_fields(write.changes)
        self._size = 0 if self._free else len(orjson.dumps(write.changes))

    @property
    def harmless(self) -> int | None:
        """The size in bytes up to which a document is certainly within the limit after the write; None if every
        document is."""
        if self._free or (self._replaces and self._size + _SYSTEM_BYTES <= self._most):
            return None
        return -1 if self._replaces else (self._most - self._size) // _TEXT_PER_BYTE

    @property
    def quick(self) -> Match:
        """The condition for documents that are certainly within the limit after the write."""
        return {} if self.harmless is None else {"$expr": {"$lte": [SIZE, self.harmless]}}

    @property
    def likely(self) -> Match:
        """A condition that holds for nearly all documents within the limit after the write, and for few beyond it."""
        before = 0 if self._replaces else SIZE
        return {} if self.harmless is None else {"$expr": {"$lte": [before, self._most - self._size]}}

    def check(self, text: bytes, entity: Entity) -> None:
        """Raise EntityTooLarge if the entity would exceed the limit after the write. `text` is its JSON text."""
        if self._free or (not self._replaces and len(text) + self._size <= self._most):
            return
        kept = {name: entity[name] for name in SYSTEM_FIELDS if name in entity} if self._replaces else entity
        check_size(orjson.dumps({**kept, **self._changes}), self._most)


def check_size(text: bytes, most: int) -> None:
    if len(text) > most:
        raise EntityTooLarge(most)


async def opened(row: Mapping[str, Any]) -> tuple[bytes, Entity]:
    """Return the entity in a document, decoded or raw, as JSON text and as values."""
    if isinstance(row, RawBSONDocument) and len(row.raw) > LARGE_DOCUMENT:
        return await in_thread(_opened, row)
    return _opened(row)


def _opened(row: Mapping[str, Any]) -> tuple[bytes, Entity]:
    document: Document = decoded(row)
    text = entity_text(document)
    return text, orjson.loads(text)
