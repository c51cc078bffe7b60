"""Counts what clients hold of the process: open connections and buffered bytes, by address and in all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auth.addresses import address_block
from hub.errors import Overloaded
from stores.turns import Queue, SharedTurns

PIPELINED_SHARE: Final = 0.25
"""Part of `buffered` up to which requests may wait behind another on their connection."""
ADDRESS_SHARE: Final = 0.5
"""Part of `buffered` that one address may take."""
REFUSED_MORE: Final = 64
"""Connections of an address beyond its limit that are told so; further ones are closed without an answer."""
TURNS: Final = 8
"""Connections whose next request, having waited, is begun in one turn of the loop."""
CLOSINGS: Final = 50
"""Connections that are closed in one turn of the loop because their clients have hung up."""
CROWD: Final = 100
"""Requests that may have come in one turn of the loop before further ones wait for turns to come."""
CROWDED_SHARE: Final = 0.75
"""Part of `in_all` from which idle connections get less time."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`in_all` and `per_address` count connections, `buffered` bytes. 0 for `per_address`: no limit."""

    in_all: int = 50_000
    per_address: int = 1_024
    buffered: int = 268_435_456


@dataclass(slots=True, eq=False)
class Peer:
    """One address (IPv6: /64), and what it holds. No limit per address applies to an `exempt` one."""

    block: str
    exempt: bool
    connections: int = 0
    buffered: int = 0


class FewEachTurn:
    """Calls `most` of the functions that wait in each turn of the loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: Queue[Callable[[], None]] = Queue()

    def put(self, owner: str, call: Callable[[], None]) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._waiting.put(owner, call)

    def _run(self) -> None:
        try:
            for number in range(self._most):
                if not self._waiting:
                    return
                call = self._waiting.take_of_few() if number % 2 else self._waiting.take()
                call()
        finally:  # one that fails must not hold up those behind it
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._run)


class Connections:
    """Every open connection of the process.

    Args:
        exempt: whether an address is that of a proxy, behind which there are many clients.
        reached: is called with the name of each limit at which something is refused.
    """

    def __init__(self, limits: ConnectionLimits, exempt: Callable[[str], bool], reached: Callable[[str], None]) -> None:
        self.limits = limits
        self.reached = reached
        self.turns = SharedTurns()
        """In which what clients send is parsed."""
        self.count = 0
        self.buffered = 0
        self._exempt = exempt
        self._peers: dict[str, Peer] = {}
        self.unstarted = 0
        """Requests of which nothing has been done yet: those that came in this turn of the loop."""
        self._beginnings = FewEachTurn(TURNS)
        self._endings = FewEachTurn(CLOSINGS)

    def open(self, address: str) -> Peer:
        """Count a new connection; it must be given back to `close`, refused or not."""
        exempt = not address or self._exempt(address)
        block = address if exempt else address_block(address)
        peer = self._peers.get(block)
        if peer is None:
            peer = self._peers[block] = Peer(block, exempt)
        peer.connections += 1
        self.count += 1
        return peer

    def close(self, peer: Peer) -> None:
        peer.connections -= 1
        self.count -= 1
        if not peer.connections:
            self._peers.pop(peer.block, None)

    def refusal(self, peer: Peer) -> Overloaded | None:
        """Why the connection that `peer` has just opened is refused, if it is."""
        if self.count > self.limits.in_all:
            return Overloaded("too many connections", "connection", "The hub has as many connections as it takes.").at(
                "max_connections"
            )
        most = self.limits.per_address
        if most and peer.connections > most and not peer.exempt:
            return Overloaded(
                "too many connections", "connection", f"More than {most} connections from this address."
            ).at("max_connections_per_address")
        return None

    def is_flood(self, peer: Peer) -> bool:
        """Whether so many connections are refused that an answer to each would be too much."""
        most = self.limits.per_address
        return self.count > self.limits.in_all or peer.connections > most + REFUSED_MORE

    def patience(self, seconds: float) -> float:
        """Seconds that an idle connection may stay: a tenth of the usual while there is little room for others."""
        return seconds if self.count < CROWDED_SHARE * self.limits.in_all else seconds / 10

    def begun(self) -> None:
        self.unstarted -= 1

    def in_turn(self, peer: Peer | None, take_up: Callable[[], None]) -> None:
        """Call `take_up` before long. Only some are called in one turn of the loop, one address after the other, and
        every second time one of an address with few: however many requests come from a crowd of addresses at once or
        behind each other, those of others come between."""
        self._beginnings.put(peer.block if peer else "", take_up)

    def end_in_turn(self, peer: Peer | None, close: Callable[[], None]) -> None:
        """The same for a connection that is to be closed: thousands may hang up in one moment."""
        self._endings.put(peer.block if peer else "", close)

    def take(self, peer: Peer, size: int, share: float = 1.0) -> bool:
        """Count `size` more bytes held for `peer`. False if they do not fit into this share of all; they count anyway,
        until they are given back."""
        self.buffered += size
        peer.buffered += size
        most = share * self.limits.buffered
        return self.buffered <= most and (peer.exempt or peer.buffered <= ADDRESS_SHARE * most)

    def take_unparsed(self, peer: Peer, size: int) -> bool:
        """`take` for a WebSocket; a negative size gives back."""
        fits = self.take(peer, size)
        if not fits and size > 0:
            self.reached("max_buffered_bytes")
        return fits

    def give_back(self, peer: Peer, size: int) -> None:
        self.buffered -= size
        peer.buffered -= size
