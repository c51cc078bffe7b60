"""The right to read a file. It has who sees the field with the file, everybody if the field is public, and the holder
of a signed link. A file that its entity has lost exists for nobody, from the commit on and in every process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from auth.principal import Principal
from hub.media.links import Links
from hub.media.records import KEPT, FileRecord, FileRecords
from hub.services.registry import StoreRegistry
from stores.errors import NotFound
from stores.field import Field
from stores.fields.media import files_of, is_file_id
from stores.protocol import Engine
from stores.query import EVERYTHING, Filter, Projection
from stores.records import now_ms
from stores.schema import StoreDefinition


@dataclass(frozen=True, slots=True)
class Readable:
    """A file that the caller may read. `public`: whoever knows its address may. `until`: when the signed link ends by
    which the caller may, in Unix ms."""

    record: FileRecord
    public: bool
    until: int | None = None


class FileAccess:
    """Decides about requests for files, by the entities as they are now."""

    def __init__(self, engine: Engine, registry: StoreRegistry, records: FileRecords, links: Links) -> None:
        self._engine = engine
        self._registry = registry
        self._records = records
        self._links = links

    async def find(
        self, file: str, signature: str | None, authenticate: Callable[[], Awaitable[Principal]]
    ) -> Readable:
        """Return a file that the caller may read. `authenticate` is called for private files without a valid signature.
        Raises NotFound, Forbidden, and the errors of `authenticate`."""
        record = await self._records.find(file) if is_file_id(file) else None
        definition = self._registry.defined_by(record.store) if record is not None else None
        if record is None or definition is None or record.state != KEPT:
            raise NotFound(f"no file {file!r}")
        field = await field_of(self._engine, definition, record)
        if field is None:
            raise NotFound(f"the entity of {file} does not have it")
        if field.public:
            return Readable(record, public=True)
        until = self._links.expiry_of(file, signature) if signature else 0
        if until > now_ms():
            return Readable(record, public=False, until=until)
        view = self._registry.authorized(await authenticate(), definition.name, "GET")
        if await field_of(self._engine, definition, record, view.where) is None:
            raise NotFound(f"the entity of {file} is not seen")
        return Readable(record, public=False)


async def field_of(
    engine: Engine, definition: StoreDefinition, record: FileRecord, where: Filter = EVERYTHING
) -> Field | None:
    """Return the shown field in which an entity that meets `where` has the file; None if there is none."""
    shown = {name: field for name, field in definition.file_fields.items() if name not in definition.hidden}
    if not shown:
        return None
    found = await engine.get(definition.name, record.entity, where, Projection(tuple((name,) for name in shown)))
    if found is None:
        return None
    entity = orjson.loads(found[0])
    has = (name for name in shown if any(file["id"] == record.file for file in files_of(entity.get(name))))
    return next((shown[name] for name in has), None)
