"""One request and its answer on the server's side of ASGI: how the answer is written, and what ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from hub.http.errors import AnswerBroken, ClientGone, status_text
from hub.http.scope import WHOLE_ANSWER
from stores.tasks import is_cancelled

CLOSE: Final = (b"connection", b"close")
LENGTH: Final = b"content-length"
STATUS_LINES: Final[Mapping[int, bytes]] = {
    status: f"HTTP/1.1 {status} {status_text(status)}\r\n".encode() for status in HTTPStatus
}
"""The status line of each status, with the text that an error has as its `message`."""
LARGE_BODY: Final = 49_152
"""Bytes. A smaller body is written together with its head (measured: 5% less time for a list of 25 KB)."""


def _ignore() -> None:
    pass


class HubCycle(RequestResponseCycle):
    """Accepts a whole answer in one message, which saves a system call and a pass over the headers (measured: some 30
    µs per request). A whole answer never waits for the client: the connection buffers it, and starts no further request
    until the client has read it."""

    is_watched = False
    """Whether the application waits for the client to leave, beside its work."""

    is_last = False
    """Whether the answer itself announces the end of the connection, though the client may still be sending."""

    ends_with_connection = False
    """Whether the end of the connection ends the body: HTTP/1.0 has no chunks (RFC 9112, 6.1)."""

    on_begun: Callable[[], None]
    """Called when the application receives the request."""

    async def run_asgi(self, app: Any) -> None:
        self.on_begun()
        try:
            await app(self.scope, self.receive, self.send)
        except (ClientGone, AnswerBroken):
            self.transport.abort()  # in the middle of an answer
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                self.transport.abort()  # the hub stops, and the time for requests to end is over
            else:  # also if something else was cancelled, which this request waited for
                self.logger.error("Exception in ASGI application\n", exc_info=error)
                await self._end_badly()
        else:
            if not self.response_complete and not self._is_gone():
                self.logger.error("ASGI callable returned without completing its response.")
                await self._end_badly()
        finally:
            self.on_response = _ignore

    async def _end_badly(self) -> None:
        if self.response_started:
            self.transport.abort()
        else:
            await self.send_500_response()

    def _is_gone(self) -> bool:
        return self.disconnected or self.transport.is_closing()

    async def receive(self) -> Any:
        """Receive as in the base class. Once the request is complete, later data belongs to the next request, and is
        buffered; without reading, the end of the connection would not be noticed."""
        if self.more_body:
            return await super().receive()
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()  # a large body has paused it
            self.is_watched = not self.message_event.is_set()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] != WHOLE_ANSWER:
            await self._send_part(message)
            return
        if self.disconnected or self.transport.is_closing():
            return
        if self.response_started:
            raise RuntimeError("a second answer to one request")
        if self.waiting_for_100_continue:
            self._close_if_body_is_held_back()
        self.response_started = self.response_complete = True
        status, headers, body = message["status"], message["headers"], message["body"]
        if status >= 400 and CLOSE in headers:
            self.keep_alive, self.is_last = False, True
        head = self._head(status, headers)
        if len(body) < LARGE_BODY:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))  # not copied: many clients may share one body
        self.message_event.set()
        if not (self.keep_alive or self.is_last):
            self.transport.close()
        self.on_response()

    async def _send_part(self, message: Any) -> None:
        """Send a part of an answer. Raises ClientGone if the client has disconnected and more parts follow."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self._is_gone():
            self._close_if_body_is_held_back()
            self._frame(message)
            await super().send(message)
        elif message.get("more_body"):
            raise ClientGone("the client went away")

    def _frame(self, message: Any) -> None:
        """Keep the base class from sending a body of unknown length in chunks to a client of HTTP/1.0."""
        if not self.response_started:
            if self.scope["http_version"] == "1.0" and not any(name == LENGTH for name, _ in message["headers"]):
                self.ends_with_connection, self.chunked_encoding = True, False
        elif self.ends_with_connection:
            self.expected_content_length = len(message.get("body", b""))

    def _close_if_body_is_held_back(self) -> None:
        """Close the connection after an early answer to `Expect: 100-continue`. The client may omit the body then, and
        the server could mistake its next request for the body."""
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [b"%s: %s\r\n" % header for header in self.default_headers + headers]
        if not self.keep_alive and CLOSE not in headers:
            lines.append(b"connection: close\r\n")
        head = b"".join([STATUS_LINES[status], *lines, b"\r\n"])
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise RuntimeError("a line break in a header")
        return head
