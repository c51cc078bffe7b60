"""Counts the connections and buffered bytes of clients, per address and in total."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auth.addresses import address_block
from hub.http.errors import Overloaded
from hub.http.unread import UnreadAnswers
from stores.turns import Queue, SharedTurns

PIPELINED_SHARE: Final = 0.25
"""Share of `buffered` available to pipelined requests, which wait behind another request on their connection."""
ADDRESS_SHARE: Final = 0.5
"""Share of `buffered` that one address may use."""
REFUSED_MORE: Final = 64
"""Connections beyond an address's limit that receive an error answer; further ones are closed without one."""
LITTLE_INPUT: Final = 16_384
"""Bytes of input that a WebSocket may hold although `buffered` is exceeded."""
TURNS: Final = 8
"""Waiting requests that are started in one iteration of the event loop."""
CLOSINGS: Final = 50
"""Connections closed in one iteration of the event loop after their clients have disconnected."""
CROWD: Final = 100
"""Unstarted requests of the current iteration of the loop beyond which further ones are queued."""
CROWDED_SHARE: Final = 0.75
"""Share of `in_all` above which idle connections are closed earlier."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`in_all` and `per_address` count connections; 0 for `per_address` means no limit. `buffered` is in bytes."""

    in_all: int = 50_000
    per_address: int = 1_024
    buffered: int = 268_435_456


@dataclass(slots=True, eq=False)
class Peer:
    """One address (IPv6: /64) and its usage. The limits per address do not apply to an `exempt` one. `all` are the
    connections of all addresses."""

    block: str
    exempt: bool
    all: Connections
    connections: int = 0
    buffered: int = 0

    @property
    def limited(self) -> str:
        """The address if it has limits, otherwise an empty text."""
        return "" if self.exempt else self.block


class FewEachTurn:
    """Queues functions and calls at most `most` of them in each iteration of the event loop."""

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
        finally:  # a failing function must not block those behind it
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._run)


class Connections:
    """Every open connection of the process.

    Args:
        exempt: returns whether an address belongs to a proxy, which has many clients behind it.
        reached: called with the limit's name at each refusal.
    """

    def __init__(self, limits: ConnectionLimits, exempt: Callable[[str], bool], reached: Callable[[str], None]) -> None:
        self.limits = limits
        self.reached = reached
        self.turns = SharedTurns()
        """Turns for parsing input."""
        self.count = 0
        self.buffered = 0
        self.unread = UnreadAnswers()
        self._exempt = exempt
        self._peers: dict[str, Peer] = {}
        self.unstarted = 0
        """Requests whose application has not been called yet: they arrived in this iteration of the loop."""
        self._beginnings = FewEachTurn(TURNS)
        self._endings = FewEachTurn(CLOSINGS)

    def register(self, address: str) -> Peer:
        """Count a new connection. The caller must pass the peer to `unregister`, even if the connection is refused."""
        exempt = not address or self._exempt(address)
        block = address if exempt else address_block(address)
        peer = self._peers.get(block)
        if peer is None:
            peer = self._peers[block] = Peer(block, exempt, self)
        peer.connections += 1
        self.count += 1
        return peer

    def unregister(self, peer: Peer) -> None:
        peer.connections -= 1
        self.count -= 1
        if not peer.connections:
            self._peers.pop(peer.block, None)

    def refusal(self, peer: Peer) -> Overloaded | None:
        """Return why the latest connection of `peer` is refused, or None."""
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
        """Return whether so many connections are refused that answering each would cost too much."""
        most = self.limits.per_address
        return self.count > self.limits.in_all or peer.connections > most + REFUSED_MORE

    def patience(self, seconds: float) -> float:
        """Return the idle timeout in seconds: a tenth of `seconds` while the process is close to its connection
        limit."""
        return seconds if self.count < CROWDED_SHARE * self.limits.in_all else seconds / 10

    def begun(self) -> None:
        self.unstarted -= 1

    def in_turn(self, peer: Peer | None, take_up: Callable[[], None]) -> None:
        """Queue `take_up` for one of the next iterations of the loop.

        Each iteration calls only some functions, in rotation over the addresses; every second call goes to an address
        with few of them. So requests from many addresses, or many from one, cannot block those of other clients.
        """
        self._beginnings.put(peer.block if peer else "", take_up)

    def end_in_turn(self, peer: Peer | None, close: Callable[[], None]) -> None:
        """Queue the closing of a connection in the same way: thousands of clients may disconnect at once."""
        self._endings.put(peer.block if peer else "", close)

    def take(self, peer: Peer, size: int, share: float = 1.0) -> bool:
        """Count `size` more bytes held for `peer`. Return False if they exceed this share of the limit; they are
        counted anyway, until `give_back`."""
        self.buffered += size
        peer.buffered += size
        most = share * self.limits.buffered
        return self.buffered <= most and (peer.exempt or peer.buffered <= ADDRESS_SHARE * most)

    def take_input(self, peer: Peer, size: int, held: int) -> bool:
        """Run `take` for `size` more bytes of a WebSocket, which then holds `held` bytes. A negative size gives bytes
        back. `LITTLE_INPUT` always fits: clients who hold much must not close the connections of others."""
        fits = self.take(peer, size) or held <= LITTLE_INPUT
        if not fits and size > 0:
            self.reached("max_buffered_bytes")
        return fits

    def give_back(self, peer: Peer, size: int) -> None:
        self.buffered -= size
        peer.buffered -= size
