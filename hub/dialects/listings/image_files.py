"""The files of the images of listings, in the media service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from starlette.datastructures import UploadFile

from auth.principal import Principal
from hub.dialects.listings.stores import ListingStores
from hub.http.errors import BadRequest
from hub.media.files import MediaService, ReadyFile, Upload, UploadTarget
from hub.media.incoming import copy
from stores.bounds import Limited
from stores.records import Entity
from stores.threads import in_thread

FIELD: Final = "image"
"""The field of images that has the file."""


class ImageRefused(Limited):
    """A file that is no image which the hub takes, or a URL that is not fetched. `field` is the one with the fault in
    the body, `text` what the caller is told."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


@dataclass(frozen=True, slots=True)
class ConvertedImage:
    """A converted file, and the image that it will belong to."""

    target: UploadTarget
    file: ReadyFile


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Converts the files of images, and stores them."""

    media: MediaService
    stores: ListingStores

    def arriving(self, principal: Principal) -> AbstractAsyncContextManager[Path]:
        """Return a path for a file, for as long as the block. Raises Overloaded if too many are on their way."""
        return self.media.arriving(principal.user_id)

    @asynccontextmanager
    async def from_upload(self, principal: Principal, file: UploadFile, path: Path) -> AsyncIterator[ConvertedImage]:
        """Convert an uploaded file; remove the result at the end of the block, unless it was stored. Raises
        ImageRefused, and Overloaded while too many are being converted."""
        target = self._target(principal)
        await in_thread(copy, file.file, path)
        async with self._converted(target, Upload(path, file.filename, file.content_type)) as image:
            yield image

    @asynccontextmanager
    async def from_url(self, principal: Principal, url: str, path: Path) -> AsyncIterator[ConvertedImage]:
        """Fetch the file at a URL, and convert it as `from_upload` does."""
        target = self._target(principal)
        with _refusals():
            upload = await self.media.fetch(target, url, path, by_name=True)
        async with self._converted(target, upload) as image:
            yield image

    async def create(self, image: Entity, ready: ConvertedImage, present: Callable[[], Awaitable[Principal]]) -> bytes:
        """Store a converted file, then create an image with it in one commit; return the image as JSON text. `image`:
        the other fields of the image; `present` returns the principal, once the file is stored. Raises the errors of
        `EntityService.create` and of `present`."""

        async def target() -> UploadTarget:
            return replace(ready.target, principal=await present())

        text, _ = await self.media.create(ready.target, ready.file, image, target)
        return text

    def _target(self, principal: Principal) -> UploadTarget:
        return self.media.new_target(principal, self.stores.names().images, FIELD)

    @asynccontextmanager
    async def _converted(self, target: UploadTarget, upload: Upload) -> AsyncIterator[ConvertedImage]:
        async with AsyncExitStack() as stack:
            with _refusals():
                file = await stack.enter_async_context(self.media.ready(target, upload))
            yield ConvertedImage(target, file)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise what the media service refuses as ImageRefused."""
    try:
        yield
    except BadRequest as error:
        texts = " ".join(text for texts in error.errors.values() for text in texts)
        # A file has the same fault wherever it comes from.
        field = "external_url" if "url" in error.errors else "image"
        raise ImageRefused(field, texts).at(error.limit_name) from error
