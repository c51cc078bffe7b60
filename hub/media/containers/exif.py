"""The orientation in EXIF metadata (CIPA DC-008, 4.6.4; TIFF 6.0, section 2). Nothing else of it is read."""

from __future__ import annotations

import struct
from typing import Final

from hub.media.containers.still import PLAIN

_ORDERS: Final = {b"II": "<", b"MM": ">"}
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3
_ENTRY: Final = 12
"""Bytes of an entry of a directory."""


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1 to 8: 1 if there is none that can be read."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(tiff[:2])
    if order is None:
        return PLAIN
    try:
        return _read(tiff, order)
    except struct.error:  # the directory leads out of the metadata
        return PLAIN


def _read(tiff: bytes, order: str) -> int:
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, start + 2 + entries * _ENTRY, _ENTRY):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else PLAIN
    return PLAIN
