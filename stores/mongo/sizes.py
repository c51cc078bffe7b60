"""The sizes of recent documents of each store. They decide whether a batch is decoded at once or one by one.

The driver decodes a whole reply, up to 16 MB, in one call, which blocks the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import bson
import orjson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from stores.mongo.codec import CODEC, Document
from stores.records import Entity

LARGE: Final = 1_048_576
"""Bytes of documents up to which they are decoded in one call."""

BATCH_BYTES: Final = 2_097_152
"""Bytes of one reply for a long list, approximately."""

_UNKNOWN: Final = 100
"""Documents in one reply while the sizes in the store are unknown."""

LARGE_DOCUMENT: Final = 65_536
"""Bytes from which a document is processed separately."""
_RECENT_SECONDS: Final = 5.0
_UNKNOWN_EVENTS: Final = 1

_FORGET_SECONDS: Final = 60.0

_SMALL: Final = 1_024
"""Bytes of documents so small that even a long list of them is decoded in one call."""

_MOST_RESERVED: Final = 67_108_864
_LONGEST_REPLY: Final = 16_777_216

RAW: Final[CodecOptions[Any]] = CODEC.with_options(document_class=RawBSONDocument)


class Sizes:
    """The size of the largest recent document of each store, in bytes of JSON text.

    A size that has not occurred again for one to two minutes is forgotten: its document may have been the only one, and
    may have been deleted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._largest: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._renewed = clock()
        self._large = 0
        self._large_until = 0.0
        self.reserved = 0
        """Bytes reserved for replies that may be larger than the safe size, of all long lists together."""

    def note(self, store: str, size: int) -> None:
        if size > self._largest.get(store, 0):
            self._largest[store] = size
        if size > LARGE_DOCUMENT:
            self._large, self._large_until = size, self._clock() + _RECENT_SECONDS

    def _forget(self) -> None:
        """Drop, every `_FORGET_SECONDS`, the sizes of the period before the last one, except small sizes."""
        now = self._clock()
        if now - self._renewed > _FORGET_SECONDS:
            self._renewed = now
            small = {store: size for store, size in self._before.items() if size <= _SMALL}
            self._before, self._largest = small | self._largest, {}

    def largest(self, store: str) -> int | None:
        """Return the bytes of the largest recent document of the store; None if there is none."""
        self._forget()
        return max(self._largest.get(store, 0), self._before.get(store, 0)) or None

    def fitting_events(self, most: int) -> int:
        """Return how many changes, each with two images, one reply should contain, judging by recent writes."""
        if self._clock() > self._large_until:
            return most
        return min(most, max(1, BATCH_BYTES // (2 * self._large)))

    def fitting_past_events(self, most: int) -> int:
        """Return how many changes one reply should contain when their sizes are unknown."""
        return min(most, _UNKNOWN_EVENTS) if self._any_large() else most

    def _any_large(self) -> bool:
        self._forget()
        return any(size > LARGE_DOCUMENT for sizes in (self._largest, self._before) for size in sizes.values())

    def may_be_large(self, store: str, count: int) -> bool:
        """Return whether `count` documents may exceed `LARGE` bytes together."""
        largest = self.largest(store)
        return largest is None or largest * count > LARGE

    def fitting(self, store: str, most: int) -> int:
        """Return how many documents one reply should contain."""
        largest = self.largest(store)
        return min(most, _UNKNOWN if largest is None else max(1, BATCH_BYTES // largest))


class Pace:
    """The number of documents in each reply of one long list: about `BATCH_BYTES` of them, if they are like the last
    ones, and `most` at most.

    Some documents may be larger. So the bytes that a reply may have in the worst case are reserved. When no more bytes
    can be reserved, the reply gets only as many documents as certainly fit."""

    def __init__(self, sizes: Sizes, store: str, most: int) -> None:
        self._sizes = sizes
        self._store = store
        self._most = most
        self._reserved = 0

    def next(self, met: Sequence[Any]) -> int:
        """Return the number of documents for the next reply. `met` are those of the last one, which the caller no
        longer holds."""
        self.release()
        safe = self._sizes.fitting(self._store, self._most)
        size = raw_bytes(met)
        wanted = min(self._most, 2 * len(met), BATCH_BYTES * len(met) // size) if size else 0
        if wanted <= safe:
            return safe
        worst = min(_LONGEST_REPLY, wanted * (self._sizes.largest(self._store) or _LONGEST_REPLY))
        if self._sizes.reserved + worst > _MOST_RESERVED:
            return safe
        self._reserved = worst
        self._sizes.reserved += worst
        return wanted

    def came(self, met: Sequence[Any]) -> None:
        """Note that the reply has arrived with `met`, and end the reservation if they are not large."""
        if self._reserved and raw_bytes(met) <= BATCH_BYTES:
            self.release()

    def release(self) -> None:
        self._sizes.reserved -= self._reserved
        self._reserved = 0


def raw_bytes(rows: Sequence[Any]) -> int:
    """Return the bytes of raw documents; 0 for decoded ones."""
    return sum(len(row.raw) for row in rows) if rows and isinstance(rows[0], RawBSONDocument) else 0


def decoded(row: Mapping[str, Any]) -> Document:
    """Return the document, decoded if it is raw."""
    if isinstance(row, RawBSONDocument):
        return bson.decode(row.raw, CODEC)
    return row  # type: ignore[return-value]


def first_bytes(entities: list[Entity], most: int | None) -> tuple[list[Entity], int | None]:
    """Return the first entities, up to the one with which their JSON text has `most` bytes, and how many are left."""
    if most is None:
        return entities, None
    for count, entity in enumerate(entities, 1):
        most -= len(orjson.dumps(entity))
        if most <= 0:
            return entities[:count], 0
    return entities, most
