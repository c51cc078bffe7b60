"""Reading of stored files piece by piece. Each piece is a request of its own: a slow reader keeps nothing open."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from hub.media.storage import Storage
from stores.errors import NotFound
from stores.threads import in_thread

PIECE: Final = 262_144
"""Bytes that are read at once."""


async def pieces_of(storage: Storage, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file from `start` up to `end`. Raises NotFound and Unavailable."""
    while start < end:
        piece = await storage.read(key, start, min(start + PIECE, end))
        if not piece:
            raise NotFound(f"{key} is shorter than its record says")
        yield piece
        start += len(piece)


async def download(storage: Storage, key: str, size: int, path: Path) -> None:
    """Copy a stored file to a new local one."""
    with path.open("xb") as file:
        async for piece in pieces_of(storage, key, 0, size):
            await in_thread(file.write, piece)
