"""Socket.IO for all generations of clients: python-socketio's server on the hub's own Engine.IO server.

EIO=4 clients (socket.io-client 3, 4) speak protocol 5, EIO=3 clients (1, 2) protocol 4. Handlers see one difference:
protocol 4 has no `auth` payload, only the query of a namespace (`/admin?token=1`).

```python
server = SocketIOServer(ping_interval=25_000, connect_timeout=45_000)     # times in milliseconds
server.on("connect", handler)                                             # as in python-socketio
app = server.eio                                                          # the ASGI application, at `path`
```
Unlike in python-socketio, the handlers of one client run one after the other; `async_handlers=True` runs them
concurrently, in unlimited number. A client that never connects to a namespace, or sends an invalid packet, is
disconnected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import socketio  # type: ignore[import-untyped]
from socketio import packet

from realtime.engineio import CloseReason, Connection, build_text_frame
from realtime.engineio.engine import Engine
from realtime.engineio.socketio_packets import HubPacket, for_version_3, for_version_4

log = logging.getLogger("hub.socketio")
CONNECT_TIMEOUT: Final = 45_000
HEAD_START: Final = 0.005
"""Seconds between CONNECT and what the connect handler sends, over a WebSocket and with `always_connect`. Some clients
look for the next message only after they have processed CONNECT, and lose one that arrives in the same segment."""


class SocketIOServer(socketio.AsyncServer):  # type: ignore[misc]
    """The Socket.IO server.

    Its settings are those of python-socketio (`namespaces`, `always_connect`, …) and of `engineio.Options`, `path` and
    `farewell` of `EngineIOServer`, and `connect_timeout` (ms): how long a client may be in no namespace, and
    `max_attached`: bytes of the attachments of a message (None: `max_payload`).
    """

    eio: Engine

    def __init__(
        self,
        *,
        connect_timeout: int = CONNECT_TIMEOUT,
        path: str | None = "/socket.io/",
        max_attached: int | None = None,
        **settings: Any,
    ) -> None:
        settings = {"async_handlers": False, "logger": log, "must_join": True, **settings}
        super().__init__(client_manager=HubManager(), serializer=HubPacket, path=path, **settings)
        self._connect_timeout = connect_timeout / 1000
        self._max_attached = self.eio.options.max_payload if max_attached is None else max_attached
        self.eio.on("open", self._handle_eio_open)

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    def connection(self, sid: str, namespace: str = "/") -> Connection | None:
        """Return the Engine.IO connection of a client: its `write_frame`, `buffered`, `remote`, `close`."""
        return self.eio.connections.get(self.manager.eio_sid_from_sid(sid, namespace))

    # Incoming packets

    async def _handle_eio_open(self, connection: Connection) -> None:
        await self._handle_eio_connect(connection.sid, Environ(connection.scope))
        connection.expire(self._connect_timeout)
        if connection.version == 3:
            await self._handle_connect(connection.sid, "/", None)

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        connection = self.eio.connections.get(eio_sid)
        if connection is None:
            return
        try:
            received = self._decode(connection, data)
        except ValueError:
            connection.close(CloseReason.PARSE_ERROR)
            return
        if received is not None:
            await self._dispatch(connection, received)

    def _decode(self, connection: Connection, data: str | bytes) -> HubPacket | None:
        """Return the packet that `data` is or completes; None while attachments are missing. Raises ValueError."""
        begun: HubPacket | None = self._binary_packet.get(connection.sid)
        if begun is None:
            begun = HubPacket.read(data)
            if not begun.attachment_count:
                return begun
            if not connection.joined:
                raise ValueError("attachments before CONNECT")
            self._binary_packet[connection.sid] = begun
            connection.packet_begun()
            return None
        is_complete = begun.add_attachment(data)
        if begun.attached_bytes > self._max_attached:
            connection.close(CloseReason.TOO_LARGE)
            return None
        if not is_complete:
            return None
        del self._binary_packet[connection.sid]
        connection.packet_ended()
        return begun

    async def _dispatch(self, connection: Connection, received: HubPacket) -> None:
        sid, namespace, type = connection.sid, received.namespace, received.packet_type
        if type == packet.CONNECT:
            await self._handle_connect(sid, namespace, received.data)
        elif self.manager.sid_from_eio_sid(sid, namespace) is None:
            # Clients of EIO=3 expect that a packet for a namespace that they have left is ignored.
            if connection.version == 4 or not self._namespaces_of(sid):
                connection.close(CloseReason.NOT_CONNECTED)
        elif type == packet.DISCONNECT:
            await self._handle_disconnect(sid, namespace, CloseReason.CLIENT_DISCONNECT)
        elif type in (packet.EVENT, packet.BINARY_EVENT):
            await self._handle_event(sid, namespace, received.id, received.data)
        elif received.id:  # id 0 has no callback: python-socketio keeps its counter there
            await self._handle_ack(sid, namespace, received.id, received.data)

    # Namespaces

    def _namespaces_of(self, eio_sid: str) -> list[str]:
        return [name for name in self.manager.get_namespaces() if self.manager.sid_from_eio_sid(eio_sid, name)]

    def _serves(self, namespace: str) -> bool:
        return (
            namespace in self.handlers
            or namespace in self.namespace_handlers
            or self.namespaces == "*"
            or namespace in self.namespaces
        )

    async def _handle_connect(self, eio_sid: str, namespace: str, data: Any) -> None:
        if namespace in self._namespaces_of(eio_sid):
            return
        if not self._serves(namespace):
            await self._refuse(eio_sid, namespace, "Invalid namespace")
            return
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        except Exception:
            log.exception("the handler of connect failed")
            if sid := self.manager.sid_from_eio_sid(eio_sid, namespace):
                await self.manager.disconnect(sid, namespace, ignore_queue=True)
            await self._refuse(eio_sid, namespace, "Internal error")
        connection = self.eio.connections.get(eio_sid)
        if connection is not None and self._namespaces_of(eio_sid):
            connection.join()

    async def _refuse(self, eio_sid: str, namespace: str, message: str) -> None:
        refusal = self.packet_class(packet.CONNECT_ERROR, data={"message": message}, namespace=namespace)
        await self._send_packet(eio_sid, refusal)

    async def _handle_disconnect(self, eio_sid: str, namespace: str, reason: str | None = None) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        self._left(eio_sid, namespace)

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Remove a client from a namespace. A client that is in no other has `connect_timeout` to join one."""
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace or "/")
        await super().disconnect(sid, namespace, ignore_queue)
        self._left(eio_sid, namespace or "/")

    def _left(self, eio_sid: str | None, namespace: str) -> None:
        connection = self.eio.connections.get(eio_sid or "")
        if connection is None:
            return
        if connection.version == 3 and namespace == "/":
            connection.close(CloseReason.CLIENT_DISCONNECT)
        elif not self._namespaces_of(connection.sid):
            connection.expire(self._connect_timeout)

    # Outgoing packets

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        connection = self.eio.connections.get(eio_sid)
        if connection is None:
            return
        encoded = (for_version_3 if connection.version == 3 else for_version_4)(pkt).encode()
        for part in encoded if isinstance(encoded, list) else (encoded,):
            connection.send(part)
        if pkt.packet_type == packet.CONNECT and self.always_connect and connection.transport == "websocket":
            await asyncio.sleep(HEAD_START)


