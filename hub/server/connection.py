"""One client's connection, apart from its requests: connection limits, held input, timers, unsent data and
refusals."""

from __future__ import annotations

import asyncio
import secrets
import select
import socket
from typing import Annotated, Any, Final

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.dialects.base import ErrorAnswer
from hub.http.active import ACTIVE, ActiveRequest
from hub.http.answer import Answer
from hub.http.call import LINGER_SECONDS
from hub.http.connections import PIPELINED_SHARE, Connections, Peer
from hub.http.errors import HubError, Overloaded, TooSlow, describe, status_text
from hub.http.unread import NOT_MUCH
from hub.server.cycle import HubCycle
from hub.server.heads import HeadLimits, path_of
from hub.server.progress import Progress
from stores.bounds import Limit

UNSENT_BYTES: Annotated[int, Limit("connection", "bytes", "waits")] = 131_072
"""Largest number of unsent bytes in the system's buffer, besides those in flight."""
MOMENT: Final = 0.1
"""Grace period in seconds for reading data that has already arrived."""
UNWANTED_SECONDS: Final = 5.0
"""Grace period for a client to stop uploading after an early response."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim answer, which every client of HTTP/1.1 must ignore."""
PROBE_EVERY: Final = 0.5
"""Seconds between two such answers to a client that has closed its sending side."""


class Flow(FlowControl):
    """uvicorn's flow control, except that reading never resumes while data waits to be parsed."""

    is_behind = False

    def resume_reading(self) -> None:
        if not self.is_behind:
            super().resume_reading()


