"""The files of entities: uploads, removals and links, for a principal."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

from auth.principal import Principal
from auth.view import View
from hub.fetch import Fetcher, FetchError
from hub.http.errors import BadRequest, BodyTooLarge, Overloaded
from hub.media.access import field_of
from hub.media.images import Images
from hub.media.incoming import IncomingFolder, head_of
from hub.media.jobs import MOST_IMAGE_BYTES, ImageInfo
from hub.media.links import Links
from hub.media.names import HEAD_BYTES, is_allowed, renamed, safe_name, type_of
from hub.media.records import FileRecord, FileRecords
from hub.media.storage import Storage
from hub.services.entities import EntityService
from hub.services.entity_writes import checked_id, file_field
from hub.services.file_changes import FileChange
from stores.bounds import Limit
from stores.errors import NotFound, StoreError
from stores.field import Field
from stores.fields.media import is_file_id
from stores.protocol import Engine, Revisions
from stores.query import Projection
from stores.records import Entity, new_id
from stores.threads import in_thread

log = logging.getLogger(__name__)

MOST_UPLOADS: Final[Annotated[int, Limit("process", "uploads at once", "503")]] = 64
MOST_UPLOADS_EACH: Final[Annotated[int, Limit("user", "uploads at once", "503")]] = 16
NOT_FETCHED: Final = "This URL could not be fetched."
"""The one answer for every URL that is refused or does not answer: an answer of its own would tell what the hub can
reach."""


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """A field of an entity that a principal may write, or of one that it is about to create. `most_bytes`: the most
    bytes of a file in it."""

    principal: Principal
    view: View
    id: str
    field: Field
    most_bytes: int

    @property
    def is_image(self) -> bool:
        return self.field.kind.uploaded == "image"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived: where it is, and what its sender says of it."""

    path: Path
    name: str | None
    type: str | None


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """A file as it will be stored."""

    path: Path
    name: str
    type: str
    size: int
    image: ImageInfo | None = None


Present = Callable[[], Awaitable[UploadTarget]]
"""Returns the target for the caller's rights once the file is stored. Raises what refuses a caller who has lost
them."""


