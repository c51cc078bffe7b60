"""Files that clients may send as images, each with its outcome: the size and a colour of the result, or the words that
the error must have. Nothing is stored: each file is made when it is needed."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.media import making
from tests.media.making import BLUE, GREEN, RED, SIZE, WHITE, chunk, header, png, saved, segment

Colour = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """`size` is that of the result, `colour` that of its pixel in the middle of its upper left quarter."""

    name: str
    make: Callable[[], bytes]
    colour: Colour = RED
    size: tuple[int, int] = SIZE


@dataclass(frozen=True, slots=True)
class Refused:
    """`words` are a part of the error; `limit` is the name of the limit that it reports."""

    name: str
    make: Callable[[], bytes]
    words: str
    limit: str = ""


def jpeg(mode: str = "RGB", colour: Any = RED, **options: Any) -> bytes:
    return saved(making.plain(mode, colour), "JPEG", quality=95, **options)


def rgba(colour: Any, form: str = "PNG", **options: Any) -> bytes:
    return saved(making.plain("RGBA", colour), form, **options)


def webp(**options: Any) -> bytes:
    return saved(making.plain(), "WEBP", lossless=True, **options)


def solid(head: bytes, row: bytes, *before: bytes, rows: int = SIZE[1]) -> bytes:
    return png(head, [row] * rows, *before)


def red_png(*before: bytes) -> bytes:
    return solid(header(*SIZE), bytes(RED) * SIZE[0], *before)


def framed(marker: int, *values: int) -> bytes:
    """Return a JPEG with another header of a frame, of 16 x 16 pixels, before its own: bits and colours."""
    bits, colours = values
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, colours + 1))
    return making.with_segments(jpeg(), segment(marker, bytes((bits, 0, 16, 0, 16, colours)) + components))


def gif_head(width: int = 4, height: int = 4) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


# Formats and modes.


def adam7() -> bytes:
    """Return an interlaced PNG of 8 x 8 white pixels: Pillow writes none."""
    widths = (1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8)  # of the rows of all seven passes
    return png(header(8, 8, 8, 0, interlace=1), [b"\xff" * width for width in widths])


def inverted_cmyk() -> bytes:
    """Return a CMYK JPEG as Adobe writes it: with inverted inks, which the decoder turns back."""
    return jpeg("CMYK", (0, 255, 255, 0))


def grey_16() -> bytes:
    return solid(header(*SIZE, depth=16, colour=0), struct.pack(">H", 0x8001) * SIZE[0])


def transparent_grey(depth: int, stored: bytes, key: int) -> bytes:
    return solid(header(*SIZE, depth=depth, colour=0), stored, chunk(b"tRNS", struct.pack(">H", key)))


def palette(transparency: bytes = b"") -> bytes:
    before = [chunk(b"PLTE", bytes((*BLUE, *RED)))]
    if transparency:
        before.append(chunk(b"tRNS", transparency))
    return solid(header(*SIZE, colour=3), b"\x01" * SIZE[0], *before)


def gif(**options: Any) -> bytes:
    return saved(making.plain("P", 0), "GIF", **options)


def red_gif(*others: Any) -> bytes:
    return saved(making.plain("RGB", RED), "GIF", save_all=True, append_images=[making.plain("RGB", c) for c in others])


# Several frames.


def apng() -> bytes:
    return saved(making.plain(), "PNG", save_all=True, append_images=[making.plain(colour=BLUE)] * 3)


def animated_webp() -> bytes:
    frames = [making.plain(colour=colour) for colour in (BLUE, GREEN)]
    return saved(making.plain(), "WEBP", save_all=True, append_images=frames, lossless=True)


def gif_of_many_frames() -> bytes:
    """Return 20 000 frames, each of which a reader that counts them looks at."""
    data = red_gif()
    frame = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    return data[:frame] + data[frame:-1] * 20_000 + b";"


# Metadata.


def jpeg_with_everything() -> bytes:
    """Return a JPEG with all that must not leave the hub."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>secret</x:xmpmeta>"
    return making.with_segments(
        jpeg(),
        segment(0xE1, making.exif(1)),
        segment(0xE1, xmp),
        *making.icc_segments(making.swapped_profile()),
        segment(0xED, b"Photoshop 3.0\0secret"),
        segment(0xFE, b"a secret comment"),
    )


