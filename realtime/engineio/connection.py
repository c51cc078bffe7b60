"""One client: its session, the WebSocket or poll that reaches it, and its messages on their way to the application.
Its output is in `client_output.py`.

All of it runs on the event loop and never waits, except for the worker of the inbox. That task exists only while the
application handles a message.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from math import inf
from typing import Any, Final

from realtime.engineio.client_output import ClientOutput
from realtime.engineio.deadlines import Entry
from realtime.engineio.host import Host, Result
from realtime.engineio.inbox import Inbox
from realtime.engineio.options import TransportName
from realtime.engineio.packets import (
    Data,
    MalformedPacket,
    Packet,
    Version,
    byte_length,
    decode_binary,
    decode_text,
    exceeds,
)
from realtime.engineio.polling import Poll
from realtime.engineio.session import CLOSE_CODES, CloseReason, Session
from realtime.engineio.wire import NORMAL_CLOSURE, Receive, Scope, Wire

log = logging.getLogger("hub.engineio")

OPENED: Final = object()


class Connection(ClientOutput):
    """A connected client, as the application sees it.

    `scope` is the ASGI scope of the handshake; `state` belongs to the application.
    """

    __slots__ = (
        "_finished",
        "_inbox",
        "_is_paused",
        "_message_due",
        "_opened",
        "_packet_due",
        "_sent_unread",
        "admitted",
        "armed",
        "block",
        "joined",
        "posting",
        "probe_wire",
        "scope",
        "state",
    )

    def __init__(self, host: Host[Connection], session: Session, scope: Scope) -> None:
        super().__init__(host, session)
        self.scope = scope
        self.state: Any = None
        self.armed: Entry | None = None
        self.block = host.options.address_block(self.remote) if self.remote else None
        self.admitted = False
        self.joined = not host.options.must_join
        self.posting = False
        self.probe_wire: Wire | None = None
        self._host: Host[Connection]
        self._sent_unread = 0
        self._inbox: Inbox | None = None
        self._opened = self._finished = self._is_paused = False
        self._message_due = self._packet_due = inf

    # For the application

    @property
    def sid(self) -> str:
        return self.session.sid

    @property
    def version(self) -> Version:
        """The client's EIO: 3 (Socket.IO protocol 4) or 4 (protocol 5)."""
        return self.session.version

    @property
    def transport(self) -> TransportName:
        return self.session.transport

    @property
    def remote(self) -> str | None:
        """The client's address, as the ASGI server reports it."""
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def closed(self) -> CloseReason | None:
        return self.session.closed

    def close(self, reason: CloseReason = CloseReason.SERVER_DISCONNECT) -> None:
        """End the session. The application gets one call of `on_disconnect`."""
        last = None if self._wire is not None or self.session.closed else self._host.farewell(self, reason)
        self.session.close(reason, last and last[1:])
        self.flush()

    def expire(self, seconds: float) -> None:
        """Close as `not connected` after `seconds`, unless the client joins before.

        Until then it counts as not joined.
        """
        self.session.expires = asyncio.get_running_loop().time() + seconds
        self._set_joined(False)

    def join(self) -> None:
        """Count the client as joined: its messages may have full size, and it is not closed to make room for others."""
        self.session.expires = inf
        self._set_joined(True)

    def _set_joined(self, joined: bool) -> None:
        self.joined = joined
        self._host.admission.join(self, joined)
        if self._wire is not None:
            self._wire.limit(self.max_payload)
        self.flush()

    @property
    def max_payload(self) -> int:
        """Maximum bytes of a message that the client may send now."""
        options = self._host.options
        return options.max_payload if self.joined else options.max_unjoined_payload or options.max_payload

    # For the server

    @property
    def due(self) -> float:
        return min(self.session.due, self._message_due, self._packet_due)

    def tick(self) -> None:
        now = asyncio.get_running_loop().time()
        self.session.tick(now)
        if now >= min(self._message_due, self._packet_due):
            self._message_overdue(now)
        if self.probe_wire is not None and not self.session.upgrading:
            self.drop_probe()
        self.flush()

    def _message_overdue(self, now: float) -> None:
        """Close the connection, because a message has not arrived in time. While the application works on others, which
        may keep this one from being read, give it more time."""
        if self._inbox is not None and not self.session.closed:
            self._postpone(now)
            return
        self._message_due = self._packet_due = inf
        if not self.session.closed:
            self.session.close(CloseReason.TOO_SLOW)

    def _postpone(self, due_by: float) -> None:
        """Give an unfinished message, or its attachments, the full time again if they are due by this time."""
        if self._message_due <= due_by:
            self._message_due = self._deadline_of_message()
        if self._packet_due <= due_by:
            self._packet_due = self._deadline_of_message()

    def opened(self) -> None:
        """Report the connection to the application, because the open packet is on its way."""
        self._opened = True
        self._feed(OPENED)
        self.flush()

    def attach(self, wire: Wire) -> None:
        """Use this WebSocket, which is open or has completed the upgrade, and send it the waiting packets."""
        self._wire = wire
        wire.limit(self.max_payload)
        self._raw = wire.transport
        self.flush()

    def has_wire(self, wire: Wire) -> bool:
        return self._wire is wire

    def flush(self) -> None:
        """Send the session's output to the client, and handle its end or its next deadline."""
        session = self.session
        if session.transport == "websocket":
            self._write_out()
        elif self._poll is not None and session.has_output:
            self._poll.answer(session.take())
            self._poll = None
        self.wire_drained()
        if session.closed:
            self._finish(session.closed)
        else:
            self._host.deadlines.watch(self)

    def _finish(self, reason: CloseReason) -> None:
        if not self._finished:
            self._finished = True
            self._host.ended(self, reason)
            self._close_wires(reason)
            if self._opened:
                self._feed(reason)
        if self.session.closing:
            self._host.deadlines.watch(self)
        else:
            self._host.forget(self)

    def _close_wires(self, reason: CloseReason) -> None:
        self.uncork()
        self._raw = None
        self.drop_probe()
        if self._wire is not None:
            if last := self._host.farewell(self, reason):
                self._wire.write(last)
            self._wire.close(reason, CLOSE_CODES.get(reason, NORMAL_CLOSURE))
            self._wire = None

    def drop_probe(self) -> None:
        if self.probe_wire is not None:
            self.probe_wire.close("")
            self.probe_wire = None

    # Input: WebSocket

    def message_unfinished(self, is_unfinished: bool) -> None:
        self._message_due = self._deadline_of_message() if is_unfinished else inf
        if is_unfinished and not self.session.closed:
            self._host.deadlines.watch(self)

    def _deadline_of_message(self) -> float:
        return asyncio.get_running_loop().time() + self._host.options.body_timeout / 1000

    def frame_received(self, data: Data) -> None:
        self._message_due = inf
        if exceeds(data, self.max_payload):
            self.close(CloseReason.TOO_LARGE)
            return
        if self._wire is not None and self._sends_without_reading(self._wire, data):
            self.close(CloseReason.LAGGING)
            return
        try:
            packet = self.decode(data)
        except MalformedPacket:
            self.close(CloseReason.PARSE_ERROR)
            return
        self.receive(packet)
        self.flush()

    def _sends_without_reading(self, wire: Wire, data: Data) -> bool:
        """Return whether the client has sent too much while too much waits for it.

        Such a client sends pings, for example, and their answers would pile up.
        """
        if wire.buffered() <= self._max_buffered:
            self._sent_unread = 0
            return False
        self._sent_unread += byte_length(data)
        return self._sent_unread > self._host.options.max_buffered_bytes

    def decode(self, data: Data) -> Packet:
        return decode_text(data) if isinstance(data, str) else decode_binary(self.session.version, data)

    def wire_lost(self, *, too_large: bool = False) -> None:
        self._raw = self._wire = None
        self.close(CloseReason.TOO_LARGE if too_large else CloseReason.TRANSPORT_CLOSE)

    # Input: polling

    @property
    def polling(self) -> bool:
        """Whether a poll waits for packets."""
        return self._poll is not None

    async def poll(self, receive: Receive) -> list[Packet]:
        """Wait for packets and return them. An aborted poll ends the session."""
        if self.session.has_output:
            packets = self.session.take()
            self.flush()
            return packets
        self._poll = Poll()
        waited = await self._poll.wait(receive)
        if waited is None:
            self._poll = None
            self.close(CloseReason.TRANSPORT_ERROR)
        return waited or []

    # To the application

    def packet_begun(self) -> None:
        """Set a deadline for the attachments of a message, which are messages of their own."""
        self._packet_due = self._deadline_of_message()
        if not self.session.closed:
            self._host.deadlines.watch(self)

    def packet_ended(self) -> None:
        self._packet_due = inf

    def receive(self, packet: Packet) -> None:
        """Process a packet of the client."""
        message = self.session.receive(packet, asyncio.get_running_loop().time())
        if message is not None:
            self._feed(message)

    def _feed(self, item: object) -> None:
        if self._inbox is None:
            job = self._hand_over(item)
            if job is not None:
                self._inbox = Inbox(job, self._hand_over, self._worked_off)
            return
        self._inbox.put(item)
        if self._wire is not None:
            self._wire.hold(self._inbox.bytes)
        if self._wire is not None and self._is_inbox_full:  # `hold` may have closed it
            self._wire.pause()
            self._is_paused = True

    def _hand_over(self, item: object) -> Result:
        host = self._host
        try:
            if isinstance(item, CloseReason):
                result = host.on_disconnect(self, item)
            elif isinstance(item, Data):
                result = host.on_message(self, item)
            else:
                result = host.on_open(self)
        except Exception:
            log.exception("the application failed")
            return None
        return result if inspect.isawaitable(result) else None

    def _worked_off(self) -> None:
        self._inbox = None
        if self._is_paused:
            self._is_paused = False
            self._postpone(self._deadline_of_message())
        if self._wire is not None:
            self._wire.hold(0)
            self._wire.resume()

    @property
    def _is_inbox_full(self) -> bool:
        options = self._host.options
        return self._inbox is not None and self._inbox.is_full(options.max_inbox, options.max_payload)

    async def inbox_has_room(self) -> None:
        """If the inbox is full, wait until the application has handled all of it."""
        if self._is_inbox_full:
            await self.inbox_done()

    async def inbox_done(self) -> None:
        """Wait until the application has handled all input."""
        if self._inbox is not None:
            await self._inbox.done()

    def end_work(self) -> None:
        """Cancel what the application still does for the client."""
        if self._inbox is not None:
            self._inbox.end()
