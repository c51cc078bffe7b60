"""One WebSocket as a connection uses it: writing never waits, and the number of waiting bytes is known.

There are two kinds. `TransportWire` writes frames straight to the transport of a server that offers it (the ASGI
extension `hub.transport`, see `uvicorn_protocol`) and needs no task. `AsgiWire` sends through any ASGI server, with one
task while something waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from realtime.engineio.frames import build_frame

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EXTENSION: Final = "hub.transport"
NORMAL_CLOSURE: Final = 1000
GRACE: Final = 5.0
"""Seconds for a closing WebSocket to send its buffer and to answer. After that it is aborted."""


_CUT: Final = (NORMAL_CLOSURE, "")


class Listener(Protocol):
    """Receives the input of a WebSocket."""

    def frame_received(self, data: str | bytes) -> None: ...

    def message_unfinished(self, is_unfinished: bool) -> None:
        """Called when a part of a message or of a control frame has arrived, and when no such part is left.
        `frame_received` ends it too."""

    def wire_drained(self) -> None:
        """Called when the client has taken some of the waiting data."""

    def wire_lost(self, *, too_large: bool = False) -> None:
        """Called when the client closed it, when it broke, or when a message forced the server to close it.

        No more input follows.
        """


class TransportAccess(Protocol):
    """Offered by a server as `scope["extensions"]["hub.transport"]["access"]`, for an accepted WebSocket.

    Frames written to `transport` must be whole WebSocket frames. After `hand_over`, input goes to the listener instead
    of `receive`, and the ASGI application may return: the WebSocket stays open.
    """

    transport: asyncio.Transport

    def hand_over(self, listener: Listener) -> None: ...

    def close_with(self, code: int, reason: str, grace: float) -> None: ...

    def limit(self, size: int) -> None: ...

    def hold(self, size: int) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def transport_access_of(scope: Mapping[str, Any]) -> TransportAccess | None:
    """Return the server's access to the transport, and remove it from the scope, which outlives the WebSocket."""
    extension = (scope.get("extensions") or {}).pop(EXTENSION, None)
    return extension["access"] if extension else None


class Wire(Protocol):
    """One WebSocket. `transport` is None if frames cannot be written to it directly."""

    transport: asyncio.Transport | None

    def write(self, data: str | bytes) -> None: ...

    def buffered(self) -> int:
        """Return the number of bytes that wait for the client."""

    def close(self, reason: str, code: int = NORMAL_CLOSURE) -> None:
        """Send what waits, then close; abort after GRACE seconds. Closing again does nothing."""

    def limit(self, size: int) -> None:
        """Set the maximum bytes of a message, complete or not. Does nothing if the ASGI server decides that."""

    def hold(self, size: int) -> None:
        """Set the number of bytes of received messages that wait. Does nothing if the ASGI server does not count."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None: ...


class TransportWire:
    """Writes frames directly to the transport."""

    __slots__ = ("_access", "transport")

    def __init__(self, access: TransportAccess) -> None:
        self._access = access
        self.transport: asyncio.Transport | None = access.transport

    def write(self, data: str | bytes) -> None:
        if self.transport is not None:
            self.transport.write(build_frame(data))

    def buffered(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def close(self, reason: str, code: int = NORMAL_CLOSURE) -> None:
        if self.transport is not None:
            self.transport = None
            self._access.close_with(code, reason, GRACE)

    def limit(self, size: int) -> None:
        self._access.limit(size)

    def hold(self, size: int) -> None:
        self._access.hold(size)

    def pause(self) -> None:
        self._access.pause()

    def resume(self) -> None:
        self._access.resume()


class AsgiWire:
    """Sends through `send`, in a task that exists while something waits."""

    __slots__ = ("_buffered", "_closing", "_listener", "_reading", "_send", "_task", "_waiting", "transport")

    def __init__(self, send: Send) -> None:
        self.transport: asyncio.Transport | None = None
        self._send = send
        self._waiting: list[str | bytes] = []
        self._buffered = 0
        self._closing: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._listener: Listener | None = None

    def write(self, data: str | bytes) -> None:
        if self._closing is None:
            self._waiting.append(data)
            self._buffered += len(data)
            self._start()

    def buffered(self) -> int:
        return self._buffered

    def close(self, reason: str, code: int = NORMAL_CLOSURE) -> None:
        if self._closing is None:
            self._closing = (code, reason)
            self._start()
            asyncio.get_running_loop().call_later(GRACE, self.cut)

    def limit(self, size: int) -> None:
        pass

    def hold(self, size: int) -> None:
        pass

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    def cut(self) -> None:
        """Discard what waits."""
        self._closing = self._closing or _CUT
        self._waiting.clear()
        self.resume()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for data in batch:
                    await self._send(_event(data))
                    self._buffered -= len(data)
                    if self._listener is not None:
                        self._listener.wire_drained()
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            # The client has disconnected, or the server has closed; `run` learns of it from `receive`.
            self._closing = self._closing or _CUT
        finally:
            self._task = None

    async def run(self, receive: Receive, listener: Listener) -> None:
        """Pass input to the listener until the WebSocket ends."""
        self._listener = listener
        while True:
            await self._reading.wait()
            event = await receive()
            if event["type"] == "websocket.disconnect":
                break
            data = event.get("text")
            listener.frame_received(event["bytes"] if data is None else data)
        self.cut()
        listener.wire_lost()


def _event(data: str | bytes) -> Message:
    if isinstance(data, str):
        return {"type": "websocket.send", "text": data}
    return {"type": "websocket.send", "bytes": data}
