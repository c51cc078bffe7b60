"""What the media service needs of a converter of images."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from stores.errors import Unavailable

WIDTHS: Final = (160, 320, 640, 1280)
"""Widths of thumbnails, in pixels."""


class ImageInfo(Protocol):
    """An image that has been written: its sides in pixels, its bytes, and its media type."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def type(self) -> str: ...


class Images(Protocol):
    """Converts images, away from the event loop. The methods raise ImageRefused, ImagesBusy and OSError."""

    async def original(self, source: Path, target: Path) -> ImageInfo:
        """Write an upload as it will be stored: upright, in sRGB, without metadata, within the largest sides."""

    async def thumbnail(self, source: Path, target: Path, width: int) -> ImageInfo:
        """Write a stored image with this width, and a height in proportion."""


class ImageRefused(Exception):
    """A file that is no image which the hub takes. The text says why."""


class ImagesBusy(Exception):
    """Too many images are being converted, or one took too long: try again."""


class NoImages:
    """The `Images` of a hub that cannot convert any."""

    async def original(self, source: Path, target: Path) -> ImageInfo:
        raise Unavailable("this hub cannot convert images")

    async def thumbnail(self, source: Path, target: Path, width: int) -> ImageInfo:
        raise Unavailable("this hub cannot convert images")
