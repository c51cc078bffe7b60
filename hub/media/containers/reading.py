"""From a file of any kind to its first image: the format is that of the content, whatever the name says."""

from __future__ import annotations

import re
from typing import Final

from hub.media.containers import gif, jpeg, png, webp
from hub.media.containers.still import StillImage
from hub.media.errors import BadImage
from hub.media.jobs import MOST_IMAGE_BYTES

_OTHERS: Final = (
    (re.compile(rb"....ftyp(?:hei[cfmsvx]|hev[cmsx]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"\s*<(?:svg|\?xml|!DOCTYPE svg)", re.IGNORECASE), "SVG"),
)
"""What people send instead, so that the error can name it."""


def read_still(data: bytes) -> StillImage:
    """Return the first image of a file. Raises BadImage."""
    if not data:
        raise BadImage("The file is empty.")
    if len(data) > MOST_IMAGE_BYTES:
        raise BadImage(f"The file is larger than {MOST_IMAGE_BYTES} bytes.").at("MOST_IMAGE_BYTES")
    if data.startswith(jpeg.MAGIC):
        return jpeg.read(data)
    if data.startswith(png.MAGIC):
        return png.read(data)
    if data.startswith(gif.MAGICS):
        return gif.read(data)
    if webp.is_webp(data):
        return webp.read(data)
    name = next((name for pattern, name in _OTHERS if pattern.match(data)), "")
    raise BadImage(f"The file is {name or 'no image'}: JPEG, PNG, WebP and GIF are accepted.")
