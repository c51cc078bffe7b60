"""What to make of an image, and what came of it: the values that the hub and its workers exchange."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from stores.bounds import Limit

MOST_IMAGE_BYTES: Annotated[int, Limit("image", "bytes", "400")] = 15_000_000
MOST_IMAGE_PIXELS: Annotated[int, Limit("image", "pixels", "400")] = 50_000_000

LONGEST_SIDE: Final = 3_000
"""Pixels of a converted image, at most, in width and in height."""
QUALITY: Final = 82
THUMBNAIL_WIDTHS: Final = (160, 320, 640, 1_280)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A mark in the lower right corner of an image: a text, or the path of a PNG file."""

    text: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class ImageJob:
    """Make a WebP of an image, never larger than the image itself.

    Args:
        width: the most pixels in width.
        height: the most pixels in height.
        quality: that of WebP, 0 to 100.
        watermark: the mark to set; None for none.
    """

    width: int = LONGEST_SIDE
    height: int = LONGEST_SIDE
    quality: int = QUALITY
    watermark: Watermark | None = None


def thumbnail(width: int) -> ImageJob:
    """Return the job for a thumbnail. Raises ValueError for a width that is not listed."""
    if width not in THUMBNAIL_WIDTHS:
        raise ValueError(f"{width} is not one of {THUMBNAIL_WIDTHS}")
    return ImageJob(width=width)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A converted image: its pixels, its bytes and its media type."""

    width: int
    height: int
    size: int
    type: str = "image/webp"


@dataclass(frozen=True, slots=True)
class Order:
    """One job for a worker, and the limits that it keeps meanwhile.

    Args:
        source: the absolute path of the file to read.
        target: the absolute path of the file to write; it does not exist.
        seconds: CPU seconds.
        memory_mb: MiB of memory.
        large_mb: MiB from which on the worker asks before it decodes the image.
    """

    source: Path
    target: Path
    job: ImageJob
    seconds: int
    memory_mb: int
    large_mb: int

    def line(self) -> bytes:
        """Return the order as a line of JSON."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Return the order of a line."""
        found = json.loads(line)
        job = found.pop("job")
        mark = job.pop("watermark")
        watermark = Watermark(**mark) if mark else None
        source, target = Path(found.pop("source")), Path(found.pop("target"))
        return cls(source, target, ImageJob(**job, watermark=watermark), **found)