def with_icc(body: bytes, mode: str = "RGB", colour: Any = RED) -> bytes:
    return making.with_segments(jpeg(mode, colour, subsampling=0), *making.icc_segments(body))


def png_with_icc(body: bytes) -> bytes:
    return making.with_chunks(saved(making.plain(), "PNG"), chunk(b"iCCP", b"p\0\0" + zlib.compress(body)))


def with_texts(*bodies: tuple[bytes, bytes]) -> bytes:
    return making.with_chunks(saved(making.plain(), "PNG"), *(chunk(name, body) for name, body in bodies))


ZEROS: Final = zlib.compress(bytes(64 * 1_048_576), 9)
"""64 MiB in 64 KiB."""


# Damaged and hostile.


def many_scans(count: int) -> bytes:
    """Return a progressive JPEG whose first scan is repeated."""
    data = jpeg(progressive=True)
    start = data.index(b"\xff\xda")
    end = min(place for marker in (b"\xff\xc4", b"\xff\xda") if (place := data.find(marker, start + 2)) > 0)
    return data[:end] + data[start:end] * count + data[end:]


def long_scans() -> bytes:
    """Return a JPEG whose size makes even few scans long."""
    return making.with_size(many_scans(50), 7_000, 7_000)


def no_height() -> bytes:
    return making.with_size(jpeg(), SIZE[0], 0)


def large_webp() -> bytes:
    return making.riff(making.canvas(16_384, 16_384), (b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(20)))


def lossless_webp(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return making.riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(20)))


def frame_beyond_canvas() -> bytes:
    """Return an animation whose frame is larger than its canvas: a decoder that trusts both writes beyond it."""
    chunks = making.chunks_of(animated_webp())
    return making.riff(making.canvas(8, 8, 0x12), (b"ANIM", chunks[b"ANIM"]), (b"ANMF", chunks[b"ANMF"]))


def contradicting_webp() -> bytes:
    return making.riff(making.canvas(32, 32), (b"VP8L", making.chunks_of(webp())[b"VP8L"]))


def gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    return gif_head() + b"," + struct.pack("<HHHHB", left, top, width, height, 0)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def noisy(form: str, **options: Any) -> bytes:
    """Return an image whose data is much longer than its head."""
    return saved(making.noise(), form, **options)