class HubManager(socketio.AsyncManager):  # type: ignore[misc]
    """Membership in rooms. An event for many clients is encoded once, and one frame is written to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms_of: dict[tuple[str, str], dict[str | None, None]] = {}

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        self._rooms_of.setdefault((namespace, sid), {})[room] = None

    def basic_leave_room(self, sid: str, namespace: str, room: str | None) -> None:
        super().basic_leave_room(sid, namespace, room)
        rooms = self._rooms_of.get((namespace, sid), {})
        rooms.pop(room, None)
        if not rooms:
            self._rooms_of.pop((namespace, sid), None)

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """Remove a client from its rooms.

        The base class searches the rooms of all clients: among 20 000, that takes 2 ms for each client that leaves.
        """
        for room in list(self._rooms_of.get((namespace, sid), ())):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)
                if not pending[namespace]:
                    del pending[namespace]

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        connection = self.server.eio.connections.get(eio_sid)
        if connection is None or connection.version == 4:
            sid: str | None = await super().pre_connect(eio_sid, namespace)
            return sid
        # Clients of protocol 4 do not receive their id: they derive it from the Engine.IO session id in this way.
        sid = eio_sid if namespace == "/" else f"{namespace}#{eio_sid}"
        self.basic_enter_room(sid, namespace, None, eio_sid=eio_sid)
        self.basic_enter_room(sid, namespace, sid, eio_sid=eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        return sid

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., Any] | None = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        if callback is not None:
            await super().emit(event, data, namespace, room, skip_sid, callback, to, **kwargs)
        elif namespace in self.rooms:
            skipped = skip_sid if isinstance(skip_sid, list) else [skip_sid]
            self._broadcast(event, data, namespace, to or room, skipped)

    def _broadcast(self, event: str, data: Any, namespace: str, room: Any, skipped: list[str | None]) -> None:
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        encoded = HubPacket(packet.EVENT, namespace=namespace, data=[event, *arguments]).encode()
        text, *attachments = encoded if isinstance(encoded, list) else (encoded,)
        whole = "4" + text
        frame = build_text_frame(whole)
        connections = self.server.eio.connections
        for sid, eio_sid in self.get_participants(namespace, room):
            if sid not in skipped and (connection := connections.get(eio_sid)):
                connection.write_frame(frame, whole)
                for attachment in attachments:
                    connection.send(attachment)


class Environ(Mapping[str, Any]):
    """The WSGI environment for python-socketio's handlers, made from the ASGI scope when it is read."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope

    def _made(self) -> dict[str, Any]:
        scope = self._scope
        host, port = scope.get("client") or ("", 0)
        made: dict[str, Any] = {
            "asgi.scope": scope,
            "REQUEST_METHOD": scope.get("method", "GET"),
            "PATH_INFO": scope["path"],
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "REMOTE_ADDR": host,
            "REMOTE_PORT": str(port),
            "wsgi.url_scheme": {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"]),
        }
        for name, value in scope["headers"]:
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
            text = value.decode("latin-1")
            made[key] = f"{made[key]},{text}" if key in made else text
        return made

    def __getitem__(self, key: str) -> Any:
        return self._scope if key == "asgi.scope" else self._made()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())
