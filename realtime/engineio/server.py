"""The Engine.IO server as an ASGI application: polling, WebSocket and the upgrade, for EIO=3 and EIO=4.

```python
server = EngineIOServer(lambda connection, data: connection.send(data), path="/engine.io/")
```
Callbacks may be plain functions or coroutine functions. Those of one connection never overlap, and run in order.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any, Final

from realtime.engineio import http
from realtime.engineio.admission import Admission
from realtime.engineio.asgi import BodyTooLarge, HungUp, read_body, reject, respond
from realtime.engineio.connection import Connection, log
from realtime.engineio.deadlines import Deadlines
from realtime.engineio.host import Result
from realtime.engineio.http import ErrorCode, Refused, Request, Response, ShuttingDown
from realtime.engineio.options import Options
from realtime.engineio.packets import (
    Data,
    MalformedPacket,
    Packet,
    decode_jsonp,
    decode_payload,
    escape_json,
)
from realtime.engineio.probe import Probe
from realtime.engineio.session import CloseReason, Session
from realtime.engineio.waiting_output import WaitingOutput
from realtime.engineio.wire import AsgiWire, Receive, Scope, Send, TransportWire, transport_access_of
from stores.turns import Gate

Verdict = bool | str | None

TAKEN_AT_ONCE: Final = 64
"""Packets of a POST that are processed before other tasks run."""
LARGE_POLL: Final = 65_536
"""Bytes of a poll's answer beyond which it counts as waiting until the client has read it."""
LAST_WORK: Final = 1.0
"""Seconds for which a shutdown waits for the application. Its clients have gone, and it may wait for a database."""
POSTS_AT_ONCE: Final = 16
"""POSTs that each process TAKEN_AT_ONCE packets in one iteration of the event loop."""

UNCORKED_AT_ONCE: Final = 500
"""Connections whose corked frames are written in one turn: about 5 ms of system calls."""

LIMITS: Final[Mapping[CloseReason, str]] = {
    CloseReason.TOO_LARGE: "max_payload",
    CloseReason.TOO_SLOW: "body_timeout",
    CloseReason.LAGGING: "max_buffered_bytes",
    CloseReason.PING_TIMEOUT: "ping_timeout",
    CloseReason.NOT_CONNECTED: "connect_timeout",
}
"""By close reason, the option whose limit ends a connection."""


