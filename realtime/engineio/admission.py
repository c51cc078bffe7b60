"""Admission of connections: counts them by address, and closes some that have not joined to make room for new ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Guest(Protocol):
    """A connection. `block` is the address block that it counts for, or None. Only this module sets `admitted`."""

    block: str | None
    admitted: bool


G = TypeVar("G", bound=Guest)


@dataclass(slots=True)
class _Address(Generic[G]):
    count: int = 0
    unjoined: dict[G, None] = field(default_factory=dict)


class Admission(Generic[G]):
    """Connections by address.

    Args:
        most: maximum connections at once.
        per_address: maximum connections of one address at once; 0: no limit.
        evict: closes a connection to make room at the limit of this name, and calls `leave` for it.
    """

    def __init__(self, most: int, per_address: int, evict: Callable[[G, str], None]) -> None:
        self._most = most
        self._per_address = per_address
        self._evict = evict
        self._count = 0
        self._unjoined: dict[G, None] = {}
        self._addresses: dict[str, _Address[G]] = {}

    def refusal(self, block: str | None) -> str:
        """Make room for a connection from this address, by closing the oldest one that has not joined.

        `block` is None for an address that is not counted.

        Returns:
            The name of the limit at which there is no room; empty if there is room.
        """
        address = self._addresses.get(block) if block and self._per_address else None
        if address is not None and address.count >= self._per_address:
            name = "max_connections_per_address"
            if not self._evict_from(address.unjoined, name):
                return name
        if self._count >= self._most and not self._evict_from(self._unjoined, "max_connections"):
            return "max_connections"
        return ""

    def enter(self, guest: G, *, joined: bool) -> None:
        guest.admitted = True
        self._count += 1
        if guest.block:
            self._addresses.setdefault(guest.block, _Address()).count += 1
        self.join(guest, joined)

    def join(self, guest: G, joined: bool = True) -> None:
        """Record that a connection has joined, or has not. Ignore a connection that has left."""
        if not guest.admitted:
            return
        lists = [self._unjoined]
        if guest.block:
            lists.append(self._addresses[guest.block].unjoined)
        for each in lists:
            each.pop(guest, None)
            if not joined:
                each[guest] = None

    def leave(self, guest: G) -> None:
        """Forget a connection. Ignore one that has left."""
        if not guest.admitted:
            return
        self.join(guest)
        guest.admitted = False
        self._count -= 1
        if guest.block:
            address = self._addresses[guest.block]
            address.count -= 1
            if not address.count:
                del self._addresses[guest.block]

    def _evict_from(self, unjoined: dict[G, None], limit: str) -> bool:
        oldest = next(iter(unjoined), None)
        if oldest is None:
            return False
        self._evict(oldest, limit)
        return True
