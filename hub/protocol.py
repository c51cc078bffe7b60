"""uvicorn's HTTP protocol with some changes: an answer that is whole leaves in one write, a request's head has a bound
in bytes and in time, no request that has come in time is cut off, and what is refused before the application sees it is
refused in JSON as well."""

from __future__ import annotations

import asyncio
import secrets
import select
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hub.dialects.platform.render import error_answer
from hub.errors import BadRequest, HeadTooLarge, HubError, TooSlow, describe, status_text
from hub.http import BODY, LINGER_SECONDS, WHOLE_ANSWER

EXTENSIONS: Final[dict[str, dict[object, object]]] = {WHOLE_ANSWER: {}}
LARGEST_AT_HAND: Final = 65_536
MOMENT: Final = 0.1
"""Seconds in which what has come is read."""
UNWANTED_SECONDS: Final = 5.0
"""For which the client of a request that is answered may leave off sending its body."""


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """Of a request's line and headers: `size` in bytes, `seconds` in which they must arrive."""

    size: int = 65_536
    seconds: float = 30


class HubCycle(RequestResponseCycle):
    """Takes a whole answer in one message: one system call instead of two, and one pass over its headers (measured:
    some 30 µs of every request)."""

    async def send(self, message: Any) -> None:
        if message["type"] != WHOLE_ANSWER:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("a second answer to one request")
        self.response_started = self.response_complete = True
        self.transport.write(self._head(message["status"], message["headers"]) + message["body"])
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [b"%s: %s\r\n" % header for header in self.default_headers + headers]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join([STATUS_LINE[status], *lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise RuntimeError("a line break in a header")
        return head


class HubHttpProtocol(HttpToolsProtocol):
    """Offers whole answers to the application. uvicorn waits without end for a head, and takes one of any size; it also
    forgets its own timeout of an idle connection as soon as a byte comes. Here, whenever the application has nothing to
    do, the client has `bounds.seconds` to get a whole head across."""

    def __init__(self, *args: Any, bounds: HeadBounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._waiting: asyncio.TimerHandle | None = None
        self._arriving: int | None = None
        """Bytes of a head that have come after the piece in which it began; None between head and head."""
        self._begins = False
        """Whether a head began in the piece at hand."""
        self._refusing: HubError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(self._bounds.seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._unset_keepalive_if_required()  # which uvicorn forgets when the connection was reset
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusing is not None:
            return
        self._begins = False
        super().data_received(data)
        if self._arriving is not None and not self._begins:
            self._arriving += len(data)
            if self._arriving > self._bounds.size:
                self._refuse(HeadTooLarge(self._bounds.size))
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._waiting is None and self in self.connections:  # not handed over to a WebSocket
            self._wait(self._bounds.seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = 0
        self._begins = True

    def on_headers_complete(self) -> None:
        self._arriving = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._bounds.size:
            self._refusing = HeadTooLarge(self._bounds.size)
            raise self._refusing  # for the parser, which stops there
        self._stop_waiting()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # not an upgrade
            # uvicorn lets nobody choose the class. The application runs in a task that has yet to start.
            self.cycle.__class__ = HubCycle
            self.scope["extensions"] = EXTENSIONS

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if isinstance(self.cycle, HubCycle) and len(self.cycle.body) <= LARGEST_AT_HAND:
            self.scope[BODY] = bytes(self.cycle.body)  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:
        """What the parser has stopped at."""
        self._refuse(self._refusing or BadRequest("request", msg))

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
            self.transport.close()
        elif self._has_input():
            self._wait(self._bounds.seconds if self._arriving is None else MOMENT)
        elif self._arriving is None:
            self.transport.close()
        else:
            self._refuse(TooSlow("the head did not arrive in time"))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and self.cycle.more_body:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = self.loop.call_later(UNWANTED_SECONDS, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's, for a connection that has rested long enough."""
        if self._has_input():
            self._wait(self._bounds.seconds)
        else:
            super().timeout_keep_alive_handler()

    def _has_input(self) -> bool:
        """Whether there is something that the loop, behind its time, has yet to read. Timers run before that, and
        closing the connection would reset a request that was sent while all was well."""
        if self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _refuse(self, error: HubError) -> None:
        """Answer and hang up, a moment later: with input unread, closing the connection would reset it, and the client
        might never see the answer. A request before this one is answered first, and then nothing more."""
        self._refusing = error
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or not cycle.more_body:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        answer = error_answer(error)
        assert isinstance(answer.body, bytes)
        status = describe(error).status
        head = (
            f"HTTP/1.1 {status} {status_text(status)}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(answer.body)}\r\n"
            f"x-request-id: {secrets.token_hex(8)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + answer.body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(LINGER_SECONDS)
