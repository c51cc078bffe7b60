"""Makes images, and the parts of their files that no library writes: chunks, segments, profiles."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, Final

from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
SIZE: Final = (64, 48)
PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new(mode, size, colour)


def quarters() -> Image.Image:
    """Return an image whose quarters tell how it is turned: red and green above, blue and white below."""
    image = plain()
    width, height = SIZE[0] // 2, SIZE[1] // 2
    for colour, place in ((GREEN, (width, 0)), (BLUE, (0, height)), (WHITE, (width, height))):
        image.paste(colour, (*place, place[0] + width, place[1] + height))
    return image


def noise() -> Image.Image:
    return Image.effect_noise((128, 128), 100).convert("RGB")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# PNG


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(head: bytes, rows: Iterable[bytes], *before: bytes, behind: Sequence[bytes] = ()) -> bytes:
    """Return a PNG of rows of samples, with chunks before and behind its data."""
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join((PNG_HEAD, head, *before, chunk(b"IDAT", data), *behind, chunk(b"IEND")))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with further chunks behind its header."""
    place = len(PNG_HEAD) + 25
    return b"".join((data[:place], *chunks, data[place:]))


# JPEG


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """Return a JPEG with further segments behind its start."""
    return b"".join((data[:2], *segments, data[2:]))


def frame_place(data: bytes) -> int:
    """Return where the frame header of a JPEG is."""
    return min(place for marker in (0xC0, 0xC2) if (place := data.find(bytes((0xFF, marker, 0)))) > 0)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG that claims another size."""
    place = frame_place(data) + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


# WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1) for name, body in chunks]
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def chunks_of(webp: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a WebP by their names."""
    found, place = {}, 12
    while place < len(webp):
        name, length = struct.unpack_from("<4sI", webp, place)
        found[name] = webp[place + 8 : place + 8 + length]
        place += 8 + length + (length & 1)
    return found


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """Return the chunk of the extended format."""
    return b"VP8X", bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


# Metadata


def exif(orientation: int, order: str = "<") -> bytes:
    """Return EXIF with an orientation, a maker and a place on earth."""
    kind = b"II" if order == "<" else b"MM"
    entries = [
        struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"Cam\0"),
        struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0),
        struct.pack(f"{order}HHII", 0x8825, 4, 1, 62),
    ]
    gps = struct.pack(f"{order}HHHI4sI", 1, 0x0001, 2, 2, b"N\0\0\0", 0)
    head = kind + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + struct.pack(f"{order}I", 0) + b"\0" * 12 + gps


def endless_exif() -> bytes:
    """Return EXIF whose entries all lead to the same 60 000 bytes: 5 000 readers' copies are 300 MB."""
    entries = b"".join(struct.pack("<HHII", tag, 1, 60_000, 8) for tag in range(0x8000, 0x8000 + 5_000))
    return b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 5_000) + entries + bytes(4)


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """Return an ICC profile (version 2) with these tags."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text\0\0\0\0x\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    table, data, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", place + len(data), len(body))
        data += body + b"\0" * (-len(body) % 4)
    illuminant = struct.pack(">iii", 63_190, 65_536, 54_061)
    head = struct.pack(">I4sI4s4s4s12s4s28s12s48s", place + len(data), b"lcms", 0x02400000, kind, space, connection,
                       bytes(12), b"acsp", bytes(28), illuminant, bytes(48))  # fmt: skip
    return head + struct.pack(">I", len(tags)) + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65_536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


SRGB_RED, SRGB_GREEN, SRGB_BLUE = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)


def rgb_profile(red: Sequence[float], green: Sequence[float], blue: Sequence[float]) -> bytes:
    """Return the profile of a screen with these primary colours."""
    curve = gamma(2.2)
    tags = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue), b"rTRC": curve, b"gTRC": curve}
    return profile(b"RGB ", {**tags, b"bTRC": curve})


def swapped_profile() -> bytes:
    """Return the profile of a screen on which red is green and green is red."""
    return rgb_profile(SRGB_GREEN, SRGB_RED, SRGB_BLUE)


def linear_grey_profile() -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(1.0)})


def white_ink_profile() -> bytes:
    """Return the profile of a printer on whose paper all inks are white."""
    table = bytes(range(256))
    identity = struct.pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    colours = bytes((255, 128, 128)) * 16
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + table * 4 + colours + table * 3
    return profile(b"CMYK", {b"A2B0": lut}, b"prtr", b"Lab ")


def icc_segments(body: bytes) -> list[bytes]:
    return [segment(0xE2, b"ICC_PROFILE\0\x01\x01" + body)]
