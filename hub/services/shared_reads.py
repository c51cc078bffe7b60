"""Reads that the creations of one request share, so that each is done once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from auth.groups import KnownGroups

T = TypeVar("T")


class SharedReads:
    """The results of the reads of one attempt of a request."""

    def __init__(self) -> None:
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
