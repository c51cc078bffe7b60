"""The creations of one request share all of its bodies, and reads, so that each read is done once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from auth.groups import KnownGroups
from stores.records import Entity

T = TypeVar("T")


class SharedReads:
    """The results of the reads of one attempt of a request that creates `entities`."""

    def __init__(self, entities: Sequence[Entity] = ()) -> None:
        self.entities = entities
        self.groups: KnownGroups = {}
        self._results: dict[str, Any] = {}

    async def once(self, key: object, read: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `read`, which is called once for each text `key`."""
        if not isinstance(key, str):
            return await read()
        if key not in self._results:
            self._results[key] = await read()
        result: T = self._results[key]
        return result