ACCEPTED: Final = (
    Accepted("jpeg", jpeg),
    Accepted("jpeg, progressive", lambda: jpeg(progressive=True)),
    Accepted("jpeg, grey", lambda: jpeg("L", 128), (128, 128, 128)),
    Accepted("jpeg, cmyk", inverted_cmyk),
    Accepted("jpeg, fill bytes before a segment", lambda: jpeg()[:2] + b"\xff\xff" + jpeg()[2:]),
    Accepted("png", lambda: saved(making.plain(), "PNG")),
    Accepted("png, interlaced", adam7, WHITE, (8, 8)),
    Accepted("png, 1 bit", lambda: saved(making.plain("1", 1), "PNG"), WHITE),
    Accepted("png, 16 bit grey", grey_16, (128, 128, 128)),
    Accepted("png, 16 bit", lambda: solid(header(*SIZE, depth=16), b"\xff\xff\0\0\0\0" * SIZE[0])),
    Accepted(
        "png, 16 bit grey and alpha",
        lambda: solid(header(*SIZE, 16, 4), b"\x80\0\x80\0" * SIZE[0]),
        (128, 128, 128, 128),
    ),
    Accepted(
        "png, 16 bit and alpha", lambda: solid(header(*SIZE, 16, 6), b"\xff\xff\0\0\0\0\x80\0" * SIZE[0]), (*RED, 128)
    ),
    Accepted("png, grey and alpha", lambda: saved(making.plain("LA", (128, 64)), "PNG"), (128, 128, 128, 64)),
    Accepted("png, alpha", lambda: rgba((*RED, 128)), (*RED, 128)),
    Accepted("png, opaque alpha", lambda: rgba((*RED, 255))),
    Accepted("png, palette", palette),
    Accepted("png, transparent palette", lambda: palette(b"\xff\x40"), (*RED, 64)),
    Accepted("png, transparent colour", lambda: red_png(chunk(b"tRNS", struct.pack(">HHH", *RED))), (0, 0, 0, 0)),
    Accepted("png, transparent grey of 2 bits", lambda: transparent_grey(2, b"\x55" * 16, 1), (0, 0, 0, 0)),
    Accepted(
        "png, transparent grey of 16 bits", lambda: transparent_grey(16, b"\x40\0" * SIZE[0], 0x4000), (0, 0, 0, 0)
    ),
    Accepted("png, another transparent grey", lambda: transparent_grey(8, b"\x40" * SIZE[0], 0x41), (64, 64, 64)),
    Accepted("png without its end", lambda: saved(making.plain(), "PNG")[:-12]),
    Accepted("png, transparency of a wrong length", lambda: red_png(chunk(b"tRNS", b"\0"))),
    Accepted("webp, lossless", webp),
    Accepted("webp, lossy", lambda: saved(making.plain(), "WEBP", quality=90)),
    Accepted("webp, lossy with alpha", lambda: rgba((*RED, 128), "WEBP", quality=90), (*RED, 128)),
    Accepted("webp, lossless with alpha", lambda: rgba((*RED, 128), "WEBP", lossless=True), (*RED, 128)),
    Accepted("gif", red_gif),
    Accepted("gif, grey", lambda: saved(making.plain("L", 77), "GIF"), (77, 77, 77)),
    Accepted("gif, transparent", lambda: gif(transparency=0), (0, 0, 0, 0)),
    Accepted("gif, several frames", lambda: red_gif(BLUE, GREEN)),
    Accepted("gif, 20 000 frames", gif_of_many_frames),
    Accepted("png, animated", apng),
    Accepted("webp, animated", animated_webp),
    Accepted("jpeg, orientation 9", lambda: jpeg(exif=making.exif(9))),
    Accepted("jpeg, metadata of all kinds", jpeg_with_everything, GREEN),
    Accepted("jpeg, red and green swapped", lambda: with_icc(making.swapped_profile()), GREEN),
    Accepted("jpeg, linear grey", lambda: with_icc(making.linear_grey_profile(), "L", 128), (188, 188, 188)),
    Accepted("jpeg, white inks", lambda: with_icc(making.white_ink_profile(), "CMYK", (0, 0, 0, 255)), WHITE),
    Accepted("jpeg, the profile of another space", lambda: with_icc(making.linear_grey_profile())),
    Accepted("jpeg, no profile where one should be", lambda: with_icc(b"nothing" * 40)),
    Accepted("jpeg, half of a profile", lambda: with_icc(making.swapped_profile()[:200])),
    Accepted("png, red and green swapped", lambda: png_with_icc(making.swapped_profile()), GREEN),
    Accepted("png, a profile that cannot be unpacked", lambda: with_texts((b"iCCP", b"p\0\0nothing"))),
    Accepted("webp, red and green swapped", lambda: webp(icc_profile=making.swapped_profile()), GREEN),
    Accepted("jpeg, video behind it", lambda: jpeg() + b"\0\0\0\x18ftypmp42" + bytes(100_000)),
    Accepted("jpeg, archive behind it", lambda: jpeg() + b"PK\x03\x04<?php secret ?>"),
    Accepted("jpeg, another image behind it", lambda: jpeg() + jpeg(colour=BLUE)),
    Accepted("png, page behind it", lambda: saved(making.plain(), "PNG") + b"<script>secret</script>"),
    Accepted("gif, page behind it", lambda: red_gif() + b"<script>secret</script>"),
    Accepted("webp, page behind it", lambda: webp() + b"<script>secret</script>"),
    Accepted(
        "jpeg, EXIF that leads everywhere", lambda: making.with_segments(jpeg(), segment(0xE1, making.endless_exif()))
    ),
    Accepted("jpeg, EXIF without end", lambda: making.with_segments(jpeg(), segment(0xE1, making.exif(6)[:25]))),
    Accepted("jpeg, as many scans as allowed", lambda: many_scans(85)),
    Accepted(
        "png, data that ends early", lambda: solid(header(*SIZE), bytes(RED) * SIZE[0], rows=20)
    ),  # the rest is black
    Accepted("png, packed text", lambda: with_texts((b"zTXt", b"k\0\0" + zlib.compress(b"secret" * 100)))),
    Accepted("png, text that cannot be unpacked", lambda: with_texts((b"zTXt", b"k\0\0nothing"))),
    Accepted("one pixel", lambda: saved(making.plain(size=(1, 1)), "PNG"), RED, (1, 1)),
    Accepted("a long line", lambda: saved(making.plain(size=(20_000, 1)), "PNG"), RED, (3_000, 1)),
)

