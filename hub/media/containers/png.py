"""PNG (W3C, third edition): the chunks that the decoder needs. Those of an animation are left out, so that the image
for programs without animations remains."""

from __future__ import annotations

import struct
import zlib
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

MOST_UNPACKED_BYTES: Annotated[int, Limit("image", "bytes of a PNG's packed texts and profile", "400")] = 8_388_608
"""No image needs as much; what unpacks to more is made to exhaust the memory of its readers."""

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_GREY, _COLOURS, _INDEXED = 0, 2, 3
_DEPTHS: Final = {_GREY: (1, 2, 4, 8, 16), _COLOURS: (8, 16), _INDEXED: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample that each type of colour may have."""
_PACKED: Final = (b"iCCP", b"zTXt", b"iTXt")
_SAMPLES: Final = {_GREY: 1, _COLOURS: 3}
"""Samples of a transparent colour."""


@dataclass(slots=True)
class _Found:
    """What the chunks tell. `kept` are those for the decoder."""

    kept: list[bytes]
    colour: int
    depth: int
    has_palette: bool = False
    has_data: bool = False
    exif: bytes = b""
    profile: bytes = b""
    names: set[bytes] = field(default_factory=set)
    unpacked: int = 0
    """Bytes of texts and profiles so far."""


def read(data: bytes) -> StillImage:
    """Return the image of a PNG. Raises BadImage."""
    name, body, place = _chunk(data, len(MAGIC))
    if name != b"IHDR" or len(body) != 13:
        raise broken("PNG", "it does not begin with its size")
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(">IIBBBBB", body)
    check_size("PNG", width, height)
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1:
        raise broken("PNG", "its header has unknown values")
    found = _Found([data[:place]], colour, depth)
    _look_at_all(data, place, found)
    if not found.has_data:
        raise broken("PNG", "it has no image data")
    if colour == _INDEXED and not found.has_palette:
        raise broken("PNG", "it has no palette")
    found.kept.append(_made(b"IEND", b""))
    orientation = orientation_of(found.exif) if found.exif else PLAIN
    return StillImage("PNG", b"".join(found.kept), width, height, orientation, found.profile)


def _look_at_all(data: bytes, place: int, found: _Found) -> None:
    for _ in range(MOST_BLOCKS):
        if place == len(data) and found.has_data:  # only the end is missing
            return
        start = place
        name, body, place = _chunk(data, start)
        if name == b"IEND":
            return
        if name == b"IDAT":
            found.has_data = True
            found.kept.append(data[start:place])
        elif name in _PACKED:
            _unpack(name, body, found)
        elif name not in found.names:
            found.names.add(name)
            _look_at(name, body, found)
    raise too_many_blocks("PNG")


def _look_at(name: bytes, body: bytes, found: _Found) -> None:
    if name == b"PLTE":
        if len(body) % 3 or not 0 < len(body) <= 768:
            raise broken("PNG", "its palette has a wrong length")
        found.has_palette = True
        found.kept.append(_made(name, body))
    elif name == b"tRNS":
        found.kept += _transparency(body, found)
    elif name == b"eXIf":
        found.exif = body


def _transparency(body: bytes, found: _Found) -> list[bytes]:
    """Return the chunk of the transparent colour, if it is valid: with samples of 8 bits, as the decoder compares
    them."""
    if found.colour == _INDEXED:
        return [_made(b"tRNS", body[:256])] if body else []
    samples = _SAMPLES.get(found.colour, 0)
    if not samples or len(body) != 2 * samples:
        return []
    values = (_of_8_bits(value, found.depth) for value in struct.unpack(f">{samples}H", body))
    return [_made(b"tRNS", struct.pack(f">{samples}H", *values))]


def _of_8_bits(value: int, depth: int) -> int:
    if depth == 16:
        return value >> 8
    most: int = 2**depth - 1
    return min(value, most) * 255 // most


def _unpack(name: bytes, body: bytes, found: _Found) -> None:
    """Look at a chunk with packed data: a profile is kept, a text only counted."""
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(_packed(name, body), MOST_UNPACKED_BYTES + 1 - found.unpacked)
    except zlib.error:
        return
    found.unpacked += len(unpacked)
    if found.unpacked > MOST_UNPACKED_BYTES:
        what = "colour profile" if name == b"iCCP" else "text"
        text = f"The {what} in the PNG unpacks to more than {MOST_UNPACKED_BYTES} bytes."
        raise BadImage(text).at("MOST_UNPACKED_BYTES")
    if name == b"iCCP" and unpacking.eof:
        found.profile = found.profile or accepted_profile(unpacked)


def _packed(name: bytes, body: bytes) -> bytes:
    """Return the packed part of a chunk: behind its name and the method, in iTXt also behind a language and a
    translation."""
    _, _, rest = body.partition(b"\0")
    if name != b"iTXt":
        return rest[1:]
    if rest[:1] != b"\1":
        return b""
    return rest[2:].partition(b"\0")[2].partition(b"\0")[2]


def _chunk(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    """Return the name and the body of a chunk, and where it ends."""
    if start + 8 > len(data):
        raise truncated("PNG")
    length, name = struct.unpack_from(">I4s", data, start)
    end = start + 12 + int(length)
    if end > len(data):
        raise truncated("PNG")
    return name, data[start + 8 : end - 4], end


def _made(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
