"""Converts one image with Pillow, in a worker: upright, in sRGB, without metadata, not too large, marked, as WebP.

The decoder gets the first image of the file alone (`hub.media.containers`). The image is made smaller as early as
possible, so that all further steps have few pixels to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin, _webp

from hub.media.colours import to_srgb
from hub.media.containers.reading import read_still
from hub.media.containers.still import StillImage
from hub.media.errors import BadImage
from hub.media.jobs import MOST_IMAGE_BYTES, ImageInfo, ImageJob
from hub.media.marking import set_mark

PLUGINS: Final = (GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
"""Pillow's readers of the accepted formats; the import of each registers it."""

DRAFT: Final = 1.25
"""A JPEG is decoded at half, a quarter or an eighth of its size if that is at least this many times the wanted size.
The result then differs from that of the whole image by a tenth of what WebP itself alters."""
METHOD: Final = 4
"""Pillow's own: with 2 the encoder takes half of the time, for files that are 4% larger."""

_NO_MEMORY: Final = ("encoding error 1", "encoding error 2")
"""The encoder's words for too little memory (VP8_ENC_ERROR_OUT_OF_MEMORY, …_BITSTREAM_OUT_OF_MEMORY)."""
_NAMES: Final = {"WEBP": "WebP"}
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes the image of an orientation upright."""
_ON_ITS_SIDE: Final = 5
"""The first orientation whose width is shown as height."""


def read_image(source: Path) -> StillImage:
    """Return the first image of a file, not decoded. Raises BadImage."""
    with source.open("rb") as file:
        return read_still(file.read(MOST_IMAGE_BYTES + 1))


def memory_for(still: StillImage) -> int:
    """Return about how many bytes the decoder takes."""
    return still.width * still.height * still.decoded


def write_webp(still: StillImage, target: Path, job: ImageJob) -> ImageInfo:
    """Convert an image and write it to a new file. Raises BadImage, OSError if the file cannot be written."""
    image = convert(still, job)
    packed = _packed(image, job.quality)
    with target.open("xb") as file:
        file.write(packed.getbuffer())
    return ImageInfo(image.width, image.height, packed.getbuffer().nbytes)


def _packed(image: Image.Image, quality: int) -> BytesIO:
    packed = BytesIO()
    try:
        image.save(packed, "WEBP", quality=quality, method=METHOD, icc_profile="", exif=b"", xmp="")
    except ValueError as error:
        if str(error).startswith(_NO_MEMORY):
            raise MemoryError from error
        raise
    return packed


def convert(still: StillImage, job: ImageJob) -> Image.Image:
    """Return an image as a job asks for it, in the mode RGB or RGBA. Raises BadImage."""
    size = stored_size(still, job)
    with _decoding(still.format):
        image = _decoded(still, size)
    image = _shrunk(_resizable(image), size)
    image = _upright(to_srgb(image, still.profile), still.orientation)
    if job.watermark is not None:
        set_mark(image, job.watermark)
    return image


def stored_size(still: StillImage, job: ImageJob) -> tuple[int, int]:
    """Return the width and the height that the image gets, before it is turned upright."""
    most = (job.height, job.width) if still.orientation >= _ON_ITS_SIDE else (job.width, job.height)
    share = min(1.0, most[0] / still.width, most[1] / still.height)
    return max(1, round(still.width * share)), max(1, round(still.height * share))


def _decoded(still: StillImage, size: tuple[int, int]) -> Image.Image:
    if still.format == "WEBP":
        return _decoded_webp(still.data)
    image = Image.open(BytesIO(still.data), formats=(still.format,))
    if still.format == "JPEG":
        image.draft(image.mode, (math.ceil(size[0] * DRAFT), math.ceil(size[1] * DRAFT)))
    image.load()
    return image


def _decoded_webp(data: bytes) -> Image.Image:
    """Return the image of a WebP. Pillow's reader would keep the two canvases of the decoder and one more copy: 16
    bytes for each pixel, and these are 12 for a moment and 4 afterwards."""
    decoder = _webp.WebPAnimDecoder(data)
    size, *_, mode = decoder.get_info()
    frame = decoder.get_next()
    if frame is None:
        raise OSError("image file is truncated")
    return Image.frombuffer(mode, size, frame[0], "raw", mode, 0, 1)


def _resizable(image: Image.Image) -> Image.Image:
    """Return the image in a mode whose pixels can be averaged: L, LA, RGB, RGBX, RGBA or CMYK."""
    if image.mode.startswith("I;16"):
        image = _of_8_bits(image)
    if image.has_transparency_data:
        return _without_opaque_alpha(image if image.mode in ("LA", "RGBA") else image.convert("RGBA"))
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB") if image.mode == "P" else image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits with the higher 8 of them: Pillow would cut off at 255."""
    converted = image.point(lambda value: value * (1 / 256)).convert("L")
    converted.info = image.info
    return converted


def _without_opaque_alpha(image: Image.Image) -> Image.Image:
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("L" if image.mode == "LA" else "RGB")
    return image


def _shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Make every failure of a decoder the file's fault. Pillow raises whatever a malformed file leads it to."""
    name = _NAMES.get(name, name)
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if "truncated" in str(error):
            raise BadImage(f"The file is not complete: the {name} lacks some of its pixels.") from error
        raise BadImage(f"The {name} is damaged: its pixels cannot be decoded.") from error
