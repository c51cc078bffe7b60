"""WebP (RFC 9649): the image, or the first frame of an animation on its canvas, without metadata."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

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

_HEAD: Final = 12
_LOSSY, _LOSSLESS, _EXTENDED = b"VP8 ", b"VP8L", b"VP8X"
_ALPHA, _ANIMATION = 0x10, 0x02
"""Flags of the extended format."""
_DECODED: Final = 12
"""Bytes for each pixel: two canvases of the decoder and a copy."""


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:_HEAD] == b"WEBP"


def read(data: bytes) -> StillImage:
    """Return the first image of a WebP. Raises BadImage."""
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + int(length)
    if end > len(data):
        raise truncated("WebP")
    chunks = list(_chunks(data, _HEAD, end))
    if not chunks:
        raise truncated("WebP")
    found: dict[bytes, bytes] = {}
    for name, body in chunks:
        found.setdefault(name, body)
    name, body = chunks[0]
    width, height = _size(name, body)
    check_size("WebP", width, height)
    kept = [(name, body)] if name != _EXTENDED else list(_kept(body, found, width, height))
    return StillImage(
        "WEBP",
        _made(kept),
        width,
        height,
        orientation_of(found[b"EXIF"]) if b"EXIF" in found else PLAIN,
        accepted_profile(found.get(b"ICCP", b"")),
        _DECODED,
    )


def _kept(extended: bytes, found: dict[bytes, bytes], width: int, height: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of the extended format that are left for the decoder."""
    flags = extended[0]
    if flags & _ANIMATION:
        if b"ANMF" not in found or b"ANIM" not in found:
            raise broken("WebP", "it has no image data")
        _check_frame(found[b"ANMF"], width, height)
        yield _EXTENDED, bytes((flags & (_ALPHA | _ANIMATION),)) + extended[1:10]
        yield b"ANIM", found[b"ANIM"]
        yield b"ANMF", found[b"ANMF"]
        return
    name = next((name for name in (_LOSSY, _LOSSLESS) if name in found), None)
    if name is None:
        raise broken("WebP", "it has no image data")
    if _size(name, found[name]) != (width, height):
        raise broken("WebP", "its sizes contradict each other")
    if name == _LOSSY and b"ALPH" in found:
        yield _EXTENDED, bytes((_ALPHA,)) + extended[1:10]
        yield b"ALPH", found[b"ALPH"]
    yield name, found[name]


def _check_frame(frame: bytes, width: int, height: int) -> None:
    """Raise BadImage for a frame beyond its canvas."""
    if len(frame) < 16:
        raise truncated("WebP")
    left, top, own_width, own_height = (int.from_bytes(frame[at : at + 3], "little") for at in (0, 3, 6, 9))
    if 2 * left + own_width + 1 > width or 2 * top + own_height + 1 > height:
        raise broken("WebP", "its sizes contradict each other")


def _size(name: bytes, body: bytes) -> tuple[int, int]:
    """Return the width and the height that a chunk names."""
    if len(body) < 10:
        raise truncated("WebP")
    if name == _EXTENDED:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == _LOSSY:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == _LOSSLESS:
        (bits,) = struct.unpack_from("<I", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise broken("WebP", "it does not begin with an image")


def _chunks(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(MOST_BLOCKS):
        if place + 8 > end:
            return
        name, length = struct.unpack_from("<4sI", data, place)
        stop = place + 8 + int(length)
        if stop > end:
            raise truncated("WebP")
        yield name, data[place + 8 : stop]
        place = stop + (length & 1)
    raise too_many_blocks("WebP")


def _made(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1) for name, body in chunks]
    content = b"".join((b"WEBP", *parts))
    return b"RIFF" + struct.pack("<I", len(content)) + content
