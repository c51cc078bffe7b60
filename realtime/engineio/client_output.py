"""The output to one client: what waits until the client has read it, how much more may wait, and corked frames.

All of it runs on the event loop and never waits, except for a caller that asks to wait for room.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from realtime.engineio.host import Host
from realtime.engineio.packets import NOOP, Data, Packet, encode_frame
from realtime.engineio.polling import Poll
from realtime.engineio.session import CloseReason, Session
from realtime.engineio.waiting_output import SMALL_OUTPUT
from realtime.engineio.wire import GRACE, Wire
from stores.bounds import Limit

MOST_CORKED_BYTES: Final[Annotated[int, Limit("connection", "bytes in one write", "several writes")]] = 65_536
"""Maximum bytes that are corked for one write. More bytes are sent in several writes."""


class ClientOutput:
    """The output to one client, through its WebSocket or its polls.

    `owner` is set by the application once, before it sends anything: connections of one owner share a bound.
    `answering` is the number of bytes in large answers to polls that are being sent.
    """

    __slots__ = (
        "__weakref__",
        "_calm",
        "_corked",
        "_corked_bytes",
        "_host",
        "_max_buffered",
        "_max_offered",
        "_noted",
        "_poll",
        "_raw",
        "_roomy",
        "_wire",
        "answering",
        "owner",
        "session",
    )

    def __init__(self, host: Host[Any], session: Session) -> None:
        self.session = session
        self.owner = ""
        self.answering = 0
        self._host = host
        self.make_room(0)
        self._roomy: asyncio.Future[None] | None = None
        self._wire: Wire | None = None
        self._raw: asyncio.Transport | None = None
        self._corked: list[bytes] | None = None
        self._corked_bytes = self._noted = 0
        self._poll: Poll | None = None

    def close(self, reason: CloseReason = CloseReason.SERVER_DISCONNECT) -> None:
        """End the session."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send the session's output to the client."""
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent to this client."""
        return self.session.queued_bytes + self.answering if self._wire is None else self._wire.buffered()

    def make_room(self, size: int) -> None:
        """Allow `size` bytes to wait beyond the usual bounds, because the client asked for them; 0: none.

        A smaller size than before, other than 0, changes nothing: the larger answer may still wait.
        """
        if size:
            size = max(size, self._max_offered - self._usually_offered)
        self._max_buffered = self.session.max_buffered = self._host.options.max_buffered_bytes + size
        self._max_offered: int = self._usually_offered + size
        self._calm = min(SMALL_OUTPUT, self._max_offered)

    @property
    def _usually_offered(self) -> int:
        options = self._host.options
        return options.max_buffered_bytes if options.max_offered_bytes is None else options.max_offered_bytes

    @property
    def has_room(self) -> bool:
        """Whether at most half of the bytes that may be offered are waiting, or the connection has ended."""
        session = self.session
        if session.closed:
            return True
        waiting = self.buffered
        if waiting > self._usually_offered // 2 or (
            waiting > SMALL_OUTPUT and not self._host.waiting.has_room(self.owner)
        ):
            return False
        return self._wire is not None or session.queued < self._host.options.max_queued_packets // 2

    async def room(self, seconds: float) -> None:
        """Wait until the client `has_room` or the connection has ended, but for at most `seconds`."""
        if self.has_room:
            return
        if self._roomy is None:
            self._roomy = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._roomy,), timeout=seconds)

    async def emptied(self) -> None:
        """If the connection has ended, wait until nothing waits for its client any more."""
        if not self.session.closed:
            return
        await asyncio.sleep(GRACE)  # then its WebSocket is aborted
        while self.buffered:  # noqa: ASYNC110 (rare, and it may end in several ways)
            await asyncio.sleep(1)

    def wire_drained(self) -> None:
        """Note that the client has taken some of the waiting data."""
        if self._noted:
            self._note(self.buffered)
        if self._roomy is not None and self.has_room:
            roomy, self._roomy = self._roomy, None
            roomy.set_result(None)

    def send(self, data: Data) -> None:
        """Send a message, text or binary, without waiting. A client with too much unread is closed as `lagging`."""
        if self.session.closed:
            return
        is_full = self.session.full if self._wire is None else self._wire.buffered() > self._max_buffered
        if is_full:
            self.close(CloseReason.LAGGING)
            return
        self.session.send(data)
        self.flush()

    def write_frame(self, frame: bytes, text: str) -> None:
        """Send one packet that goes to many clients, as `offer` does. A client without room for it is closed as
        `lagging`.

        It is closed immediately. A caller that writes to many clients must not iterate over a collection that this
        changes.
        """
        if not self.offer(frame, text):
            self.close(CloseReason.LAGGING)

    def offer(self, frame: bytes, text: str) -> bool:
        """Send one packet to many clients.

        `text` is the whole packet, `42["change",{…}]`; `frame` is `build_text_frame(text)`. The packet keeps its order
        among the messages of `send`. If the frame cannot be written as it is, `text` is sent.

        Returns:
            False if too much waits for the client; then nothing was sent.
        """
        raw = self._raw
        if raw is None:
            return self._offer_text(text)
        size = raw.get_write_buffer_size()
        if size > self._calm and not self._may_grow(size):
            return False
        if (corked := self._host.corked) is None:
            if self._corked is not None:
                self.uncork()  # its turn has yet to come
            raw.write(frame)
        else:
            self._cork(frame, corked)
        return True

    def _may_grow(self, waiting: int) -> bool:
        """Return whether more may wait for the client, beside so many bytes."""
        self._note(waiting)
        return waiting <= self._max_offered and self._host.waiting.has_room(self.owner)

    def _note(self, waiting: int) -> None:
        """Count the bytes that wait for the client, if there are many."""
        counts = 0 if waiting <= SMALL_OUTPUT or self.session.closed else waiting
        if counts != self._noted:
            self._host.waiting.grow(self.owner, counts - self._noted)
            self._noted = counts

    def _offer_text(self, text: str) -> bool:
        session = self.session
        if session.closed:
            return True
        size = self.buffered
        if size > self._calm and not self._may_grow(size):
            return False
        if session.queued >= self._host.options.max_queued_packets // 2:
            return False
        session.send(text[1:])
        self.flush()
        return True

    def _cork(self, frame: bytes, corked: list[Any]) -> None:
        if self._corked is None:
            self._corked, self._corked_bytes = [], 0
            corked.append(self)
        self._corked.append(frame)
        self._corked_bytes += len(frame)
        if self._corked_bytes > MOST_CORKED_BYTES:
            self.uncork()

    def uncork(self) -> None:
        """Write the corked frames."""
        corked, self._corked = self._corked, None
        if corked is not None and self._raw is not None:
            self._raw.write(b"".join(corked))

    def _write_out(self) -> None:
        self.uncork()
        if self._poll is not None:
            self._poll.answer([Packet(NOOP)])
            self._poll = None
        if self._wire is not None:
            for packet in self.session.take():
                self._wire.write(encode_frame(self.session.version, packet))
