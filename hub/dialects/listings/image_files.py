"""The files of images in the media service: `hub.dialects.listings.services.ImageFiles`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from starlette.datastructures import UploadFile

from auth.principal import Principal
from hub.dialects.listings.services import ImageRefused, UrlRefused
from hub.dialects.listings.stores import ListingStores
from hub.http.errors import BadRequest
from hub.media.files import MediaService, ReadyFile, Upload, UploadTarget
from hub.media.incoming import copy
from stores.records import Entity
from stores.threads import in_thread

FIELD: Final = "image"
"""The field of images that has the file."""


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """A converted file, and the image that it will belong to."""

    target: UploadTarget
    file: ReadyFile


@dataclass(frozen=True, slots=True)
class MediaImages:
    media: MediaService
    stores: ListingStores

    @asynccontextmanager
    async def from_upload(self, principal: Principal, file: UploadFile) -> AsyncIterator[ConvertedImage]:
        target = self._target(principal)
        async with self.media.arriving(principal.user_id) as path:
            await in_thread(copy, file.file, path)
            async with self._converted(target, Upload(path, file.filename, file.content_type)) as image:
                yield image

    @asynccontextmanager
    async def from_url(self, principal: Principal, url: str) -> AsyncIterator[ConvertedImage]:
        target = self._target(principal)
        async with self.media.arriving(principal.user_id) as path:
            with _refused_as(UrlRefused):
                upload = await self.media.fetch(target, url, path)
            async with self._converted(target, upload) as image:
                yield image

    async def create(self, principal: Principal, image: Entity, ready: ConvertedImage) -> bytes:
        text, _ = await self.media.create(replace(ready.target, principal=principal), ready.file, image)
        return text

    def _target(self, principal: Principal) -> UploadTarget:
        return self.media.new_target(principal, self.stores.names().images, FIELD)

    @asynccontextmanager
    async def _converted(self, target: UploadTarget, upload: Upload) -> AsyncIterator[ConvertedImage]:
        converting = self.media.ready(target, upload)
        with _refused_as(ImageRefused):
            file = await converting.__aenter__()
        try:
            yield ConvertedImage(target, file)
        finally:
            await converting.__aexit__(None, None, None)


@contextmanager
def _refused_as(kind: type[ImageRefused | UrlRefused]) -> Iterator[None]:
    """Raise what the media service refuses as an error of another type."""
    try:
        yield
    except BadRequest as refusal:
        raise kind(" ".join(text for texts in refusal.errors.values() for text in texts)) from refusal
