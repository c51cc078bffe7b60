"""Converts colours to sRGB, by the ICC profile of an image (ICC.1:2022). A profile that cannot be used is ignored."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image, ImageChops, ImageCms

_SPACES: Final = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}
"""The colour space that the profile of an image of each mode has."""
_SPACE: Final = slice(16, 20)
_SIGNATURE: Final = slice(36, 40)
_STEPS: Final = range(0, 256, 32)
_ALIKE: Final = 1
"""Difference up to which two values of a colour count as equal."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an image in the mode RGB or RGBA with the colours of sRGB. Without a profile, colours are those of sRGB
    already."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image if image.mode in _SPACES else image.convert(_without_alpha(image.mode))
    converted = _converted(colours, profile) or (colours if colours.mode == "RGB" else colours.convert("RGB"))
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _without_alpha(mode: str) -> str:
    return "L" if mode == "LA" else "RGB"


def _converted(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Return an image converted by its profile; None if there is nothing to convert."""
    if profile[_SPACE] != _SPACES[image.mode] or profile[_SIGNATURE] != b"acsp":
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if image.mode == "RGB" and _alters_nothing(transform):
            return None
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError):
        return None


def _alters_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a profile is one of sRGB, whatever its name. Most are, and a few hundred colours are quickly
    compared."""
    colours = bytes(value for red in _STEPS for green in _STEPS for blue in _STEPS for value in (red, green, blue))
    sample = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    converted = ImageCms.applyTransform(sample, transform)
    if converted is None:
        return False
    return max(ImageChops.difference(sample, converted).tobytes()) <= _ALIKE
