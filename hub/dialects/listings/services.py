"""What the writes of the listings API need of services beyond the entities: files of images, and registration."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.datastructures import UploadFile

from auth.principal import Principal
from stores.records import Entity


class ImageRefused(Exception):
    """A file that is no image, or one that the hub does not take. Its argument is the text for the caller."""


class UrlRefused(Exception):
    """A URL that may not be fetched, or does not answer with a file. Callers are not told why."""


class ImageFiles(Protocol):
    """Converts the files of images, and stores them. What stands for a converted file is its own matter."""

    def from_upload(self, principal: Principal, file: UploadFile) -> AbstractAsyncContextManager[Any]:
        """Convert an uploaded file; remove the result at the end of the block, unless it was stored. Raises
        ImageRefused, and Overloaded while too many are being converted."""

    def from_url(self, principal: Principal, url: str) -> AbstractAsyncContextManager[Any]:
        """Fetch the file at a URL, and convert it as `from_upload` does. Raises UrlRefused too."""

    async def create(self, principal: Principal, image: Entity, ready: Any) -> bytes:
        """Store a converted file, then create an image with it in one commit; return the image as JSON text. `image`:
        the other fields of the image. Raises the errors of `EntityService.create`."""


class Registration(Protocol):
    """Keys that read, for users who prove that they get the mail to their address."""

    async def request_code(self, login: str, address: str) -> None:
        """Mail a code to the user, if there is one. `address`: that of the client."""

    async def verify(self, login: str, code: str, name: str) -> tuple[str, Entity]:
        """Exchange a code for a new key with this name; return its secret and the user. Raises BadRequest, without a
        reason, for a wrong or expired code."""