class EngineIOServer:
    """Serves `path` (None: the path that it is mounted at), and the lifespan if it is an application of its own.

    `on_connect` is called before the open packet is sent. If it returns False, or a text with the reason, the client is
    refused (403, code 4). `on_open` is called next, then `on_message` for each message, text or binary, and last
    `on_disconnect`. `farewell` returns the last packet for a client that is disconnected for a reason, as text:
    `42["notice",{…}]`. `on_limit` is called with the name of an option at which a client was refused or disconnected.
    `settings` are those of `Options`. `connections` holds the current connections by session id.
    """

    def __init__(
        self,
        on_message: Callable[[Connection, Data], Result] = lambda connection, data: None,
        *,
        on_connect: Callable[[Connection], Awaitable[Verdict] | Verdict] = lambda connection: True,
        on_open: Callable[[Connection], Result] = lambda connection: None,
        on_disconnect: Callable[[Connection, CloseReason], Result] = lambda connection, reason: None,
        farewell: Callable[[Connection, CloseReason], str | None] = lambda connection, reason: None,
        on_limit: Callable[[str], None] = lambda name: None,
        path: str | None = "/engine.io/",
        options: Options | None = None,
        **settings: Any,
    ) -> None:
        self.options = replace(options or Options(), **settings)
        self.connections: dict[str, Connection] = {}
        self.deadlines: Deadlines[Connection] = Deadlines(Connection.tick)
        self.waiting = WaitingOutput()
        self.corked: list[Connection] | None = None
        self.on_connect = on_connect
        self.on_open = on_open
        self.on_message = on_message
        self.on_disconnect = on_disconnect
        self.farewell = farewell
        self.on_limit = on_limit
        options = self.options
        self.admission: Admission[Connection] = Admission(
            options.max_connections, options.max_connections_per_address, self._evict
        )
        self._taking = Gate(POSTS_AT_ONCE)
        self._path = None if path is None else path.rstrip("/")
        self._is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await respond(send, await self._http(scope, receive))

    def forget(self, connection: Connection) -> None:
        """Remove a connection that has ended and whose last packets will not be polled."""
        self.deadlines.forget(connection)
        self.admission.leave(connection)
        self.connections.pop(connection.sid, None)
        connection.session.drop_queue()

    def ended(self, connection: Connection, reason: CloseReason) -> None:
        """Report the limit at which a connection has ended, if this reason has one."""
        if reason == CloseReason.TOO_LARGE and not connection.joined:
            self.on_limit("max_unjoined_payload")
        elif reason in LIMITS:
            self.on_limit(LIMITS[reason])

    def _evict(self, connection: Connection, limit: str) -> None:
        self.on_limit(limit)
        connection.close(CloseReason.OVERLOADED)
        self.forget(connection)  # a polling client may never fetch its last packets

    @contextmanager
    def cork(self) -> Iterator[None]:
        """Cork the frames of `Connection.offer` and `write_frame` within the block, for one write to each client.

        They keep their order. When something else is sent to a client, its corked frames are written first, at once.
        After the block, those of many clients are written in slices, between which other tasks run.
        """
        if self.corked is not None:
            yield
            return
        corked = self.corked = []
        try:
            yield
        finally:
            self.corked = None
            self._uncork_some(iter(corked))

    def _uncork_some(self, corked: Iterator[Connection]) -> None:
        """Write the corked frames of some connections now, and those of the others in later turns."""
        for connection in islice(corked, UNCORKED_AT_ONCE):
            connection.uncork()
        if (following := next(corked, None)) is not None:
            asyncio.get_running_loop().call_soon(self._uncork_some, chain((following,), corked))

    def generate_id(self) -> str:
        """Return a new session id. It must be impossible to guess, because nothing else identifies a poll."""
        return secrets.token_urlsafe(15)

    async def shutdown(self, patience: float = LAST_WORK) -> None:
        """Close every connection, accept no new one, and wait for up to `patience` seconds until the application has
        handled the disconnects. Work that goes on after that is cancelled."""
        self._is_closing = True
        connections = list(self.connections.values())
        for connection in connections:
            connection.close(CloseReason.SHUTDOWN)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for connection in connections:
                    await connection.inbox_done()
        for connection in connections:
            connection.end_work()
        self.deadlines.stop()

    # HTTP

    async def _http(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer to a request; None if the client did not wait for it."""
        try:
            answer = await self._answer(scope, receive)
        except Refused as refused:
            answer = http.error_response(refused)
        if answer is not None:
            answer.headers.extend(http.cors_headers(scope, self.options))
        return answer

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        self._check(scope)
        if scope["method"] == "OPTIONS":
            return http.preflight(scope)
        request = http.parse_request(scope, self.options)
        if request.sid is None:
            return await self._open(request, scope)
        connection = self._known(request)
        if connection.transport != "polling":
            raise Refused(ErrorCode.BAD_REQUEST)
        if request.method == "POST":
            return await self._post(connection, request, scope, receive)
        return await self._poll(connection, request, receive)

    def _check(self, scope: Scope) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if self._path is not None and path != self._path:
            raise Refused(ErrorCode.BAD_REQUEST, "No such path")
        if not http.origin_allowed(scope, self.options):
            raise Refused(ErrorCode.FORBIDDEN)

    def _known(self, request: Request) -> Connection:
        connection = self.connections.get(request.sid or "")
        if connection is not None and not self.deadlines.overdue():
            # The deadline may have passed before the timer ran.
            connection.tick()
            connection = self.connections.get(connection.sid)
        if connection is None:
            raise Refused(ErrorCode.UNKNOWN_SID)
        if connection.version != request.version:
            raise Refused(ErrorCode.BAD_REQUEST)
        return connection

    async def _open(self, request: Request, scope: Scope) -> Response:
        connection = await self._connect(request, scope)
        packets = connection.session.take()
        connection.opened()
        return self._polled(connection, request, packets)

    async def _poll(self, connection: Connection, request: Request, receive: Receive) -> Response:
        try:
            async with self._body_timeout():
                await receive()  # the empty body; the next event is the client's disconnect
        except TimeoutError:
            raise Refused(ErrorCode.BAD_REQUEST) from None
        if connection.polling:
            connection.close(CloseReason.TRANSPORT_ERROR)
            raise Refused(ErrorCode.BAD_REQUEST)
        if connection.closed and not connection.session.has_output:  # another poll has fetched the last packets
            raise Refused(ErrorCode.UNKNOWN_SID)
        return self._polled(connection, request, await connection.poll(receive))

    def _body_timeout(self) -> asyncio.Timeout:
        return asyncio.timeout(self.options.body_timeout / 1000)

    def _polled(self, connection: Connection, request: Request, packets: list[Packet]) -> Response:
        if self.options.json_messages and connection.version == 3:
            packets = [_escaped(packet) for packet in packets]
        octets = connection.session.octets and request.jsonp is None
        response = http.poll_response(connection.version, packets, octets=octets, jsonp=request.jsonp)
        if len(response.body) <= LARGE_POLL:
            return response
        connection.answering += len(response.body)
        return replace(response, on_sent=partial(_sent, connection, len(response.body)))

    async def _post(self, connection: Connection, request: Request, scope: Scope, receive: Receive) -> Response | None:
        if connection.posting:
            connection.close(CloseReason.TRANSPORT_ERROR)
            raise Refused(ErrorCode.BAD_REQUEST)
        connection.posting = True
        try:
            async with self._body_timeout():
                body = await read_body(scope, receive, connection.max_payload)
            await self._receive(connection, request, body)
        except BodyTooLarge:
            self.on_limit("max_payload" if connection.joined else "max_unjoined_payload")
            return http.too_large_response()
        except TimeoutError:
            self.on_limit("body_timeout")
            connection.close(CloseReason.TRANSPORT_ERROR)
            raise Refused(ErrorCode.BAD_REQUEST) from None
        except HungUp:
            connection.close(CloseReason.TRANSPORT_ERROR)
            return None
        finally:
            connection.posting = False
        return http.post_response()

    async def _receive(self, connection: Connection, request: Request, body: bytes) -> None:
        """Process the packets of a POST, while other tasks run in between."""
        try:
            payload = body if request.jsonp is None else decode_jsonp(body)
            octets = request.content_type.startswith(http.OCTETS)
            for number, packet in enumerate(decode_payload(connection.version, payload, octets=octets)):
                if number % TAKEN_AT_ONCE == 0:
                    await self._taking.enter()
                if connection.closed:
                    break
                connection.receive(packet)
                await connection.inbox_has_room()
        except MalformedPacket as error:
            connection.close(CloseReason.PARSE_ERROR)
            raise Refused(ErrorCode.BAD_REQUEST) from error
        connection.flush()

    async def _connect(self, request: Request, scope: Scope) -> Connection:
        """Return a new connection that the application has accepted. Raises Refused."""
        if self._is_closing:
            raise ShuttingDown
        now = asyncio.get_running_loop().time()
        sid = self.generate_id()
        session = Session(sid, request.version, request.transport, self.options, now, octets=request.octets)
        connection = Connection(self, session, scope)
        if limit := self.admission.refusal(connection.block):
            self.on_limit(limit)
            raise Refused(ErrorCode.FORBIDDEN, "Too many connections")
        self.admission.enter(connection, joined=connection.joined)
        verdict = await self._ask(connection)
        if verdict is False or isinstance(verdict, str) or connection.closed:
            self.forget(connection)
            raise Refused(ErrorCode.FORBIDDEN, verdict if isinstance(verdict, str) else None)
        self.connections[sid] = connection
        return connection

    async def _ask(self, connection: Connection) -> Verdict:
        try:
            verdict = self.on_connect(connection)
            return await verdict if inspect.isawaitable(verdict) else verdict
        except Exception:
            log.exception("the application failed")
            return False

    # WebSocket

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with suppress(OSError):  # the client disconnected before it was accepted
            try:
                self._check(scope)
                request = http.parse_request(scope, self.options)
                if request.sid is None:
                    connection = await self._connect(request, scope)
                else:
                    connection = self._known(request)
            except Refused as refused:
                await reject(scope, send, refused)
                return
            await self._accept(connection, request, scope, receive, send)

    async def _accept(
        self, connection: Connection, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        access = transport_access_of(scope)
        if access is not None:
            access.limit(connection.max_payload)  # before anything of a message is read
        try:
            await send({"type": "websocket.accept"})
        except OSError:
            if request.sid is None:
                self.forget(connection)
            raise
        wire = AsgiWire(send) if access is None else TransportWire(access)
        listener: Connection | Probe = connection
        if request.sid is None:
            connection.attach(wire)
            connection.opened()
        else:
            listener = Probe(connection, wire)
            listener.begin()
        if isinstance(wire, AsgiWire):
            await wire.run(receive, listener)
        elif access is not None:
            access.hand_over(listener)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.shutdown()
        await send({"type": "lifespan.shutdown.complete"})


def _escaped(packet: Packet) -> Packet:
    return Packet(packet.type, escape_json(packet.data)) if isinstance(packet.data, str) else packet


def _sent(connection: Connection, size: int) -> None:
    connection.answering -= size
    connection.wire_drained()
