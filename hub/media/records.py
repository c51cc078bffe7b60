"""The records of stored files, in a store of the hub's own. Each file belongs to one field of one entity.

A record is ``pending`` before its file is stored. The commit that gives the entity the file makes it ``kept``, so there
is no entity without its file. When the entity has lost the file, the record is ``gone``, and then removed with the
file. A pending record that is older than an hour is gone too; a commit that comes later than that fails.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hub.services.file_keeper import RECORDS
from stores.errors import NotFound
from stores.fields.media import URL
from stores.protocol import UNBOUNDED, Delete, Engine, Insert, Update, UpdateMany, Write
from stores.query import And, Compare, Equal, Filter, In, Query, Sort
from stores.records import Entity, new_id, now_ms
from stores.schema import StoreDefinition

FILES: Final = StoreDefinition(RECORDS, unique=("file",), indexes=("state",))
PENDING, KEPT, GONE = "pending", "kept", "gone"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A stored file. `store` is the id of the definition of its store, which does not change when the store is renamed;
    `time` is in Unix milliseconds."""

    id: str
    file: str
    store: str
    entity: str
    field: str
    type: str
    size: int
    name: str
    width: int | None = None
    height: int | None = None
    state: str = PENDING
    time: int = 0

    @property
    def key(self) -> str:
        """Its key in the storage: in 256 folders, so that none gets too large."""
        return f"{self.file[:2]}/{self.file}"

    @property
    def value(self) -> Entity:
        """The value that the field of the entity has."""
        return {
            "id": self.file, "url": URL + self.file, "type": self.type, "size": self.size, "name": self.name,
            "width": self.width, "height": self.height,
        }  # fmt: skip


class FileRecords:
    """The records in one database. The methods raise the errors of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def define(self) -> None:
        await self._engine.define(FILES)

    async def owner(self) -> str:
        """Return the name of this database by which its storage is marked: the same in every process."""
        return await self._engine.stored_constant("files", str(uuid.uuid4()))

    async def find(self, file: str) -> FileRecord | None:
        found = await self._engine.entities(FILES.name, Query(Equal(("file",), file), limit=1))
        return _record(found[0]) if found else None

    async def among(self, files: Sequence[str]) -> list[FileRecord]:
        """Return those that there are of these files."""
        return [*map(_record, await self._engine.entities(FILES.name, Query(In(("file",), tuple(files)))))]

    async def page(self, after: str = "", states: Sequence[str] = (), limit: int = 200) -> list[FileRecord]:
        """Return some records in these states (none: any), in the order of their ids."""
        parts: list[Filter] = [Compare(("_id",), "gt", after)] if after else []
        if states:
            parts.append(In(("state",), tuple(states)))
        query = Query(And(tuple(parts)), (Sort(("_id",)),), limit=limit)
        return [*map(_record, await self._engine.entities(FILES.name, query))]

    async def add(self, record: FileRecord) -> FileRecord:
        """Record a file that is about to be stored."""
        now = now_ms()
        made = replace(record, id=new_id(), time=now, state=PENDING)
        fields = {name: getattr(made, name) for name in FileRecord.__slots__ if name not in ("id", "time")}
        system: Entity = {"owner": None, "group": None, "access": [], "branch": [], "time": now, "_at": now, "_rev": 1}
        await self._engine.commit([Insert(FILES.name, {"_id": made.id, **fields, **system})], None)
        return made

    def keeping(self, record: FileRecord) -> Write:
        """Return the write that belongs to the commit which gives the entity the file: by it `FileKeeper` knows that
        the commit may. It fails with NotFound if the file has been swept."""
        owner = {"file": record.file, "entity": record.entity}
        return Update(FILES.name, record.id, {"state": KEPT, **owner}, Equal(("state",), PENDING))

    def losing(self, entity: str, files: Iterable[str]) -> Write:
        """Return the write for files that an entity has no more."""
        where = And((In(("file",), tuple(files)), Equal(("entity",), entity), Equal(("state",), KEPT)))
        return UpdateMany(FILES.name, where, {"state": GONE}, UNBOUNDED)

    async def expire(self, before: int) -> None:
        """Give up the pending records that were made before this time."""
        late = And((Equal(("state",), PENDING), Compare(("time",), "lt", before)))
        if await self._engine.entities(FILES.name, Query(late, limit=1)):  # a commit without a change is one, too
            await self._engine.commit([UpdateMany(FILES.name, late, {"state": GONE}, UNBOUNDED)], None)

    async def give_up(self, record: FileRecord) -> None:
        """Give up a pending record, whose commit has failed. If it did not fail, the record stays."""
        try:
            gone = Update(FILES.name, record.id, {"state": GONE}, Equal(("state",), PENDING))
            await self._engine.commit([gone], None)
        except NotFound:
            pass

    async def forget(self, record: FileRecord) -> None:
        """Remove a record, whose file has been removed."""
        try:
            await self._engine.commit([Delete(FILES.name, record.id)], None)
        except NotFound:
            pass


def _record(entity: Entity) -> FileRecord:
    names = (name for name in FileRecord.__slots__ if name != "id")
    return FileRecord(id=entity["_id"], **{name: entity[name] for name in names})
