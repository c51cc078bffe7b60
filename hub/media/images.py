"""The images of the media service: converted by the workers, with the hub's watermark where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.http.errors import BadRequest, Overloaded
from hub.media.errors import BadImage, MediaBusy
from hub.media.jobs import ImageInfo, ImageJob, Watermark, thumbnail
from hub.media.workers import ImageWorkers


@dataclass(frozen=True, slots=True)
class Images:
    """`mark` is the hub's watermark, None for none. `count` counts the images by what became of them: `converted`,
    `refused` or `busy`.

    The methods raise BadRequest for a file that is no image which the hub takes, Overloaded while too many images are
    being converted and for one that takes too much, and StorageFull.
    """

    workers: ImageWorkers
    mark: Watermark | None
    count: Callable[[str], None]

    async def original(self, source: Path, target: Path, *, marked: bool) -> ImageInfo:
        """Write an upload as it will be stored: upright, in sRGB, without metadata, within the largest sides; with the
        hub's watermark if it is to be `marked`, and there is one."""
        return await self._convert(source, target, ImageJob(watermark=self.mark if marked else None))

    async def thumbnail(self, source: Path, target: Path, width: int) -> ImageInfo:
        """Write a stored image with one of the listed widths, and a height in proportion."""
        return await self._convert(source, target, thumbnail(width))

    async def _convert(self, source: Path, target: Path, job: ImageJob) -> ImageInfo:
        try:
            info = await self.workers.convert(source, target, job)
        except BadImage as error:
            self.count("refused")
            raise BadRequest("file", error.text).at(error.limit_name) from error
        except MediaBusy as error:
            self.count("busy")
            raise Overloaded(error.text, "file", error.text, error.retry_after).at(error.limit_name) from error
        self.count("converted")
        return info
