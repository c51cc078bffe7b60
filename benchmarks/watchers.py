"""Live clients with little overhead: Socket.IO (EIO=4) over WebSockets, reading only the number of each event.

The same program watches the hub and a Socket.IO server of Node. Clients with the same view receive the same bytes. So a
chunk of whole frames is parsed once, and recognized when the next client receives it.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, cast

Numbers = tuple[int, ...]

HANDSHAKE: Final = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}:{}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
NUMBER: Final = re.compile(rb'"value":(\d+)[,}]')
"""Matches the number in a write, and in the event that results from it."""

TEXT: Final = 0x81
MASKED: Final = 0x80
TWO_OCTETS: Final = 126
EIGHT_OCTETS: Final = 127
REMEMBERED: Final = 4_096
"""Maximum chunks that are recognized by their bytes."""

ASKED_AT_ONCE: Final = 50
"""Maximum unanswered subscriptions of one client."""

CONNECTING_AT_ONCE: Final = 100
PORTS: Final = 20_000
"""Connections from one address. Beyond that, the next address of 127.0.0.0/8 is used."""


def masked(text: str) -> bytes:
    """Return a frame as a client sends it, with a mask of zero."""
    payload = text.encode()
    length = len(payload)
    head = bytes((TEXT, MASKED | length)) if length < TWO_OCTETS else b"\x81\xfe" + length.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def frames(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the payload of each whole frame in `data`, and its end."""
    at = 0
    while len(data) >= at + 2:
        length, start = data[at + 1], at + 2
        octets = 2 if length == TWO_OCTETS else 8 if length == EIGHT_OCTETS else 0
        if octets:
            length, start = int.from_bytes(data[start : start + octets], "big"), start + octets
        at = start + length
        if len(data) < at:
            return
        yield data[start:at], at


class ClientPool:
    """The watchers of one server, and what they have received since `expect`.

    `lags` has the delay of each event (seconds from `sent[number]`), `latest` the time when the last client received
    each number, `faults` the errors. `sample` is the packet of the last event that was parsed. `ordered`: the server
    promises one order to all its clients.
    """

    ordered = True

    def __init__(self, address: tuple[str, int], greeting: str) -> None:
        self.address = address
        self.greeting = greeting
        self.watchers: list[Watcher] = []
        self.known: dict[bytes, Numbers] = {}
        self.sent: dict[int, float] = {}
        self.lags: array[float] = array("d")
        self.latest: dict[int, float] = {}
        self.faults: list[str] = []
        self.sample = b""
        self._goal = -1
        self._complete: asyncio.Future[None] | None = None

    def note(self, delivered: Numbers) -> None:
        """Record that a watcher has received these writes."""
        now = time.perf_counter()
        for number in delivered:
            self.latest[number] = now
            self.lags.append(now - self.sent.get(number, now))
        if self._complete is not None and len(self.lags) >= self._goal and not self._complete.done():
            self._complete.set_result(None)

    def expect(self, deliveries: int) -> asyncio.Future[None]:
        """Forget what was delivered before. Return a future that is done when this many deliveries have arrived."""
        for watcher in self.watchers:
            watcher.delivered = []
        self.sent, self.latest, self.lags, self._goal = {}, {}, array("d"), deliveries
        self.known.clear()
        self._complete = asyncio.get_running_loop().create_future()
        if not deliveries:
            self._complete.set_result(None)
        return self._complete

    async def join(self, subscriptions: Sequence[Sequence[str]]) -> None:
        """Connect a watcher for each sequence of subscriptions (JSON), and wait until all are acknowledged."""
        for start in range(0, len(subscriptions), CONNECTING_AT_ONCE):
            batch = subscriptions[start : start + CONNECTING_AT_ONCE]
            await asyncio.gather(*(self._connect(wanted) for wanted in batch))

    async def _connect(self, wanted: Sequence[str]) -> None:
        lane = len(self.watchers) // PORTS
        source = (f"127.0.0.{1 + lane}", 0) if lane else None
        watcher = Watcher(self, wanted)
        self.watchers.append(watcher)
        await asyncio.get_running_loop().create_connection(lambda: watcher, *self.address, local_addr=source)
        await watcher.ready

    def check(self, expected: Callable[[int], Iterable[int]]) -> list[str]:
        """Return the faults in what the watchers received.

        Each must have received `expected(its index)`, every number once. If the server is `ordered`, watchers that
        expect the same numbers must have received them in the same order.
        """
        faults, self.faults = self.faults, []
        orders: dict[tuple[int, ...], list[int]] = {}
        for index, watcher in enumerate(self.watchers):
            delivered = list(chain.from_iterable(watcher.delivered))
            wanted = tuple(sorted(expected(index)))
            if tuple(sorted(delivered)) != wanted:
                missing, more = len(set(wanted) - set(delivered)), len(delivered) - len(set(delivered) & set(wanted))
                faults.append(f"a client missed {missing} of {len(wanted)} events and got {more} too many")
            elif self.ordered and orders.setdefault(wanted, delivered) != delivered:
                faults.append("two clients got the same events in different orders")
        return faults

    def leave(self) -> None:
        for watcher in self.watchers:
            watcher.leave()
        self.watchers = []