REFUSED: Final = (
    Refused("nothing", bytes, "The file is empty"),
    Refused("text", lambda: b"hello", "The file is no image"),
    Refused("page", lambda: b"<!DOCTYPE html><html></html>", "The file is no image"),
    Refused("svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "The file is SVG"),
    Refused("svg with a prologue", lambda: b'<?xml version="1.0"?><svg/>', "The file is SVG"),
    Refused("heic", lambda: b"\0\0\0\x18ftypheic" + bytes(50), "The file is HEIC"),
    Refused("avif", lambda: b"\0\0\0\x18ftypavif" + bytes(50), "The file is AVIF"),
    Refused("video", lambda: b"\0\0\0\x18ftypmp42" + bytes(50), "The file is a video"),
    Refused("bmp", lambda: saved(making.plain(), "BMP"), "The file is BMP"),
    Refused("tiff", lambda: saved(making.plain(), "TIFF"), "The file is TIFF"),
    Refused("pdf with an image in it", lambda: b"%PDF-1.4\n" + jpeg(), "The file is PDF"),
    Refused("gzip", lambda: gzip.compress(jpeg()), "The file is no image"),
    Refused("bytes before a jpeg", lambda: b"\0" + jpeg(), "The file is no image"),
    Refused("15 MB", lambda: jpeg() + bytes(15_000_000), "larger than 15000000 bytes", "MOST_IMAGE_BYTES"),
    Refused("gif that is a script", lambda: b"GIF89a=1;alert(document.domain)//", "GIF"),
    # Incomplete.
    Refused("jpeg, its beginning", lambda: jpeg()[:3], "not complete"),
    Refused("jpeg, half of its head", lambda: jpeg()[:200], "not complete"),
    Refused("jpeg, half of its data", lambda: cut(noisy("JPEG"), 0.5), "not complete: the JPEG lacks"),
    Refused("jpeg, progressive, half of its data", lambda: cut(noisy("JPEG", progressive=True), 0.5), "not complete"),
    Refused("jpeg, no data", lambda: b"\xff\xd8" + segment(0xFE, b"x") + b"\xff\xd9", "no image data"),
    Refused("jpeg without its end", lambda: jpeg()[:-2], "not complete: the JPEG lacks"),
    Refused("png, its beginning", lambda: making.PNG_HEAD, "not complete"),
    Refused("png, half of its data", lambda: cut(noisy("PNG"), 0.5), "not complete"),
    Refused("png, no data", lambda: making.PNG_HEAD + header(*SIZE) + chunk(b"IEND"), "no image data"),
    Refused("gif, its beginning", lambda: b"GIF89a", "not complete"),
    Refused("gif, half of its data", lambda: cut(noisy("GIF"), 0.6), "not complete"),
    Refused("gif, no image", lambda: gif_head() + b";\0", "it has no image"),
    Refused("webp, its beginning", lambda: webp()[:12], "not complete"),
    Refused("webp, half of its data", lambda: cut(noisy("WEBP"), 0.5), "not complete"),
    Refused("webp, no data", lambda: making.riff(making.canvas(*SIZE)), "no image data"),
    # Damaged.
    Refused("jpeg, a segment of no length", lambda: making.with_segments(jpeg(), b"\xff\xfe\0\0"), "wrong length"),
    Refused("jpeg, no quantization", lambda: jpeg().replace(b"\xff\xdb", b"\xff\xfe"), "cannot be decoded"),
    Refused("jpeg, two frames", lambda: framed(0xC0, 8, 1), "two images"),
    Refused("jpeg, two colours", lambda: framed(0xC0, 8, 2), "2 colours"),
    Refused("jpeg, 12 bits", lambda: framed(0xC1, 12, 1), "12 bits"),
    Refused("jpeg, lossless", lambda: framed(0xC3, 8, 1), "lossless"),
    Refused("jpeg, no height", no_height, "no pixels"),
    Refused("png, no width", lambda: png(header(0, 5), []), "no pixels"),
    Refused("png, an unknown type", lambda: solid(header(*SIZE, colour=5), b"\0" * 64), "unknown values"),
    Refused("png, no palette", lambda: solid(header(*SIZE, colour=3), b"\0" * 64), "no palette"),
    Refused(
        "png, half a colour in its palette",
        lambda: solid(header(*SIZE, colour=3), b"\0" * 64, chunk(b"PLTE", b"1234")),
        "palette",
    ),
    Refused(
        "png, data that is not packed",
        lambda: making.PNG_HEAD + header(*SIZE) + chunk(b"IDAT", b"nothing") + chunk(b"IEND"),
        "cannot be decoded",
    ),
    Refused(
        "png, another chunk first",
        lambda: making.PNG_HEAD + chunk(b"tEXt", b"a\0b") + header(*SIZE),
        "does not begin with its size",
    ),
    Refused("webp, sizes that differ", contradicting_webp, "contradict"),
    Refused("webp, a frame beyond its canvas", frame_beyond_canvas, "contradict"),
    Refused(
        "webp, data of another kind",
        lambda: making.riff((b"VP8 ", bytes(6) + struct.pack("<HH", *SIZE) + bytes(40))),
        "WebP",
    ),
    Refused("webp, an unknown chunk first", lambda: making.riff((b"JUNK", bytes(20))), "does not begin with an image"),
    # Bombs.
    Refused(
        "png, 60 000 x 60 000",
        lambda: png(header(60_000, 60_000), [b"\0"]),
        "60000 x 60000 pixels",
        "MOST_IMAGE_PIXELS",
    ),
    Refused(
        "png, 50 000 001 pixels", lambda: png(header(50_000_001, 1), [b"\0"]), "at most 50 million", "MOST_IMAGE_PIXELS"
    ),
    Refused(
        "jpeg, 65 500 x 65 500",
        lambda: making.with_size(jpeg(), 65_500, 65_500),
        "65500 x 65500 pixels",
        "MOST_IMAGE_PIXELS",
    ),
    Refused(
        "gif, 65 535 x 65 535",
        lambda: gif_head(65_535, 65_535) + gif_frame(0, 0, 4, 4)[13:],
        "pixels",
        "MOST_IMAGE_PIXELS",
    ),
    Refused(
        "gif, a frame beyond the screen",
        lambda: gif_frame(30_000, 30_000, 1_000, 1_000),
        "31000 x 31000 pixels",
        "MOST_IMAGE_PIXELS",
    ),
    Refused("webp, 16 384 x 16 384", large_webp, "16384 x 16384 pixels", "MOST_IMAGE_PIXELS"),
    Refused("webp, lossless, 16 383 x 16 383", lambda: lossless_webp(16_383, 16_383), "pixels", "MOST_IMAGE_PIXELS"),
    Refused(
        "png, a profile of 64 MiB",
        lambda: with_texts((b"iCCP", b"p\0\0" + ZEROS)),
        "colour profile",
        "MOST_UNPACKED_BYTES",
    ),
    Refused("png, a text of 64 MiB", lambda: with_texts((b"zTXt", b"k\0\0" + ZEROS)), "text", "MOST_UNPACKED_BYTES"),
    Refused(
        "png, an international text of 64 MiB",
        lambda: with_texts((b"iTXt", b"k\0\1\0en\0\0" + ZEROS)),
        "text",
        "MOST_UNPACKED_BYTES",
    ),
    Refused(
        "png, many texts",
        lambda: with_texts(*[(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))] * 9),
        "text",
        "MOST_UNPACKED_BYTES",
    ),
    Refused("png, 70 000 chunks", lambda: with_texts(*[(b"tEXt", b"")] * 70_000), "65536 parts", "MOST_BLOCKS"),
    Refused(
        "jpeg, 70 000 segments",
        lambda: making.with_segments(jpeg(), *[segment(0xFE, b"")] * 70_000),
        "65536 parts",
        "MOST_BLOCKS",
    ),
    Refused("gif, 70 000 comments", lambda: gif_head() + b"!\xfe\0" * 70_000 + b";", "65536 parts", "MOST_BLOCKS"),
    Refused(
        "webp, 70 000 chunks",
        lambda: making.riff(making.canvas(*SIZE), *[(b"JUNK", b"")] * 70_000),
        "65536 parts",
        "MOST_BLOCKS",
    ),
    Refused("jpeg, 150 scans", lambda: many_scans(150), "too many scans", "MOST_SCANS"),
    Refused("jpeg, 50 scans of 49 million pixels", long_scans, "too many scans", "MOST_SCANNED_PIXELS"),
)
