"""GIF (89a): the first image, with its palette and its transparent colour."""

from __future__ import annotations

import struct
from typing import Final

from hub.media.containers.still import MOST_BLOCKS, StillImage, broken, check_size, too_many_blocks, truncated

MAGICS: Final = (b"GIF87a", b"GIF89a")

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL: Final = 0xF9
_HAS_PALETTE: Final = 0x80


def read(data: bytes) -> StillImage:
    """Return the first image of a GIF. Raises BadImage."""
    if len(data) < 13:
        raise truncated("GIF")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + _palette_bytes(flags)
    head = data[:place]
    control, place = _before_image(data, place)
    if place + 10 > len(data):
        raise truncated("GIF")
    left, top, own_width, own_height = struct.unpack_from("<HHHH", data, place + 1)
    if not own_width or not own_height:
        raise broken("GIF", "its first image has no pixels")
    width, height = max(width, left + own_width), max(height, top + own_height)  # the decoder makes room for it
    check_size("GIF", width, height)
    # The decoder stops at the end of the image, whatever follows.
    return StillImage("GIF", b"".join((head, control, data[place:])), width, height)


def _before_image(data: bytes, place: int) -> tuple[bytes, int]:
    """Return the extension that tells of transparency, and where the first image begins."""
    control = b""
    for _ in range(MOST_BLOCKS):
        if place + 1 >= len(data):
            raise truncated("GIF")
        if data[place] == _IMAGE:
            return control, place
        if data[place] == _TRAILER:
            raise broken("GIF", "it has no image")
        if data[place] != _EXTENSION:
            raise broken("GIF", "one of its blocks is unknown")
        start, label = place, data[place + 1]
        place = _after_blocks(data, place + 2)
        if label == _CONTROL and place - start == 8:
            control = data[start:place]
    raise too_many_blocks("GIF")


def _after_blocks(data: bytes, place: int) -> int:
    """Return where a chain of blocks ends, each of which begins with its length."""
    for _ in range(MOST_BLOCKS):
        if place >= len(data):
            raise truncated("GIF")
        length = data[place]
        place += 1 + length
        if not length:
            return place
    raise too_many_blocks("GIF")


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & _HAS_PALETTE else 0
