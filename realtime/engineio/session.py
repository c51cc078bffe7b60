"""The state of one Engine.IO session. Inputs are packets and the time; outputs are packets, messages, a close reason.

It has no I/O and no clock: `now` is in seconds of any monotonic clock. After each input, the shell sends `take()` to
the client, checks `closed`, and calls `tick` when `due` comes.

| state | transport | becomes |
| --- | --- | --- |
| open | polling | upgrading, by `begin_upgrade`; websocket, by `5` on that WebSocket |
| open | websocket | |
| closing | polling | closed, when a poll has fetched the waiting packets, and a further one the close packet |
| closed | either | |

Source: engine.io-protocol v3 and v4. Where they leave a choice, it behaves like Node's engine.io 6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import Final

from realtime.engineio.options import Options, TransportName
from realtime.engineio.packets import (
    CLOSE,
    MESSAGE,
    NOOP,
    OPEN,
    PING,
    PONG,
    UPGRADE,
    Data,
    Packet,
    Version,
)


class CloseReason(StrEnum):
    """Why a session ended. The first five names are those of python-engineio."""

    SERVER_DISCONNECT = "server disconnect"
    CLIENT_DISCONNECT = "client disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PARSE_ERROR = "parse error"
    LAGGING = "lagging"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    NOT_CONNECTED = "not connected"
    SHUTDOWN = "shutdown"
    OVERLOADED = "overloaded"
    REVOKED = "revoked"
    EXPIRED = "expired"


CLOSE_CODES: Final[Mapping[CloseReason, int]] = {
    CloseReason.PING_TIMEOUT: 1001,
    CloseReason.TOO_SLOW: 1001,
    CloseReason.PARSE_ERROR: 1002,
    CloseReason.NOT_CONNECTED: 1008,
    CloseReason.REVOKED: 1008,
    CloseReason.EXPIRED: 1008,
    CloseReason.TOO_LARGE: 1009,
    CloseReason.SHUTDOWN: 1012,
    CloseReason.LAGGING: 1013,
    CloseReason.OVERLOADED: 1013,
}
"""The WebSocket close code of each reason; the others have 1000. Many clients reconnect only after a code that invites
them to. Source: RFC 6455, 7.4.1, and IANA's WebSocket Close Code Number Registry."""

PROBE = "probe"
PUNCTUAL: Final = 0.01
"""Usual delay of a timer in seconds. It does not extend the deadline of a silent client."""
_SAID_BY_POLL = frozenset(
    (
        CloseReason.SERVER_DISCONNECT,
        CloseReason.REVOKED,
        CloseReason.EXPIRED,
        CloseReason.SHUTDOWN,
        CloseReason.LAGGING,
        CloseReason.OVERLOADED,
    )
)
_COMES_BACK = frozenset((CloseReason.SHUTDOWN, CloseReason.LAGGING, CloseReason.OVERLOADED))
"""Reasons without a close packet for a polling client, because python-engineio's client does not reconnect after
one."""


