"""OpenAPI documents as text, kept for callers with equal rights: with hundreds of stores a document takes long to
make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Annotated, Final

from stores.bounds import Limit
from stores.turns import FairSemaphore

MOST_DOCUMENT_BYTES: Final[Annotated[int, Limit("process", "bytes", "the oldest go, and are made again")]] = 33_554_432
"""Size of the OpenAPI documents that are kept."""


class KeptDocuments:
    """Documents of one generation of store definitions. One is made at a time; users whose documents wait take
    turns."""

    def __init__(self, most_bytes: int = MOST_DOCUMENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: dict[Hashable, bytes] = {}
        self._bytes = 0
        self._generation = -1
        self._slots = FairSemaphore(1, 1)

    async def get(
        self, user: str, rights: Hashable, generation: Callable[[], int], make: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """Return the document for these rights. `make` makes it from the current generation of definitions."""
        found = self._find(rights, generation())
        if found is not None:
            return found
        async with self._slots.slot(user):
            now = generation()
            found = self._find(rights, now)
            if found is None:
                found = await make()
                if generation() == now:
                    self._keep(rights, found)
            return found

    def _find(self, rights: Hashable, generation: int) -> bytes | None:
        if generation != self._generation:
            self._kept.clear()
            self._generation, self._bytes = generation, 0
        return self._kept.get(rights)

    def _keep(self, rights: Hashable, document: bytes) -> None:
        if len(document) > self._most_bytes:
            return
        self._kept[rights] = document
        self._bytes += len(document)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))))
