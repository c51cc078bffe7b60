"""The texts of the entities in a list."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from json import JSONDecoder
from typing import Final

import orjson

from stores.protocol import Listing
from stores.records import Entity

PARSED_AT_ONCE: Final = 1_048_576
"""Bytes of entities up to which they are parsed by one call."""


async def pieces_of(listing: Listing) -> AsyncGenerator[bytes]:
    """Yield the pieces of a list."""
    if isinstance(listing.body, bytes):
        yield listing.body
        return
    async with aclosing(listing.body) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            yield piece


def texts_in(piece: bytes) -> list[bytes]:
    """Return the texts of the entities in a piece of a list, which ends with an entity or with the list."""
    start = 1 if piece[:1] in (b"[", b",") else 0
    inner = piece[start : len(piece) - piece.endswith(b"]")]
    if len(inner) > PARSED_AT_ONCE:
        return [*_split(inner.decode())]
    entities: list[Entity] = orjson.loads(b"[" + inner + b"]")
    return [orjson.dumps(entity) for entity in entities]


def _split(entities: str) -> Iterator[bytes]:
    """Yield the texts between commas. They are parsed one by one: parsing megabytes in one call would hold the
    interpreter, and with it the event loop."""
    find_end, start = JSONDecoder().raw_decode, 0
    while start < len(entities):
        _, end = find_end(entities, start)
        yield entities[start:end].encode()
        start = end + 1