class MediaService:
    """`most_bytes`: the most bytes of any file."""

    def __init__(
        self,
        engine: Engine,
        entities: EntityService,
        records: FileRecords,
        storage: Storage,
        incoming: IncomingFolder,
        images: Images,
        links: Links,
        most_bytes: int,
        fetcher: Fetcher,
    ) -> None:
        self._engine = engine
        self._entities = entities
        self._registry = entities.registry
        self._records = records
        self._storage = storage
        self._incoming = incoming
        self._images = images
        self._links = links
        self._most_bytes = most_bytes
        self._fetcher = fetcher
        self._owner = ""
        self._arriving: Counter[str] = Counter()
        self.lost = asyncio.Event()
        """Set when there may be files to remove."""

    async def target(self, principal: Principal, store: str, id: str, field: str) -> UploadTarget:
        """Return the field of an entity for an upload. Raises Forbidden, and NotFound if there is no such field of
        files, or no such entity that the principal may change."""
        view = self._registry.authorized(principal, store, "PATCH")
        found = file_field(view, field)
        if await self._engine.get(store, checked_id(id), view.where, Projection((("_id",),))) is None:
            raise NotFound(f"no {store}/{id}")
        return self._target(principal, view, id, found)

    def new_target(self, principal: Principal, store: str, field: str) -> UploadTarget:
        """Return the field of an entity that is yet to be created. Raises Forbidden, and NotFound if there is no such
        field of files."""
        view = self._registry.authorized(principal, store, "POST")
        return self._target(principal, view, new_id(), file_field(view, field))

    def _target(self, principal: Principal, view: View, id: str, field: Field) -> UploadTarget:
        most = min(MOST_IMAGE_BYTES, self._most_bytes) if field.kind.uploaded == "image" else self._most_bytes
        return UploadTarget(principal, view, id, field, min(field.max_bytes or most, most))

    @asynccontextmanager
    async def arriving(self, user: str) -> AsyncIterator[Path]:
        """Return a path for a file that a user sends. Raises Overloaded if too many are on their way."""
        if self._arriving.total() >= MOST_UPLOADS:
            raise _too_many("uploads", "MOST_UPLOADS")
        if self._arriving[user] >= MOST_UPLOADS_EACH:
            raise _too_many("of your uploads", "MOST_UPLOADS_EACH")
        self._arriving[user] += 1
        try:
            async with self._incoming.path() as path:
                yield path
        finally:
            self._arriving[user] -= 1
            if not self._arriving[user]:
                del self._arriving[user]

    async def fetch(self, target: UploadTarget, url: str, path: Path, *, by_name: bool = False) -> Upload:
        """Download a file; `by_name`: only from hosts that have a name. Raises BadRequest for every URL that is refused
        or does not answer."""
        try:
            with path.open("xb") as file:
                fetched = await self._fetcher.download(url, file, target.most_bytes, strict=by_name)
        except FetchError as error:
            log.info("a URL was not fetched for %s: %s", target.principal.login, error)
            raise BadRequest("url", NOT_FETCHED) from error
        return Upload(path, unquote(urlsplit(fetched.url).path), fetched.type)

    async def attach(
        self, target: UploadTarget, ready: ReadyFile, revs: Revisions | None, present: Present | None = None
    ) -> tuple[bytes, int, str]:
        """Store the file and give it to the entity: it is durable before the entity has it. Return the entity's JSON
        text and revision, and the value's URL. Raises StorageFull, and the errors of a change and of `present`."""
        async with self._stored(target, ready) as record:
            target = target if present is None else await present()
            text, rev = await self._entities.change_files(
                target.principal,
                target.view.store,
                target.id,
                target.field.id,
                lambda field: FileChange(field, added=record.value),
                revs,
                [self._records.keeping(record)],
            )
        return text, rev, str(record.value["url"])

    async def create(
        self, target: UploadTarget, ready: ReadyFile, body: Entity, present: Present | None = None
    ) -> tuple[bytes, int]:
        """Store the file, and create an entity with it in one commit. `body` has the other fields. Return the entity's
        JSON text and revision. Raises StorageFull, and the errors of a creation and of `present`."""
        async with self._stored(target, ready) as record:
            target = target if present is None else await present()
            value = [record.value] if target.field.many else record.value
            return await self._entities.create_with_file(
                target.principal,
                target.view.store,
                target.id,
                body,
                {target.field.id: value},
                [self._records.keeping(record)],
            )

    @asynccontextmanager
    async def _stored(self, target: UploadTarget, ready: ReadyFile) -> AsyncIterator[FileRecord]:
        """Record a file and store it. The block commits; if it fails, the file is given up."""
        record = await self._records.add(_record_of(target, ready))
        try:
            await self._claim()
            await self._storage.put(record.key, ready.path)
            yield record
        except BaseException:
            await self._give_up(record)
            raise

    async def detach(
        self, principal: Principal, store: str, id: str, field: str, file: str, revs: Revisions | None
    ) -> tuple[bytes, int]:
        """Take a file from an entity; return the entity's JSON text and revision. Raises NotFound."""
        if not is_file_id(file):
            raise NotFound(f"no file {file!r}")
        return await self._entities.change_files(
            principal, store, id, field, lambda found: FileChange(found, removed=file), revs
        )

    async def link(self, principal: Principal, store: str, id: str, file: str, expires: int) -> str:
        """Return an address of a file of an entity that needs no credentials until `expires` (Unix ms). Raises NotFound
        unless the principal sees the file."""
        view = self._registry.authorized(principal, store, "GET")
        record = await self._records.find(file) if is_file_id(file) else None
        if record is None or (record.store, record.entity) != (view.definition.id, checked_id(id)):
            raise NotFound(f"no file {file!r} of {store}/{id}")
        if await field_of(self._engine, view.definition, record, view.where) is None:
            raise NotFound(f"{file} is not seen")
        return self._links.signed(file, expires)

    @asynccontextmanager
    async def ready(self, target: UploadTarget, upload: Upload) -> AsyncIterator[ReadyFile]:
        """Return the file as it will be stored: an image is converted. Raises BadRequest for a file that the field does
        not take, and Overloaded while too many images are being converted."""
        size = upload.path.stat().st_size
        if size > target.most_bytes:
            raise too_large(target)
        name = safe_name(upload.name)
        if not target.is_image:
            kind = type_of(await in_thread(head_of, upload.path, HEAD_BYTES), name, upload.type)
            if not is_allowed(kind, target.field.types):
                taken = ", ".join(target.field.types)
                raise BadRequest("file", f"This field takes {taken}; this file is {kind}.")
            yield ReadyFile(upload.path, name, kind, size)
            return
        async with self._incoming.path() as converted:
            info = await self._images.original(upload.path, converted, marked=target.field.watermark)
            yield ReadyFile(converted, renamed(name, info.type), info.type, info.size, info)

    async def _claim(self) -> None:
        """Check once that the storage belongs to this database."""
        if not self._owner:
            owner = await self._records.owner()
            await self._storage.claim(owner)
            self._owner = owner

    async def _give_up(self, record: FileRecord) -> None:
        """Let the file be removed soon, unless the commit was made after all."""
        try:
            await asyncio.shield(self._records.give_up(record))
            self.lost.set()
        except StoreError as error:
            log.warning("an unused file is left for the sweep: %s", error)


def _record_of(target: UploadTarget, ready: ReadyFile) -> FileRecord:
    image = ready.image
    return FileRecord(
        id="",
        file=str(uuid.uuid4()),
        store=target.view.definition.id,
        entity=target.id,
        field=target.field.id,
        type=ready.type,
        size=ready.size,
        name=ready.name,
        width=image.width if image else None,
        height=image.height if image else None,
    )


def too_large(target: UploadTarget) -> BodyTooLarge:
    return BodyTooLarge("file", f"The file must not exceed {target.most_bytes} bytes.").at(
        "" if target.field.max_bytes else "MOST_IMAGE_BYTES" if target.is_image else "media_max_bytes"
    )


def _too_many(what: str, limit: str) -> Overloaded:
    text = f"Too many {what} are on their way ({limit}): try again."
    return Overloaded("too many uploads", "file", text).at(limit)
