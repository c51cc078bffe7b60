"""The upserts of one array: the entities that they meet are read together, and they are written in a few requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, UpdateOne

from stores import records
from stores.errors import InvalidEntity
from stores.mongo.bounding import check_size
from stores.mongo.codec import Document, revision, to_document
from stores.mongo.compile import Match, compile_filter, conjunction
from stores.mongo.computing import PART_BYTES, PART_WRITES, alter_document
from stores.mongo.sizes import LARGE_DOCUMENT, decoded
from stores.mongo.stamps import NextStamps
from stores.paths import value_at
from stores.protocol import Upsert, UpsertBytes, Written
from stores.records import Entity
from stores.threads import in_thread


@dataclass(slots=True)
class Part:
    """Writes for one request, and their indexes in the array."""

    statements: list[InsertOne[Document] | UpdateOne] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    size: int = 0


class UpsertRun:
    """Upserts into one store by one key, with different values of the key, for the user `by`. `stamps` gives those of
    the entities that are altered."""

    def __init__(self, writes: Sequence[Upsert], by: str | None, met: UpsertBytes, stamps: NextStamps) -> None:
        self._writes = writes
        self._by = by
        self._met = met
        self._stamps = stamps
        self._key = writes[0].key
        values = (value_at(write.entity, self._key) for write in writes)
        self._indexes = {value: index for index, value in enumerate(values) if value is not None}
        self._statements: dict[int, InsertOne[Document] | UpdateOne] = {}
        self._outcome: dict[int, Written] = {}
        self._most_computed = max(0 if w.compute is None else w.compute.size for w in writes)

    @property
    def match(self) -> Match:
        """The condition for the entities that the writes may meet."""
        return conjunction({self._key: {"$in": [*self._indexes]}}, compile_filter(self._writes[0].where))

    async def meet(self, row: RawBSONDocument) -> None:
        """Merge the write with this value of the key into an entity. Raises UpsertTooLarge, and the InvalidEntity of
        what it computes."""
        if len(row.raw) + self._most_computed > LARGE_DOCUMENT:
            await in_thread(self._meet, row)
        else:
            self._meet(row)

    def _meet(self, row: RawBSONDocument) -> None:
        document = decoded(row)
        value = value_at(document, self._key)
        # An array with the value as an element, or a number of a type that JSON does not have: no entity to merge into.
        index = self._indexes.get(value) if isinstance(value, str | int | float) else None
        if index is None:
            return
        made = alter_document(document, self._writes[index], self._by, stamps=self._stamps)
        self._met.add(made.before)
        if made.update is not None:
            self._statements[index] = UpdateOne({"_id": made.id}, made.update)
        self._outcome[index] = made.written

    def has_met(self, index: int) -> bool:
        """Return whether the write at this index has met an entity."""
        return index in self._outcome

    def add_new(self, index: int, entity: Entity) -> None:
        """Insert the entity of the write at this index, which has met none. Raises InvalidEntity."""
        if missing := self._writes[index].missing:
            raise InvalidEntity(missing)
        self._statements[index] = InsertOne(to_document(entity, self._by))
        # The same text as that of the document: an entity begins with its `_id`, as a document does.
        self._outcome[index] = Written(orjson.dumps(entity), revision(entity))

    def check_size(self, index: int, most: int) -> None:
        """Raise EntityTooLarge if the write at this index makes an entity of more than `most` bytes."""
        statement = self._statements.get(index)
        write = self._writes[index]
        plain = isinstance(statement, UpdateOne) and write.compute is None
        shares = plain and records.concerns_system_fields(write.changes)
        if statement is not None and not shares:
            check_size(self._outcome[index].entity, most)

    @property
    def size(self) -> int:
        """The bytes of the entities that are written."""
        return sum(len(self._outcome[index].entity) for index in self._statements)

    def parts(self) -> Iterator[Part]:
        """Yield the writes in their order, in parts of about `PART_BYTES`."""
        part = Part()
        for index in sorted(self._statements):
            part.statements.append(self._statements.pop(index))
            part.indexes.append(index)
            part.size += len(self._outcome[index].entity)
            if part.size > PART_BYTES or len(part.indexes) == PART_WRITES:
                yield part
                part = Part()
        if part.indexes:
            yield part

    def outcome(self) -> list[Written]:
        """Return the outcomes of all writes, in their order."""
        return [self._outcome[index] for index in range(len(self._writes))]