class Watcher(asyncio.Protocol):
    """One client. `ready` is done when all its subscriptions are acknowledged.

    `delivered` has the numbers of the events since `ClientPool.expect`.
    """

    __slots__ = ("_acknowledged", "_asked", "_left", "_pool", "_rest", "_transport", "_wanted", "delivered", "ready")

    def __init__(self, pool: ClientPool, wanted: Sequence[str]) -> None:
        self.delivered: list[Numbers] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool = pool
        self._wanted = wanted
        self._asked = self._acknowledged = 0
        self._rest = b""
        self._left = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._transport.write(HANDSHAKE.format(*self._pool.address).encode())

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        delivered = self._pool.known.get(data)
        if delivered is None:
            delivered = self._take_apart(data)
        else:
            self._rest = b""
        if delivered:
            self.delivered.append(delivered)
            self._pool.note(delivered)

    def _take_apart(self, data: bytes) -> Numbers:
        """Return the numbers of the events in `data`, and handle the rest of it."""
        if data.startswith(b"HTTP/1.1 "):
            head, _, data = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                self._fail(head[:200].decode("latin-1"))
                return ()
        delivered: list[int] = []
        count = end = 0
        for payload, end in frames(data):  # noqa: B007 (where the last one ends)
            count += 1
            found = NUMBER.search(payload) if payload.startswith(b'42["change"') else None
            if found:
                delivered.append(int(found[1]))
                self._pool.sample = payload
            else:
                self._answer(payload)
        self._rest = data[end:]
        if len(delivered) == count and not self._rest and len(self._pool.known) < REMEMBERED:
            self._pool.known[data] = tuple(delivered)
        return tuple(delivered)

    def _answer(self, payload: bytes) -> None:
        """Handle anything but an event: the heartbeat, and the steps to a subscription."""
        if payload == b"2":
            self._send("3")
        elif payload.startswith(b"0{"):
            self._send(self._pool.greeting)
        elif payload.startswith(b"40"):
            self._ask()
        elif payload.startswith(b"43"):
            self._acknowledge(payload)
        elif not payload.startswith(b'42["position"'):
            self._fail(f"unexpected: {payload[:200]!r}")

    def _ask(self) -> None:
        while self._asked < min(len(self._wanted), self._acknowledged + ASKED_AT_ONCE):
            self._send(f'42{self._asked}["subscribe",{self._wanted[self._asked]}]')
            self._asked += 1

    def _acknowledge(self, payload: bytes) -> None:
        if b'{"ok":true' not in payload:
            self._fail(payload[:300].decode())
        self._acknowledged += 1
        self._ask()
        if self._acknowledged == len(self._wanted) and not self.ready.done():
            self.ready.set_result(None)

    def _send(self, text: str) -> None:
        if self._transport is not None:
            self._transport.write(masked(text))

    def _fail(self, why: str) -> None:
        self._pool.faults.append(why)
        if not self.ready.done():
            self.ready.set_exception(RuntimeError(why))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._left:
            self._fail(f"the connection was lost: {error or 'closed'}")

    def leave(self) -> None:
        self._left = True
        if self._transport is not None:
            self._transport.abort()
