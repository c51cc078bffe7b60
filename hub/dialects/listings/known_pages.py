"""The pages that may read with a key of anybody, for preflight requests to reference data.

Preflight requests need no key, so anybody may send any number of them. They are answered from memory, which is read
anew at most once a second, and only after keys or users have changed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from auth.keys import LISTINGS
from auth.resolver import FOREVER, alters_principals
from stores.bounds import Limit
from stores.protocol import Engine
from stores.query import And, Equal, Filter, Query, Sort
from stores.records import Change, Entity, now_ms

MOST_PAGE_HOSTS: Final[Annotated[int, Limit("process", "hosts that keys name", "no CORS for reference data")]] = 100_000
"""Further hosts are not allowed to ask for reference data before they send a key. Their keys work otherwise."""

_AT_ONCE: Final = 1_000
_BETWEEN_READINGS: Final = 1.0
"""Seconds."""
_READING_KEYS: Final = And((Equal(("kind",), LISTINGS), Equal(("scope",), "R"), Equal(("active",), True)))
_DISABLED: Final = Equal(("disabled",), True)


@dataclass(slots=True)
class _Pages:
    """Until when there is a key for all pages, and one for each host, in Unix milliseconds."""

    all: int = 0
    hosts: dict[str, int] = field(default_factory=dict)

    def add(self, key: Entity) -> None:
        expires, hosts = key.get("expires"), key.get("allowed_origins")
        until = expires if type(expires) is int else FOREVER
        if not hosts:
            self.all = max(self.all, until)
        for host in hosts if isinstance(hosts, list) else ():
            if isinstance(host, str) and (host in self.hosts or len(self.hosts) < MOST_PAGE_HOSTS):
                self.hosts[host] = max(self.hosts.get(host, 0), until)


@dataclass(slots=True)
class KnownPages:
    """The pages that active keys of scope ``R`` name. It follows the feed."""

    engine: Engine
    _pages: _Pages = field(default_factory=_Pages)
    _is_stale: bool = True
    _read_at: float = -math.inf
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def all_may_read(self) -> bool:
        """Return whether some key is for the pages of every host."""
        return (await self._current()).all > now_ms()

    async def may_read(self, host: str) -> bool:
        """Return whether some key names this host."""
        return (await self._current()).hosts.get(host, 0) > now_ms()

    def follow(self, changes: Sequence[Change]) -> None:
        """Apply the next changes of the feed."""
        if any(map(_alters_pages, changes)):
            self._is_stale = True

    def start_afresh(self) -> None:
        self._is_stale = True

    async def _current(self) -> _Pages:
        async with self._reading:
            if self._is_stale:
                now = asyncio.get_running_loop().time()
                await asyncio.sleep(max(0.0, self._read_at + _BETWEEN_READINGS - now))
                self._is_stale = False  # a change during the reading sets it again
                try:
                    self._pages = await self._read()
                except BaseException:
                    self._is_stale = True
                    raise
                self._read_at = asyncio.get_running_loop().time()
            return self._pages

    async def _read(self) -> _Pages:
        disabled = {user["_id"] async for user in self._each("users", _DISABLED)}
        pages = _Pages()
        async for key in self._each("keys", _READING_KEYS):
            if key.get("user") not in disabled:
                pages.add(key)
        return pages

    async def _each(self, store: str, where: Filter) -> AsyncIterator[Entity]:
        after: tuple[Any, ...] | None = None
        while found := await self.engine.entities(store, Query(where, (Sort(("_id",)),), 0, _AT_ONCE, after)):
            for entity in found:
                yield entity
            after = (found[-1]["_id"],)


def _alters_pages(change: Change) -> bool:
    return change.op == "lost" or (
        change.store in ("keys", "users") and (change.op == "insert" or alters_principals(change))
    )