class Session:
    """One client. `octets`: a polling client of EIO=3 can read binary payloads."""

    __slots__ = (
        "_deadline",
        "_options",
        "_ping_pending",
        "_queue",
        "closed",
        "closing",
        "expires",
        "max_buffered",
        "octets",
        "probed",
        "queued_bytes",
        "sid",
        "transport",
        "upgrade_deadline",
        "version",
    )

    def __init__(
        self,
        sid: str,
        version: Version,
        transport: TransportName,
        options: Options,
        now: float,
        *,
        octets: bool = False,
    ) -> None:
        self.sid = sid
        self.version: Version = version
        self.transport: TransportName = transport
        self.octets = octets
        self.closed: CloseReason | None = None
        self.closing = False
        self.probed = False
        self.upgrade_deadline = inf
        self.expires = inf
        """When the session ends as `not connected`; infinity: never."""
        self._options = options
        self._ping_pending = False
        self._deadline = now + self._patience
        self._queue = [Packet(OPEN, self._open_data())]
        self.max_buffered = options.max_buffered_bytes
        self.queued_bytes = 0

    def _open_data(self) -> str:
        options = self._options
        data = {
            "sid": self.sid,
            "upgrades": ["websocket"] if self.may_upgrade else [],
            "pingInterval": options.ping_interval,
            "pingTimeout": options.ping_timeout,
        }
        if self.version == 4 or options.announce_max_payload:
            data["maxPayload"] = options.max_payload
        return json.dumps(data, separators=(",", ":"))

    @property
    def may_upgrade(self) -> bool:
        options = self._options
        return self.transport == "polling" and options.allow_upgrades and "websocket" in options.transports

    # Time

    @property
    def _patience(self) -> float:
        """Seconds until the next deadline: in EIO=4 for the server's ping, in EIO=3 for any packet of the client."""
        options = self._options
        if self.version == 4:
            return options.ping_interval / 1000
        return (options.ping_interval + options.ping_timeout) / 1000

    @property
    def due(self) -> float:
        """When `tick` must be called next."""
        return min(self._deadline, self.upgrade_deadline, self.expires)

    def tick(self, now: float) -> None:
        """Handle deadlines: send a ping, close a silent client or one that never connected, or abandon an upgrade."""
        if now >= self.upgrade_deadline:
            self.abandon_upgrade()
        if now >= self.expires:
            self.close(CloseReason.NOT_CONNECTED)
        if now >= self._deadline:
            self._deadline_passed(now)

    def _deadline_passed(self, now: float) -> None:
        if self.version == 3 or self._ping_pending or self.closing:
            self.close(CloseReason.PING_TIMEOUT)
            return
        self._ping_pending = True
        # Counts from when the ping is sent: a client cannot answer one that a late timer has not sent yet.
        sent = self._deadline if now - self._deadline <= PUNCTUAL else now
        self._deadline = sent + self._options.ping_timeout / 1000
        self._queue.append(Packet(PING))

    # From the client

    def receive(self, packet: Packet, now: float) -> Data | None:
        """Process a packet of the client. Return the data of a message, for the application."""
        if self.closed:
            return None
        if self.version == 3:
            self._deadline = now + self._patience
        if packet.type == MESSAGE:
            return packet.data
        if packet.type in (PING, PONG):
            self._heartbeat(packet, now)
        elif packet.type == CLOSE:
            self.close(CloseReason.CLIENT_DISCONNECT)
        return None

    def _heartbeat(self, packet: Packet, now: float) -> None:
        if (packet.type == PING) != (self.version == 3):
            self.close(CloseReason.PARSE_ERROR)
        elif packet.type == PING and self.full:
            self.close(CloseReason.LAGGING)
        elif packet.type == PING:
            self._queue.append(Packet(PONG, packet.data))
            self.queued_bytes += len(packet.data)
        else:
            self._ping_pending = False
            self._deadline = now + self._patience

    # To the client

    @property
    def queued(self) -> int:
        """Packets that wait for the client's next poll."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether so much waits that the client is lagging if more is sent."""
        return self.queued_bytes > self.max_buffered or len(self._queue) >= self._options.max_queued_packets

    def send(self, data: Data) -> None:
        """Queue a message. A client with too much waiting is closed as `lagging`."""
        if self.closed:
            return
        if self.full:
            self.close(CloseReason.LAGGING)
            return
        self._queue.append(Packet(MESSAGE, data))
        self.queued_bytes += len(data)

    @property
    def has_output(self) -> bool:
        """Whether a poll can be answered. While a WebSocket is probed, packets wait for it and a poll gets a noop."""
        return bool(self._queue) or self.probed

    def take(self) -> list[Packet]:
        """Return the packets to send to the client now, in order. For polling, they are the payload of the answer.

        A close packet comes alone, in the answer to a further poll: socket.io-client 4 delivers the messages of a
        payload after it has handled all of its packets, and none of them once it is closed.
        """
        if self.probed and not self.closed:
            return [Packet(NOOP)]
        packets, self._queue, self.queued_bytes = self._queue, [], 0
        if self.closing and len(packets) > 1 and packets[-1].type == CLOSE:
            self._queue.append(packets.pop())
        else:
            self.closing = False
        return packets

    def drop_queue(self) -> None:
        """Drop the packets of a session that has ended. Keep the last one, for a poll that is about to begin."""
        self._queue, self.queued_bytes = self._queue[-1:], 0

    # Upgrade

    @property
    def upgrading(self) -> bool:
        return self.upgrade_deadline != inf

    def begin_upgrade(self, now: float) -> bool:
        """Start an upgrade for a WebSocket that opened with this session's id. Return false if that is not allowed."""
        if self.closed or not self.may_upgrade or self.upgrading:
            return False
        self.upgrade_deadline = now + self._options.upgrade_timeout / 1000
        return True

    def probe(self, packet: Packet) -> Packet | None:
        """Process a packet on the probed WebSocket, and return the answer to send there.

        Anything but `2probe`, then `5`, ends the attempt.
        """
        if packet == (PING, PROBE):
            self.probed = True
            return Packet(PONG, PROBE)
        if packet.type == UPGRADE and self.probed:
            self.transport = "websocket"
        self.abandon_upgrade()
        return None

    def abandon_upgrade(self) -> None:
        """End the attempt to upgrade. Unless it has succeeded, polling goes on."""
        self.probed = False
        self.upgrade_deadline = inf

    # The end

    def close(self, reason: CloseReason, last: str | None = None) -> None:
        """End the session; later input is ignored.

        A polling client is informed by the next polls: of the message `last`, then of the end.
        """
        if self.closed:
            self.closing = False
            return
        self.closed = reason
        self.expires = inf
        self.abandon_upgrade()
        self.closing = self.transport == "polling" and reason in _SAID_BY_POLL
        if self.transport == "polling":
            if self.closing and last is not None:
                self._queue.append(Packet(MESSAGE, last))
            comes_back = reason in _COMES_BACK
            if not (comes_back and self._queue):
                is_noop = comes_back or reason == CloseReason.CLIENT_DISCONNECT
                self._queue.append(Packet(NOOP if is_noop else CLOSE))
