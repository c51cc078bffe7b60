"""Sets the watermark into the lower right corner of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from hub.media.jobs import Watermark

SHARE: Final = 4
"""A mark from a file is at most this part of the image, in width and in height."""
TEXT_SHARE: Final = 24
"""The height of a text, as a part of the shorter side of the image."""
LEAST_TEXT: Final = 8
"""Pixels of the smallest text. An image that has no room for it gets no mark."""
MARGIN: Final = 50
"""The distance to the edges, as a part of the shorter side of the image."""

_INK: Final = (255, 255, 255, 190)
_OUTLINE: Final = (0, 0, 0, 110)


def set_mark(image: Image.Image, watermark: Watermark) -> None:
    """Set a mark into an image of the mode RGB or RGBA. Raises OSError if its file cannot be read."""
    mark = _mark_of_file(watermark.file, image.size) if watermark.file else _mark_of_text(watermark.text, image.size)
    if mark is None:
        return
    margin = min(image.size) // MARGIN
    place = (image.width - mark.width - margin, image.height - mark.height - margin)
    if image.mode == "RGBA":
        image.alpha_composite(mark, place)
    else:
        image.paste(mark, place, mark)


def _mark_of_file(file: str, size: tuple[int, int]) -> Image.Image | None:
    most = (size[0] // SHARE, size[1] // SHARE)
    if not all(most):
        return None
    with Image.open(Path(file), formats=("PNG",)) as stored:
        mark = stored.convert("RGBA")
    mark.thumbnail(most, Image.Resampling.LANCZOS)
    return mark


def _mark_of_text(text: str, size: tuple[int, int]) -> Image.Image | None:
    height = min(size) // TEXT_SHARE
    if height < LEAST_TEXT:
        return None
    font = ImageFont.load_default(height)
    room = size[0] - 2 * (min(size) // MARGIN)
    if font.getlength(text) > room:
        height = int(height * room / font.getlength(text))
        if height < LEAST_TEXT:
            return None
        font = ImageFont.load_default(height)
    outline = max(1, height // 16)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text, stroke_width=outline))
    mark = Image.new("RGBA", (min(size[0], right - left), min(size[1], bottom - top)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(mark)
    draw.text((-left, -top), text, _INK, font, stroke_width=outline, stroke_fill=_OUTLINE)
    return mark
