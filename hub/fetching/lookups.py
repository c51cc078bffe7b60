"""Finds the addresses of a host: by the system's resolver, or in a file, in threads.

The system's resolver cannot be interrupted, and takes half a minute for a name whose servers do not answer. So it has
threads of its own, few of them, of which no user has more than a quarter. All callers share the lookup of a name. A
caller that waits too long leaves; the thread goes on, and still counts. The threads are daemons: the process can end
while one waits.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Annotated, Final

from hub.fetching.addresses import Address
from hub.fetching.errors import FetchFailed
from stores.bounds import Limit
from stores.read_turns import READER
from stores.turns import FairSemaphore

log = logging.getLogger(__name__)

Lookup = Callable[[str], Awaitable[Sequence[Address]]]
"""Returns the addresses of a host; none if it has none. Raises FetchFailed."""

MOST_LOOKUPS: Final[Annotated[int, Limit("process", "names looked up at a time", "waits")]] = 32

_LARGEST_FILE: Final = 1_048_576


class ThreadedLookup:
    """A `Lookup` that calls `resolve` in threads. `resolve` raises OSError for a name that it does not know."""

    def __init__(self, resolve: Callable[[str], Sequence[Address]], most: int = MOST_LOOKUPS) -> None:
        self._resolve = resolve
        self._slots = FairSemaphore(most, max(1, most // 4))
        self._running: dict[str, asyncio.Future[Sequence[Address] | Exception]] = {}

    async def __call__(self, host: str) -> Sequence[Address]:
        running = self._running.get(host)
        if running is None:
            found = await self._slots.run(READER.get(), lambda: self._start(host))
        else:
            found = await asyncio.shield(running)
        if isinstance(found, Exception):
            raise FetchFailed(f"{host} has no address") from found
        return found

    def _start(self, host: str) -> asyncio.Future[Sequence[Address] | Exception]:
        """Look a host up in a thread, unless somebody else has begun to while this caller waited."""
        if host in self._running:
            return self._running[host]
        loop = asyncio.get_running_loop()

        def look_up() -> None:
            found: Sequence[Address] | Exception
            try:
                found = self._resolve(host)
            except Exception as error:
                found = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._end, host, found)

        try:
            threading.Thread(target=look_up, name="hub-lookup", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            raise FetchFailed(f"{host} cannot be looked up now") from error
        running = self._running[host] = loop.create_future()
        return running

    def _end(self, host: str, found: Sequence[Address] | Exception) -> None:
        self._running.pop(host).set_result(found)


def resolve_by_system(host: str) -> list[Address]:
    """Return the addresses in the order in which the system would try them. Raises OSError."""
    found = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
    return [ip_address(str(address[0])) for *_, address in found]


class HostsFile:
    """Finds addresses in a file of the format of /etc/hosts, which is read anew each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, host: str) -> list[Address]:
        """Return the addresses of a host. Raises OSError."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                lines = file.read(_LARGEST_FILE).splitlines()
        except OSError as error:
            log.warning("HUB_FETCH_HOSTS: %s cannot be read: %s", self._path, error.strerror)
            raise
        entries = (line.partition("#")[0].split() for line in lines)
        texts = [first for first, *names in filter(None, entries) if host in map(str.lower, names)]
        return [address for text in texts if (address := _parse(text)) is not None]


def _parse(text: str) -> Address | None:
    """Parse an address, in any spelling that the C library knows: ``127.1`` is one of them."""
    with suppress(ValueError):
        return ip_address(text)
    with suppress(OSError):
        return IPv4Address(socket.inet_aton(text))
    return None
