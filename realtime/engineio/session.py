"""The state of one Engine.IO session: inputs and the time go in; packets, messages and a reason to end come out.

No I/O, and no clock: `now` is in seconds of any monotonic clock. The shell, after each input, takes `take()` to the
client, looks at `closed`, and calls `tick` when `due` comes.

| state | transport | becomes |
| --- | --- | --- |
| open | polling | upgrading, by `begin_upgrade`; websocket, by `5` on that WebSocket |
| open | websocket | |
| closing | polling | closed, when a poll has fetched what waits and the close packet |
| closed | either | |

Source: engine.io-protocol v3 and v4; what they leave open is as in Node's engine.io 6.
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
    """Why a session ended. The first five are python-engineio's names too."""

    SERVER_DISCONNECT = "server disconnect"
    CLIENT_DISCONNECT = "client disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PARSE_ERROR = "parse error"
    LAGGING = "lagging"
    TOO_LARGE = "too large"
    NOT_CONNECTED = "not connected"
    SHUTDOWN = "shutdown"
    OVERLOADED = "overloaded"
    REVOKED = "revoked"
    EXPIRED = "expired"


CLOSE_CODES: Final[Mapping[CloseReason, int]] = {
    CloseReason.PING_TIMEOUT: 1001,
    CloseReason.PARSE_ERROR: 1002,
    CloseReason.NOT_CONNECTED: 1008,
    CloseReason.REVOKED: 1008,
    CloseReason.EXPIRED: 1008,
    CloseReason.TOO_LARGE: 1009,
    CloseReason.SHUTDOWN: 1012,
    CloseReason.LAGGING: 1013,
    CloseReason.OVERLOADED: 1013,
}
"""The WebSocket close code of each reason, 1000 for the others: many clients come back only after one that invites
them. Source: RFC 6455, 7.4.1, and IANA's WebSocket Close Code Number Registry."""

PROBE = "probe"
PUNCTUAL: Final = 0.01
"""Seconds by which a timer is late as a rule: a silent client gets no longer for it."""
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
"""Reasons for which a client that polls gets no close packet: python-engineio's does not reconnect after one."""


class Session:
    """One client. `octets`: a client of EIO=3 that polls can read binary payloads."""

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
        """When the application wants the session ended as `not connected`; infinite: never."""
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
        """Seconds until something must happen: EIO=4, the server's ping; EIO=3, any packet of the client."""
        options = self._options
        if self.version == 4:
            return options.ping_interval / 1000
        return (options.ping_interval + options.ping_timeout) / 1000

    @property
    def due(self) -> float:
        """When `tick` is to be called next."""
        return min(self._deadline, self.upgrade_deadline, self.expires)

    def tick(self, now: float) -> None:
        """Let time pass: send a ping, give up on a silent client, on an upgrade, on one that never connected."""
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
        # From when the ping is sent: a client cannot answer one that a late timer has yet to send.
        sent = self._deadline if now - self._deadline <= PUNCTUAL else now
        self._deadline = sent + self._options.ping_timeout / 1000
        self._queue.append(Packet(PING))

    # From the client

    def receive(self, packet: Packet, now: float) -> Data | None:
        """Take a packet of the client; the data of a message is for the application."""
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
        """Whether so much waits that a client which is sent more is lagging."""
        return self.queued_bytes > self.max_buffered or len(self._queue) >= self._options.max_queued_packets

    def send(self, data: Data) -> None:
        """Queue a message. A client that lets too much wait is closed as `lagging`."""
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
        """What goes to the client now, in order. For polling: the payload of the answer."""
        if self.probed and not self.closed:
            return [Packet(NOOP)]
        packets, self._queue, self.queued_bytes = self._queue, [], 0
        self.closing = False
        return packets

    # Upgrade

    @property
    def upgrading(self) -> bool:
        return self.upgrade_deadline != inf

    def begin_upgrade(self, now: float) -> bool:
        """A WebSocket with this session's id opens: whether it may try to take over."""
        if self.closed or not self.may_upgrade or self.upgrading:
            return False
        self.upgrade_deadline = now + self._options.upgrade_timeout / 1000
        return True

    def probe(self, packet: Packet) -> Packet | None:
        """A packet on the probed WebSocket; what to answer there. Anything but `2probe`, then `5`, ends the attempt."""
        if packet == (PING, PROBE):
            self.probed = True
            return Packet(PONG, PROBE)
        if packet.type == UPGRADE and self.probed:
            self.transport = "websocket"
        self.abandon_upgrade()
        return None

    def abandon_upgrade(self) -> None:
        """The WebSocket that was probed is gone: polling goes on."""
        self.probed = False
        self.upgrade_deadline = inf

    # The end

    def close(self, reason: CloseReason, last: str | None = None) -> None:
        """End the session; nothing that comes later counts. A client that polls is told in its last answer, after the
        message `last`."""
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
