"""What the media service needs of a converter of images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

J = TypeVar("J")

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

    async def original(self, source: Path, target: Path, *, marked: bool) -> ImageInfo:
        """Write an upload as it will be stored: upright, in sRGB, without metadata, within the largest sides; with the
        hub's watermark if it is to be `marked`, and there is one."""

    async def thumbnail(self, source: Path, target: Path, width: int) -> ImageInfo:
        """Write a stored image with this width, and a height in proportion."""


class ImageRefused(Exception):
    """A file that is no image which the hub takes. The text says why."""


class ImagesBusy(Exception):
    """Too many images are being converted, or one took too long: try again after `retry_after` seconds."""

    def __init__(self, text: str, retry_after: int = 1) -> None:
        super().__init__(text)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ConvertedImages(Generic[J]):
    """The `Images` over a function that carries out jobs: one for originals, with the watermark or without, and one for
    each width of a thumbnail. It raises one of `refused` for a bad image and one of `busy` while it cannot convert
    any."""

    convert: Callable[[Path, Path, J], Awaitable[ImageInfo]]
    of_original: Callable[[bool], J]
    of_thumbnail: Callable[[int], J]
    refused: tuple[type[Exception], ...]
    busy: tuple[type[Exception], ...]

    async def original(self, source: Path, target: Path, *, marked: bool) -> ImageInfo:
        return await self._convert(source, target, self.of_original(marked))

    async def thumbnail(self, source: Path, target: Path, width: int) -> ImageInfo:
        return await self._convert(source, target, self.of_thumbnail(width))

    async def _convert(self, source: Path, target: Path, job: J) -> ImageInfo:
        try:
            return await self.convert(source, target, job)
        except self.refused as error:
            raise ImageRefused(str(error)) from error
        except self.busy as error:
            raise ImagesBusy(str(error), getattr(error, "retry_after", 1)) from error
