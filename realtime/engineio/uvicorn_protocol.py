"""uvicorn's WebSocket protocol with access to the transport.

`uvicorn --ws realtime.engineio.uvicorn_protocol:HubProtocol`

It offers the ASGI extension `hub.transport` (see `wire.TransportAccess`). It leaves frames uncompressed, so that one
frame serves every client. It sends no WebSocket pings, since Engine.IO has its own heartbeat. Without `hand_over` it
behaves as its base class, for any application.

It uses internals of uvicorn: `queue`, `close_sent`, `close_timer`, `frames` and `run_asgi` belong to its base class.
Written for uvicorn 0.54; tests/wire fails if a later version changes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame
from websockets.http11 import Request

from realtime.engineio.wire import EXTENSION, GRACE, Listener
from stores.bounds import Limit
from stores.turns import SharedTurns

PONGS_WAITING: Annotated[int, Limit("connection", "bytes", "no pong")] = 65_536
"""Bytes waiting for a client beyond which its WebSocket pings are not answered."""
PIECE: Final = 1_024
"""Bytes that are parsed at once. A frame may have only six bytes."""


class _Inlet:
    """Replaces the queue of ASGI events. Only the disconnect event still arrives there, and goes to the listener."""

    __slots__ = ("listener", "too_large")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.too_large = False

    def put_nowait(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.disconnect":
            self.listener.wire_lost(too_large=self.too_large)


class PathLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs handshakes as uvicorn does, but without the query string, which may contain a token."""

    @property
    def level(self) -> int:
        return self.logger.level

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log uvicorn's arguments: the client's address, the target of the request, and perhaps a status."""
        client, target, *status = args
        super().info(msg, client, str(target).partition("?")[0], *status, **kwargs)


class HubProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose transport the application may write to."""

    inlet: _Inlet | None = None
    on_lost: Callable[[], None] | None = None
    """Called when the connection has ended."""
    turns: SharedTurns | None = None
    """Turns in which received data is parsed; None: it is parsed when it arrives."""
    owner: str = ""
    """The address for which the connection takes its turns."""
    count_input: Callable[[int, int], bool] | None = None
    """Called with the change in the number of bytes that are held of the client's input, and with this number: what
    waits to be parsed, a message that is not complete, and messages that wait for the application. It returns False if
    there are too many."""
    _unparsed: bytes = b""
    _waiting = 0
    """Bytes of complete messages that wait for the application."""
    _counted = 0
    _is_unfinished = False
    """Whether the listener has been notified of a message that is not complete."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.available_extensions = []
        self.conn.debug = False  # it would log heads and frames, secrets included
        self.logger = PathLogger(self.logger, {})  # type: ignore[assignment]

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["extensions"][EXTENSION] = {"access": self}

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._keep_unparsed(self._unparsed + data)
            return
        if self.turns is None:
            super().data_received(data)
        else:
            self._parse_apart(self.turns, data)
        self._count()

    def _parse_apart(self, turns: SharedTurns, data: bytes) -> None:
        """Parse data in pieces, and stop reading until that is done."""
        for begin in range(0, len(data), PIECE):
            if turns.is_over():
                turns.later(self.owner, self._go_on)
                self._keep_unparsed(data[begin:])
                return
            super().data_received(data[begin : begin + PIECE])
            if self.transport.is_closing() or self.conn.parser_exc is not None:
                break
        if self._unparsed:
            self._keep_unparsed(b"")

    def _keep_unparsed(self, data: bytes) -> None:
        """Keep data that is not parsed yet, and stop reading meanwhile."""
        self._unparsed = data
        if data:
            self.transport.pause_reading()
        self._count()

    def _count(self) -> None:
        """Count the input that is held. Close the connection if that is too much for the process or the address."""
        frames = self.frames
        size = len(self._unparsed) + len(self.conn.reader.buffer) + self._waiting
        if frames:
            size += sum(map(len, frames))
        is_unfinished = size > self._waiting or bool(frames)
        if is_unfinished != self._is_unfinished and self.inlet is not None:
            self._is_unfinished = is_unfinished
            self.inlet.listener.message_unfinished(is_unfinished)
        if size == self._counted:
            return
        more, self._counted = size - self._counted, size
        fits = self.count_input is None or self.count_input(more, size)
        if more > 0 and not fits:
            self._turn_out()
            self._forget_input()

    def _forget_input(self) -> None:
        self._unparsed, self._waiting, self.frames = b"", 0, []
        self.conn.reader.buffer.clear()
        self._count()

    def _go_on(self) -> None:
        if not self._unparsed:  # the connection has ended
            return
        assert self.turns is not None
        try:
            self._parse_apart(self.turns, self._unparsed)
            self._count()
        except BaseException:
            self.transport.abort()
            raise
        if not (self._unparsed or self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def _turn_out(self) -> None:
        self.conn.fail(1013, "overloaded")
        if self.conn.close_sent is None:  # it was not accepted yet
            self.transport.abort()
        else:
            self.handle_parser_exception()

    def start_keepalive(self) -> None:
        """Send no pings."""

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.inlet is not None:
            self.inlet.listener.wire_drained()

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > PONGS_WAITING:
            self.conn.data_to_send()  # drops the pong: a client that does not read gets none
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        """Join fragments as they arrive: a million empty or tiny ones take no more memory than the message."""
        if len(self.frames) == 1:
            self.frames.append(bytearray())  # type: ignore[arg-type]
        self.frames[1] += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def hand_over(self, listener: Listener) -> None:
        """Pass all input to the listener from now on. The application may return."""
        waiting, self.inlet = self.queue, _Inlet(listener)
        self.queue = self.inlet  # type: ignore[assignment]
        while not waiting.empty():
            event = waiting.get_nowait()
            if event["type"] == "websocket.receive":
                data = event.get("text")
                listener.frame_received(event["bytes"] if data is None else data)  # type: ignore[arg-type]
            else:
                listener.wire_lost()
        self.resume()
        self._count()

    def send_receive_event_to_app(self) -> None:
        if self.inlet is None:
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        self._is_unfinished = False
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.inlet.listener.frame_received(data)
        else:
            self._text_received(self.inlet.listener, data)

    def _text_received(self, listener: Listener, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
        else:
            listener.frame_received(text)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_input()
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None
        # The parser is a generator that refers to its protocol, and so to itself. Unless it is closed, it and some
        # 10 KiB of the connection wait for the garbage collector.
        self.conn.parser.close()

    async def run_asgi(self) -> None:
        """Run the application as the base class does, but leave the connection open if it returns after `hand_over`."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.send_500_response()
        if self.inlet is None and self.close_timer is None:
            self.transport.close()

    def handle_parser_exception(self) -> None:
        if self.inlet is not None:
            self.inlet.too_large = isinstance(self.conn.parser_exc, PayloadTooBig)
        super().handle_parser_exception()
        self._abort_unread()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._abort_unread()

    def eof_received(self) -> None:
        super().eof_received()
        self._abort_unread()

    def _abort_unread(self) -> None:
        """Abort the connection, which is closed, after GRACE seconds if its client has not read everything by then."""
        if self.transport.get_write_buffer_size() and self.close_timer is None:
            self.close_timer = asyncio.get_running_loop().call_later(GRACE, self.transport.abort)

    def limit(self, size: int) -> None:
        self.conn.max_message_size = size

    def hold(self, size: int) -> None:
        self._waiting = size
        self._count()

    def pause(self) -> None:
        if not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            if not self._unparsed:
                self.transport.resume_reading()

    def close_with(self, code: int, reason: str, grace: float) -> None:
        """Close the WebSocket. After `grace` seconds it is aborted, whatever still waits to be sent."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.resume()
        self.close_timer = asyncio.get_running_loop().call_later(grace, self.transport.abort)
