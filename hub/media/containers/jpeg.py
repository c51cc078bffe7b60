"""JPEG (ITU-T T.81, annex B): the segments that the decoder needs, up to the end of the first image."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from hub.media.containers.exif import orientation_of
from hub.media.containers.still import (
    MOST_BLOCKS,
    PLAIN,
    StillImage,
    accepted_profile,
    broken,
    check_size,
    too_many_blocks,
    truncated,
)
from hub.media.errors import BadImage
from stores.bounds import Limit

MOST_SCANS: Annotated[int, Limit("image", "scans of a JPEG", "400")] = 100
"""A progressive image usually has 10."""
MOST_SCANNED_PIXELS: Annotated[int, Limit("image", "pixels of all scans of a JPEG", "400")] = 1_000_000_000
"""Each scan goes through all pixels, although it may have no data."""

MAGIC: Final = b"\xff\xd8\xff"

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES: Final = {0xC0: False, 0xC1: False, 0xC2: True, 0xC9: False, 0xCA: True}
"""Kinds of images that are read, and whether each is progressive."""
_OTHER_FRAMES: Final = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_NEEDED: Final = (*_FRAMES, 0xC4, 0xCC, 0xDB, 0xDD)
"""Frames and tables: Huffman codes, arithmetic conditioning, quantization, restart interval."""
_ALONE: Final = (0x01, *range(0xD0, 0xD8))
"""Markers without a segment."""
_JFIF, _EXIF, _ICC, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
_PROFILE: Final = b"ICC_PROFILE\0"
_AMONG_DATA: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker in the data of a scan: not a stuffed byte, a restart or a fill byte."""


@dataclass(slots=True)
class _Found:
    """What the segments before the first scan tell. `kept` are those for the decoder."""

    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    width: int = 0
    height: int = 0
    components: int = 0
    progressive: bool = False
    exif: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)


def read(data: bytes) -> StillImage:
    """Return the first image of a JPEG. Raises BadImage."""
    found = _Found()
    place = len(found.kept[0])
    segments = _segments(data, place)
    for marker, start, end in segments:
        place = start
        if marker == _SCAN:
            break
        if marker == _END:
            raise broken("JPEG", "it has no image data")
        _look_at(marker, data[start:end], found)
    if not found.components:
        raise broken("JPEG", "it has no image data")
    end, scans = _end_of_image(data, place, found.width * found.height)
    return StillImage(
        "JPEG",
        b"".join((*found.kept, data[place:end])),
        found.width,
        found.height,
        orientation_of(found.exif) if found.exif else PLAIN,
        accepted_profile(b"".join(found.profile[number] for number in sorted(found.profile))),
        # The coefficients of all components are kept from scan to scan.
        decoded=4 + 2 * found.components if found.progressive or scans > 1 else 4,
    )


def _segments(data: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the start and the end of each segment. The start is that of the marker."""
    for _ in range(MOST_BLOCKS):
        if data[place : place + 1] != b"\xff":
            raise truncated("JPEG") if place >= len(data) else broken("JPEG", "a part of it has a wrong length")
        while data[place + 1 : place + 2] == b"\xff":  # fill bytes
            place += 1
        if place + 2 > len(data):
            raise truncated("JPEG")
        marker = data[place + 1]
        end = place + 2
        if marker not in (*_ALONE, _START, _END):
            end = _end_of_segment(data, place)
        yield marker, place, end
        place = end
    raise too_many_blocks("JPEG")


def _end_of_segment(data: bytes, start: int) -> int:
    if start + 4 > len(data):
        raise truncated("JPEG")
    (length,) = struct.unpack_from(">H", data, start + 2)
    if length < 2:
        raise broken("JPEG", "a part of it has a wrong length")
    end = start + 2 + int(length)
    if end > len(data):
        raise truncated("JPEG")
    return end


def _look_at(marker: int, segment: bytes, found: _Found) -> None:
    body = segment[4:]
    if marker in _OTHER_FRAMES:
        raise BadImage("This kind of JPEG (lossless or hierarchical) is not accepted.")
    if marker in _FRAMES:
        _look_at_frame(marker, body, found)
    if marker in _NEEDED or (marker == _ADOBE and body.startswith(b"Adobe")):
        found.kept.append(segment)
    elif marker == _JFIF and body.startswith(b"JFIF\0") and len(found.kept) == 1:
        found.kept.append(segment)  # it tells how colours are stored
    elif marker == _EXIF and body.startswith(b"Exif\0\0"):
        found.exif = found.exif or body
    elif marker == _ICC and body.startswith(_PROFILE) and len(body) > 14:
        found.profile.setdefault(body[12], body[14:])


def _look_at_frame(marker: int, body: bytes, found: _Found) -> None:
    if found.components:
        raise broken("JPEG", "it has two images in one")
    if len(body) < 6:
        raise truncated("JPEG")
    bits, found.height, found.width, found.components = struct.unpack_from(">BHHB", body)
    if bits != 8:
        raise BadImage(f"This kind of JPEG ({bits} bits a colour) is not accepted.")
    if found.components not in (1, 3, 4):
        raise broken("JPEG", f"it has {found.components} colours")
    found.progressive = _FRAMES[marker]
    check_size("JPEG", found.width, found.height)


def _end_of_image(data: bytes, place: int, pixels: int) -> tuple[int, int]:
    """Return where the image ends, and the number of its scans; `place` is the start of the first one. Bytes behind the
    image are not the decoder's business: phones append videos there."""
    scans = parts = 0
    while True:
        marker = data[place + 1]
        if marker == _END:
            return place + 2, scans
        scans += marker == _SCAN
        parts += 1
        if scans > MOST_SCANS or scans * pixels > MOST_SCANNED_PIXELS:
            limit = "MOST_SCANS" if scans > MOST_SCANS else "MOST_SCANNED_PIXELS"
            raise BadImage(f"The JPEG has too many scans ({limit}).").at(limit)
        if parts > MOST_BLOCKS:
            raise too_many_blocks("JPEG")
        end = place + 2 if marker in _ALONE else _end_of_segment(data, place)
        following = _AMONG_DATA.search(data, end)
        if following is None:  # the end is missing, the data may be complete
            return len(data), scans
        place = following.start()