class ClientConnection(HttpToolsProtocol):
    """The part of `HubHttpProtocol` that does not concern requests."""

    flow: Flow

    def __init__(
        self,
        *args: Any,
        limits: HeadLimits,
        connections: Connections,
        write_timeout: float,
        error_answer: ErrorAnswer,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._error_answer = error_answer
        self._limits = limits
        self._all = connections
        self._write_timeout = write_timeout
        self._peer: Peer | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._progress: Progress | None = None
        self._unread: tuple[str, str, int] | None = None
        """Address, user and number of the unread bytes that are counted for this connection."""
        self._running: HubCycle | None = None
        """The request that is being answered. `cycle` is the request that was parsed last."""
        self._arriving: int | None = None
        """Bytes of the current head, not counting the piece in which it began; None outside a head."""
        self._is_ended = False
        """Whether the client has closed its sending side."""
        self._refusing: HubError | None = None
        self._is_answered = False
        """Whether `_refusing` has been sent."""
        # Before the first head: a refusal may come earlier.
        self.url, self.headers = b"", []
        self._buffered = b""
        """Input behind the request that is being answered, or input that waits for its turn to be parsed."""
        self._charged = 0
        """Bytes of bodies counted for this connection."""

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport)
        bound_unsent(transport)
        self._peer = self._all.register(self.client[0] if self.client else "")
        self._refusing = self._all.refusal(self._peer)
        if self._refusing is None:
            self._wait(self._all.patience(self._limits.seconds))
        else:
            self._turn_away(self._peer, self._refusing)

    def _turn_away(self, peer: Peer, error: HubError) -> None:
        """Send the refusal as the answer to the client's first data; abort at once in a flood of connections."""
        if self._all.is_flood(peer):
            self._all.reached(error.limit_name)
            self._is_answered = True
            self.transport.abort()
        else:
            self._wait(LINGER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_buffered()
        self._discharge()
        self._stop_waiting()
        self._unset_keepalive_if_required()  # uvicorn forgets this if the connection was reset
        if self._progress is not None:
            self._progress.stop()
            self._progress = None  # breaks a reference cycle, which only the garbage collector would free, later
        self._count_as_read()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._forget_peer()
        super().connection_lost(exc)

    def _forget_peer(self) -> None:
        if self._peer is not None:
            self._all.unregister(self._peer)
            self._peer = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the transport open while a request is being answered: a client may close its sending side after its last
        request. Otherwise queue the connection to be closed, since closing takes longer than detecting the end."""
        self._is_ended = True
        if self._is_answering():
            self._probe()
        elif not self.flow.is_behind:
            self._all.end_in_turn(self._peer, self._close)
        return True

    def _probe(self) -> None:
        """Find out whether the client has left, if a handler waits for that: a client that has closed both sides
        resets the connection at the first write, and the next write fails."""
        running = self._running
        if running is None or running.response_started or self.transport.is_closing():
            return
        if running.is_watched and running.scope["http_version"] != "1.0":
            self.transport.write(CONTINUE)
        self.loop.call_later(PROBE_EVERY, self._probe)

    def _is_answering(self) -> bool:
        raise NotImplementedError

    def shutdown(self) -> None:
        super().shutdown()
        self._watch_closing()

    def _close(self) -> None:
        self.transport.close()
        self._watch_closing()

    def _watch_closing(self) -> None:
        """Watch a closing transport: it still sends its buffered data, however long that takes."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_progress()

    # Held input.

    def _buffer(self, data: bytes, share: float = PIPELINED_SHARE) -> None:
        """Buffer input that may not be parsed yet, and pause reading."""
        self.flow.pause_reading()
        self.flow.is_behind = True
        self._buffered += data
        if self._peer is not None and not self._all.take(self._peer, len(data), share):
            self._take_buffered()
            self._refuse(too_much())

    def _take_buffered(self) -> bytes:
        """Empty the buffer and return its content."""
        buffered, self._buffered = self._buffered, b""
        self.flow.is_behind = False
        if self._peer is not None:
            self._all.give_back(self._peer, len(buffered))
        return buffered

    def _charge(self, size: int) -> None:
        """Count bytes held for the current request. Raises Overloaded beyond the limit."""
        self._charged += size
        if self._peer is not None and not self._all.take(self._peer, size):
            raise too_much()

    def _give_back(self, size: int) -> None:
        """Give back bytes of the current request that are not held any more."""
        size = min(size, self._charged)
        self._charged -= size
        if size and self._peer is not None:
            self._all.give_back(self._peer, size)

    def _discharge(self) -> None:
        self._give_back(self._charged)

    # Writing.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_progress()
        self._count_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._count_as_read()
        if self.transport.is_closing():
            return
        if self._progress is not None:
            self._progress.stop()
        if self._running is None:
            self._go_on()
        else:
            self._go_on_reading()

    def _count_unread(self) -> None:
        """Count what the client has yet to read. Its memory is in use until all of it has been read."""
        size = self.transport.get_write_buffer_size() - NOT_MUCH
        if size > 0 and self._peer is not None:
            active: ActiveRequest | None = self._running.scope.get(ACTIVE) if self._running else None  # type: ignore[assignment]
            self._unread = self._peer.limited, active.user if active else "", size
            self._all.unread.grow(*self._unread)

    def _count_as_read(self) -> None:
        if self._unread is not None:
            self._all.unread.shrink(*self._unread)
            self._unread = None

    def _go_on(self) -> None:
        """Start the next request, once the client has read the previous answer."""
        raise NotImplementedError

    def _go_on_reading(self) -> None:
        """Take up the rest of the running request, which waited for the client to read the previous answer."""
        raise NotImplementedError

    def _watch_progress(self) -> None:
        if self._progress is None:
            self._progress = Progress(self.transport, self._write_timeout, self._cut_off)
        self._progress.start()

    def _cut_off(self) -> None:
        self._all.reached("write_timeout")
        self.transport.abort()

    # Timers.

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection after uvicorn's keep-alive timeout, unless input has arrived."""
        if self._has_input():
            self._wait(self._limits.seconds)
        else:
            self._close()

    def _rest(self) -> None:
        """Wait for the next request within the keep-alive timeout, or close if the client has ended its side."""
        if self._is_ended:
            self._close()
            return
        self._unset_keepalive_if_required()
        unwanted = self.cycle is not None and self.cycle.more_body
        rest = UNWANTED_SECONDS if unwanted else self._all.patience(self.timeout_keep_alive)
        self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self._waited)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _waited(self) -> None:
        self._waiting = None
        if self._refusing is not None:
            self._close()
        elif self._has_input():
            self._wait(self._limits.seconds if self._arriving is None else MOMENT)
        elif self._arriving is None:
            self._close()
        else:
            self._refuse(TooSlow("the head did not arrive in time").at("head_timeout"))

    def _has_input(self) -> bool:
        """Return whether data has arrived that a busy event loop has not yet read or parsed. Timers run before reads,
        and closing the connection then would reset a request that was sent in time."""
        if self.transport.is_closing():
            return False
        if self.flow.is_behind:
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # Refusals.

    def _refuse(self, error: HubError) -> None:
        """Send an error and close the connection shortly afterwards.

        Closing at once with unread input would reset the connection, and the client might never see the answer. A
        request that is still being answered gets its answer instead, and the connection closes after it.
        """
        self._refusing = error
        self._is_answered = True
        if error.limit_name:
            self._all.reached(error.limit_name)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or not cycle.more_body or cycle.response_started:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(refusal(error, self._error_answer(error, self._known())))
        self._linger(LINGER_SECONDS)

    def _linger(self, seconds: float) -> None:
        """Close the sending side now, and the connection after these seconds."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(seconds)

    def _known(self) -> Scope:
        """Return the known part of a refused request's scope: its head may be incomplete."""
        return {"type": "http", "path": path_of(self.url), "headers": self.headers}


def bound_unsent(transport: asyncio.Transport) -> None:
    """Limit the unsent data in the system's send buffer. Otherwise that buffer grows to megabytes for each client that
    does not read."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    opened = transport.get_extra_info("socket")
    if option is not None and opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
        opened.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def refusal(error: HubError, answer: Answer) -> bytes:
    """Return the bytes of the last answer on a connection."""
    assert isinstance(answer.body, bytes)
    status = describe(error).status
    headers = {
        b"content-type": answer.content_type,
        b"content-length": b"%d" % len(answer.body),
        b"x-request-id": secrets.token_hex(8).encode(),
        b"connection": b"close",
        **dict(answer.headers),
    }
    lines = [
        f"HTTP/1.1 {status} {status_text(status)}".encode("ascii"),
        *(b"%s: %s" % each for each in headers.items()),
    ]
    return b"\r\n".join([*lines, b"", answer.body])


def too_much() -> Overloaded:
    text = "The hub holds as many bytes of requests as it takes: try again."
    return Overloaded("too much is buffered", "body", text).at("max_buffered_bytes")
