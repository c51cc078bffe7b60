"""Thumbnails: made when they are first asked for, once, and kept beside the image."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Annotated, Final

from hub.http.errors import Overloaded
from hub.media.images import Images
from hub.media.incoming import IncomingFolder
from hub.media.jobs import THUMBNAIL_WIDTHS
from hub.media.reading import download
from hub.media.records import KEPT, FileRecord, FileRecords
from hub.media.storage import Storage
from stores.bounds import Limit
from stores.errors import NotFound

log = logging.getLogger(__name__)

MADE_AT_ONCE: Final = 4
"""Thumbnails that are made at once: two workers are busy, and the next images are there."""
MOST_THUMBNAILS: Final[Annotated[int, Limit("process", "thumbnails that are made or wait for that", "503")]] = 200
MOST_KNOWN_SIZES: Final[Annotated[int, Limit("process", "sizes of thumbnails", "the oldest goes")]] = 10_000


def thumbnail_key(record: FileRecord, width: int) -> str:
    return f"{record.key}.w{width}"


def keys_of(record: FileRecord) -> list[str]:
    """Return the keys of a file and of all thumbnails that it may have."""
    return [record.key, *(thumbnail_key(record, width) for width in THUMBNAIL_WIDTHS)]


class Thumbnails:
    def __init__(self, records: FileRecords, storage: Storage, incoming: IncomingFolder, images: Images) -> None:
        self._records = records
        self._storage = storage
        self._incoming = incoming
        self._images = images
        self._making: dict[str, asyncio.Task[int]] = {}
        self._at_work = asyncio.Semaphore(MADE_AT_ONCE)
        self._sizes: OrderedDict[str, int] = OrderedDict()

    async def find(self, record: FileRecord, width: int) -> tuple[str, int]:
        """Return the key and the size of an image in this width, or of the image itself if it is not wider. Raises
        NotFound for another width than the listed ones and for a file that is no image, and Overloaded."""
        if record.width is None or width not in THUMBNAIL_WIDTHS:
            raise NotFound(f"no thumbnail of {record.file} has a width of {width}")
        if record.width <= width:
            return record.key, record.size
        key = thumbnail_key(record, width)
        size = self._sizes.get(key)
        if size is None:
            size = await self._storage.size(key)
            if size is None:
                size = await self._made(record, width, key)
            self._remember(key, size)
        return key, size

    def forget(self, record: FileRecord) -> None:
        """Forget the thumbnails of a file that is removed."""
        for key in keys_of(record):
            self._sizes.pop(key, None)

    async def close(self) -> None:
        """End what is being made."""
        for task in [*self._making.values()]:
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    async def _made(self, record: FileRecord, width: int, key: str) -> int:
        """Make a thumbnail, or wait for the one that is being made. It is made to its end when nobody waits any
        more."""
        task = self._making.get(key)
        if task is None:
            if len(self._making) >= MOST_THUMBNAILS:
                text = "Too many thumbnails are being made (MOST_THUMBNAILS): try again."
                raise Overloaded("too many thumbnails", "w", text).at("MOST_THUMBNAILS")
            task = self._making[key] = asyncio.create_task(self._make(record, width, key))
            task.add_done_callback(lambda _: self._making.pop(key, None))
            task.add_done_callback(_log_failure)
        return await asyncio.shield(task)

    async def _make(self, record: FileRecord, width: int, key: str) -> int:
        async with self._at_work, self._incoming.path() as source, self._incoming.path() as made:
            await download(self._storage, record.key, record.size, source)
            info = await self._images.thumbnail(source, made, width)
            await self._storage.put(key, made)
        now = await self._records.find(record.file)
        if now is None or now.state != KEPT:  # removed meanwhile, perhaps before the thumbnail was there
            await self._storage.delete(key)
            raise NotFound(f"{record.file} has been removed")
        return info.size

    def _remember(self, key: str, size: int) -> None:
        self._sizes[key] = size
        if len(self._sizes) > MOST_KNOWN_SIZES:
            self._sizes.popitem(last=False)


def _log_failure(task: asyncio.Task[int]) -> None:
    """Take note of a failure: those who waited may have gone."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a thumbnail was not made: %s: %s", type(error).__name__, error)
