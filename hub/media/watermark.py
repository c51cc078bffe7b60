"""The setting HUB_WATERMARK: a PNG file, or a text."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hub.media.containers.reading import read_still
from hub.media.errors import BadImage
from hub.media.jobs import MOST_IMAGE_BYTES, Watermark
from stores.errors import CannotOpen

LONGEST_TEXT: Final = 100
MARK_PIXELS: Final = 4_000_000
"""The file is decoded for each image."""

FONT: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("©«°±´·»‘’“”…‹›⁄™")
"""The characters of the font that Pillow contains."""


def read_watermark(value: str) -> Watermark | None:
    """Return the mark of a setting, None if it is empty. Raises CannotOpen."""
    if not value.strip():
        return None
    if value.lower().endswith(".png"):
        return _of_file(Path(value).absolute())
    if missing := sorted(set(value) - FONT):
        text = f"the font of the mark has no {''.join(missing)!r}: use the path of a PNG file"
        raise CannotOpen(f"HUB_WATERMARK: {text}")
    if len(value) > LONGEST_TEXT:
        raise CannotOpen(f"HUB_WATERMARK: the text must not be longer than {LONGEST_TEXT} characters")
    return Watermark(text=value)


def _of_file(path: Path) -> Watermark:
    try:
        with path.open("rb") as file:
            found = read_still(file.read(MOST_IMAGE_BYTES + 1))
    except OSError as error:
        raise CannotOpen(f"HUB_WATERMARK: {path}: {error.strerror}") from error
    except BadImage as error:
        raise CannotOpen(f"HUB_WATERMARK: {path}: {error.text}") from error
    if found.format != "PNG" or found.width * found.height > MARK_PIXELS:
        text = f"it must be a PNG of at most {MARK_PIXELS // 1_000_000} million pixels"
        raise CannotOpen(f"HUB_WATERMARK: {path}: {text}")
    return Watermark(file=str(path))
