"""The upserts of one array: the entities that they meet are read together, and they are written in a few requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, UpdateOne

from stores import records
from stores.errors import InvalidEntity
from stores.mongo.bounding import check_size
from stores.mongo.codec import BY, Document, entity_text, revision, to_document
from stores.mongo.compile import Match, compile_filter, conjunction
from stores.mongo.sizes import LARGE_DOCUMENT, decoded
from stores.paths import value_at
from stores.protocol import Upsert, UpsertBytes, Written
from stores.records import Entity
from stores.threads import in_thread

PART_BYTES: Final = 2_097_152
"""Bytes of documents that are sent to the server together: the driver encodes them in one call."""

_PART_WRITES: Final = 1_000
"""Writes that are sent to the server together."""


@dataclass(slots=True)
class Part:
    """Writes for one request, and their places in the array."""

    statements: list[InsertOne[Document] | UpdateOne] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    size: int = 0


class UpsertRun:
    """Upserts into one store by one key, with different values of the key, for the user `by`."""

    def __init__(self, writes: Sequence[Upsert], by: str | None, met: UpsertBytes) -> None:
        self._writes = writes
        self._by = by
        self._met = met
        self._key = writes[0].key
        values = (value_at(write.entity, self._key) for write in writes)
        self._places = {value: place for place, value in enumerate(values) if value is not None}
        self._statements: dict[int, InsertOne[Document] | UpdateOne] = {}
        self._outcome: dict[int, Written] = {}

    @property
    def match(self) -> Match:
        """The condition for the entities that the writes may meet."""
        return conjunction({self._key: {"$in": [*self._places]}}, compile_filter(self._writes[0].where))

    async def meet(self, row: RawBSONDocument) -> None:
        """Merge the write with this value of the key into an entity. Raises UpsertTooLarge."""
        if len(row.raw) > LARGE_DOCUMENT:
            await in_thread(self._meet, row)
        else:
            self._meet(row)

    def _meet(self, row: RawBSONDocument) -> None:
        document = decoded(row)
        value = value_at(document, self._key)
        # An array with the value as an element, or a number of a type that JSON does not have: no entity to merge into.
        place = self._places.get(value) if isinstance(value, str | int | float) else None
        if place is None:
            return
        text = entity_text(document)
        self._met.add(len(text))
        entity: Entity = orjson.loads(text)
        write, rev, count = self._writes[place], revision(entity), 0
        if write.forced or records.alters(entity, write.changes):
            self._statements[place] = UpdateOne({"_id": document["_id"]}, merge(write.changes, self._by))
            rev, count = rev + 1, 1
            text = orjson.dumps({**entity, **changeable(write.changes), "_rev": rev})
        self._outcome[place] = Written(text, rev, count)

    def has_met(self, place: int) -> bool:
        """Return whether the write at this place has met an entity."""
        return place in self._outcome

    def add_new(self, place: int, entity: Entity) -> None:
        """Insert the entity of the write at this place, which has met none. Raises InvalidEntity."""
        if missing := self._writes[place].missing:
            raise InvalidEntity(missing)
        self._statements[place] = InsertOne(to_document(entity, self._by))
        # The same text as that of the document: an entity begins with its `_id`, as a document does.
        self._outcome[place] = Written(orjson.dumps(entity), revision(entity))

    def check_size(self, place: int, most: int) -> None:
        """Raise EntityTooLarge if the write at this place makes an entity of more than `most` bytes."""
        statement = self._statements.get(place)
        shares = isinstance(statement, UpdateOne) and records.concerns_system_fields(self._writes[place].changes)
        if statement is not None and not shares:
            check_size(self._outcome[place].entity, most)

    @property
    def size(self) -> int:
        """The bytes of the entities that are written."""
        return sum(len(self._outcome[place].entity) for place in self._statements)

    def parts(self) -> Iterator[Part]:
        """Yield the writes in their order, in parts of about `PART_BYTES`."""
        part = Part()
        for place in sorted(self._statements):
            part.statements.append(self._statements.pop(place))
            part.places.append(place)
            part.size += len(self._outcome[place].entity)
            if part.size > PART_BYTES or len(part.places) == _PART_WRITES:
                yield part
                part = Part()
        if part.places:
            yield part

    def outcome(self) -> list[Written]:
        """Return the outcomes of all writes, in their order."""
        return [self._outcome[place] for place in range(len(self._writes))]


def merge(changes: Entity, by: str | None) -> Document:
    """Return the update that merges `changes` into a document, for the user `by`."""
    return {"$set": {**changeable(changes), BY: by}, "$inc": {"_rev": 1}}


def changeable(changes: Entity) -> Entity:
    """Return the changes without the fields that no write sets to a given value."""
    return {name: value for name, value in changes.items() if name not in ("_id", "_rev", BY)}
