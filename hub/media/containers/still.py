"""The first image of a file, and the checks that all formats have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from hub.media.errors import BadImage
from hub.media.jobs import MOST_IMAGE_PIXELS
from stores.bounds import Limit

MOST_BLOCKS: Annotated[int, Limit("image", "blocks of its file", "400")] = 65_536
"""Segments of a JPEG, chunks of a PNG or WebP, blocks of a GIF."""
MOST_PROFILE_BYTES: Annotated[int, Limit("image", "bytes of its colour profile", "ignored")] = 4_194_304

PLAIN: Final = 1
"""The orientation of an image that is stored as it is shown."""


@dataclass(frozen=True, slots=True)
class StillImage:
    """One image, as it is stored.

    Args:
        format: JPEG, PNG, GIF or WEBP.
        data: a file of that format with this image alone.
        width: pixels.
        height: pixels.
        orientation: 1 to 8, as EXIF defines it.
        profile: the ICC profile of its colours, empty without one.
        decoded: bytes that a decoder takes for each pixel, at most.
    """

    format: str
    data: bytes
    width: int
    height: int
    orientation: int = PLAIN
    profile: bytes = b""
    decoded: int = 4


def truncated(name: str) -> BadImage:
    return BadImage(f"The file is not complete: the {name} ends too early.")


def broken(name: str, reason: str) -> BadImage:
    return BadImage(f"The {name} is damaged: {reason}.")


def too_many_blocks(name: str) -> BadImage:
    return BadImage(f"The {name} has more than {MOST_BLOCKS} parts.").at("MOST_BLOCKS")


def check_size(name: str, width: int, height: int) -> None:
    """Raise BadImage if an image has no pixels or too many."""
    if not width or not height:
        raise broken(name, "it has no pixels")
    if width * height > MOST_IMAGE_PIXELS:
        most = MOST_IMAGE_PIXELS // 1_000_000
        text = f"The image has {width} x {height} pixels: at most {most} million are accepted."
        raise BadImage(text).at("MOST_IMAGE_PIXELS")


def accepted_profile(profile: bytes) -> bytes:
    """Return a profile, or nothing if it is too large to be used."""
    return profile if len(profile) <= MOST_PROFILE_BYTES else b""
