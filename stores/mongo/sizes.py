"""How large the documents of a store get: what decides whether a batch of them is decoded at once or one by one.

The driver decodes a whole reply in one call, up to 16 MB, while the event loop stands still.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from stores.mongo.codec import CODEC, Document

LARGE: Final = 1_048_576
"""Bytes of documents that are decoded at once."""

BATCH_BYTES: Final = 2_097_152
"""Of one exchange with the server, about, when a list is long."""

_UNKNOWN: Final = 100
"""Documents in one exchange while nothing is known of them."""

LARGE_DOCUMENT: Final = 65_536
"""Bytes of a document that is worked on by itself."""
_RECENT_SECONDS: Final = 5.0
_UNKNOWN_EVENTS: Final = 1

RAW: Final[CodecOptions[Any]] = CODEC.with_options(document_class=RawBSONDocument)


class Sizes:
    """The largest document that has been seen of each store, in bytes of JSON text."""

    def __init__(self) -> None:
        self._largest: dict[str, int] = {}
        self._large = 0
        self._large_until = 0.0

    def note(self, store: str, size: int) -> None:
        if size > self._largest.get(store, 0):
            self._largest[store] = size
        if size > LARGE_DOCUMENT:
            self._large, self._large_until = size, time.monotonic() + _RECENT_SECONDS

    def fitting_events(self, most: int) -> int:
        """How many changes, each with two images, one exchange should bring, by what has been written lately."""
        if time.monotonic() > self._large_until:
            return most
        return min(most, max(1, BATCH_BYTES // (2 * self._large)))

    def fitting_past_events(self, most: int) -> int:
        """The same of changes of which nothing is known."""
        return min(most, _UNKNOWN_EVENTS) if max(self._largest.values(), default=0) > LARGE_DOCUMENT else most

    def may_be_large(self, store: str, count: int) -> bool:
        """Whether so many documents may be more than `LARGE` together."""
        largest = self._largest.get(store)
        return largest is None or largest * count > LARGE

    def fitting(self, store: str, most: int) -> int:
        """How many documents one exchange should bring."""
        largest = self._largest.get(store)
        return min(most, _UNKNOWN if largest is None else max(1, BATCH_BYTES // largest))


def decoded(row: Mapping[str, Any]) -> Document:
    """The document, of which the driver may have left the decoding to us."""
    if isinstance(row, RawBSONDocument):
        return bson.decode(row.raw, CODEC)
    return row  # type: ignore[return-value]
