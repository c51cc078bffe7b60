"""How large the documents of a store get: what decides whether a batch of them is decoded at once or one by one.

The driver decodes a whole reply in one call, up to 16 MB, while the event loop stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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

_FORGET_SECONDS: Final = 60.0

_SMALL: Final = 1_024
"""Bytes of documents of which even a long list is decoded at once."""

_MOST_RESERVED: Final = 67_108_864
_LONGEST_REPLY: Final = 16_777_216

RAW: Final[CodecOptions[Any]] = CODEC.with_options(document_class=RawBSONDocument)


class Sizes:
    """The largest document that has been seen of each store lately, in bytes of JSON text.

    One that is not met any more, in a minute or two, is forgotten: it may have been the only one, and deleted since.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._largest: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._renewed = clock()
        self._large = 0
        self._large_until = 0.0
        self.reserved = 0
        """Bytes that the replies to long lists may hold beyond what surely fits, all lists together."""

    def note(self, store: str, size: int) -> None:
        if size > self._largest.get(store, 0):
            self._largest[store] = size
        if size > LARGE_DOCUMENT:
            self._large, self._large_until = size, self._clock() + _RECENT_SECONDS

    def _forget(self) -> None:
        """Keep what was met since the last call that was long enough ago, and the sizes that change nothing."""
        now = self._clock()
        if now - self._renewed > _FORGET_SECONDS:
            self._renewed = now
            small = {store: size for store, size in self._before.items() if size <= _SMALL}
            self._before, self._largest = small | self._largest, {}

    def largest(self, store: str) -> int | None:
        """Bytes of the largest document of the store, None if none has been met lately."""
        self._forget()
        return max(self._largest.get(store, 0), self._before.get(store, 0)) or None

    def fitting_events(self, most: int) -> int:
        """How many changes, each with two images, one exchange should bring, by what has been written lately."""
        if self._clock() > self._large_until:
            return most
        return min(most, max(1, BATCH_BYTES // (2 * self._large)))

    def fitting_past_events(self, most: int) -> int:
        """The same of changes of which nothing is known."""
        return min(most, _UNKNOWN_EVENTS) if self._any_large() else most

    def _any_large(self) -> bool:
        self._forget()
        return any(size > LARGE_DOCUMENT for sizes in (self._largest, self._before) for size in sizes.values())

    def may_be_large(self, store: str, count: int) -> bool:
        """Whether so many documents may be more than `LARGE` together."""
        largest = self.largest(store)
        return largest is None or largest * count > LARGE

    def fitting(self, store: str, most: int) -> int:
        """How many documents one exchange should bring."""
        largest = self.largest(store)
        return min(most, _UNKNOWN if largest is None else max(1, BATCH_BYTES // largest))


class Pace:
    """How many documents each exchange of one long list brings, `most` at most: about `BATCH_BYTES` of them, if they
    are like the last ones. That there may be large ones among them is no reason to go in small steps: the bytes that a
    step may bring in the worst case are reserved, and only when no more can be is a step as short as surely fits."""

    def __init__(self, sizes: Sizes, store: str, most: int) -> None:
        self._sizes = sizes
        self._store = store
        self._most = most
        self._reserved = 0

    def next(self, met: Sequence[Any]) -> int:
        """Documents in the next exchange, after one that brought those in `met`, which are held no longer."""
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
        """The exchange has brought `met`, which are held from now on."""
        if self._reserved and raw_bytes(met) <= BATCH_BYTES:
            self.release()

    def release(self) -> None:
        self._sizes.reserved -= self._reserved
        self._reserved = 0


def raw_bytes(rows: Sequence[Any]) -> int:
    """Bytes of documents that are yet to be decoded, 0 for others."""
    return sum(len(row.raw) for row in rows) if rows and isinstance(rows[0], RawBSONDocument) else 0


def decoded(row: Mapping[str, Any]) -> Document:
    """The document, of which the driver may have left the decoding to us."""
    if isinstance(row, RawBSONDocument):
        return bson.decode(row.raw, CODEC)
    return row  # type: ignore[return-value]
