"""The live gateway: Socket.IO at `/socket.io/`, for clients of every version. It only transports: it passes requests to
the client's live session, and sends the session's output."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs

from socketio.exceptions import ConnectionRefusedError as Refused  # type: ignore[import-untyped]
from starlette.types import Receive, Scope, Send

from auth.addresses import address_block
from auth.csrf import check_same_site
from auth.errors import AuthError
from auth.origins import Origin
from auth.principal import Principal
from auth.resolver import Resolver
from hub.dialects.base import ErrorAnswer
from hub.http.answer import Answer
from hub.http.call import Call
from hub.http.errors import HubError, describe, status_text
from hub.http.headers import FIRST_HEADERS
from hub.http.origins import Origins
from hub.http.proxies import TrustedProxies
from hub.settings import Settings
from realtime.client_sink import Ending
from realtime.engineio import CloseReason, Connection
from realtime.engineio.asgi import refuse_websocket
from realtime.errors import LiveError
from realtime.events import event_text
from realtime.session import LiveSession
from realtime.session_registry import SessionRegistry
from realtime.socketio import SocketIOServer
from stores.bounds import Limit
from stores.errors import StoreError
from stores.tasks import is_cancelled

log = logging.getLogger(__name__)

PATH = "/socket.io/"
LOOKS = 10
"""How often within its patience a client's progress is checked, before it is disconnected for reading nothing."""
NOTICES: Mapping[CloseReason, str] = {
    reason: str(reason)
    for reason in (CloseReason.LAGGING, CloseReason.SHUTDOWN, CloseReason.REVOKED, CloseReason.EXPIRED)
}


JOINING_PAYLOAD: Annotated[int, Limit("message", "bytes", "closed")] = 16_384
"""Bytes of a message before the client has joined the namespace: credentials need no more."""
MOST_ATTACHED: Annotated[int, Limit("message", "bytes of attachments", "closed")] = 65_536
"""Bytes of attachments of a message. No request of the hub has attachments."""
LIMIT_NAMES: Mapping[str, str] = {
    "max_connections": "live_max_connections",
    "max_connections_per_address": "live_max_connections_per_address",
    "max_payload": "live_max_payload",
    "max_unjoined_payload": "JOINING_PAYLOAD",
    "max_buffered_bytes": "live_max_buffered",
    "ping_timeout": "live_ping_timeout",
    "body_timeout": "body_timeout",
    "connect_timeout": "live_connect_timeout",
}
"""The setting or constant behind each option of the Engine.IO server."""


def counted_address(trusted_proxies: str) -> Callable[[str], str | None]:
    """Return the function that maps a client's address to its address block, or to None for a proxy with many
    clients."""
    proxies = TrustedProxies(trusted_proxies)

    def block(address: str) -> str | None:
        return None if proxies.lists(address) else address_block(address)

    return block


def describe_live(error: Exception) -> dict[str, Any]:
    """Return an error as acknowledgements and `ended` events contain it; `code` is a string, as in REST."""
    if isinstance(error, LiveError):
        failure_status, tags, errors = HTTPStatus.BAD_REQUEST, ("error_bad_request",), {error.field: [error.message]}
        return {"code": "400", "message": status_text(failure_status), "tags": tags, "errors": errors}
    failure = describe(error)
    if failure.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("a live client met a defect", exc_info=error)
    described: dict[str, Any] = {
        "code": str(failure.status.value),
        "message": status_text(failure.status),
        "tags": failure.tags,
    }
    return described | {"errors": failure.errors} if failure.errors else described


class SocketIOSink:
    """The output to one Socket.IO client. `offer` and `make_room` are methods of the connection. `patience` is the
    number of seconds for which a client may read nothing while its buffer is full."""

    __slots__ = ("_connection", "_patience", "make_room", "offer")

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self.offer = connection.offer
        self.make_room = connection.make_room
        self._patience = patience

    def send(self, text: str) -> None:
        self._connection.send(text[1:])

    async def drained(self) -> None:
        connection, clock = self._connection, asyncio.get_running_loop().time
        least, since = connection.buffered, clock()
        while not connection.has_room:
            await connection.room(self._patience / LOOKS)
            waiting = connection.buffered
            if waiting < least:
                least, since = waiting, clock()
            elif clock() > since + self._patience:
                # Its heartbeat may continue: EIO=3 clients send pings without reading anything.
                connection.close(CloseReason.LAGGING)
        connection.make_room(0)

    async def taken(self) -> None:
        await self.drained()
        await self._connection.emptied()

    @property
    def closed(self) -> bool:
        return self._connection.closed is not None

    @property
    def has_room(self) -> bool:
        return self._connection.has_room

    def close(self, kind: Ending) -> None:
        self._connection.close(CloseReason(kind))  # the farewell tells the client the reason


class LiveGateway(SocketIOServer):
    """The Socket.IO server of the hub. Only the default namespace exists."""

    def __init__(
        self,
        settings: Settings,
        registry: SessionRegistry,
        resolver: Resolver,
        trusted: frozenset[Origin],
        limit_reached: Callable[[str], None],
    ) -> None:
        super().__init__(
            connect_timeout=settings.live_connect_timeout * 1000,
            path=PATH,
            max_attached=MOST_ATTACHED,
            ping_interval=settings.live_ping_interval * 1000,
            ping_timeout=settings.live_ping_timeout * 1000,
            # Twice as many, for clients that have yet to join or are about to be refused.
            max_connections=2 * settings.live_max_connections,
            max_connections_per_address=settings.live_max_connections_per_address,
            address_block=counted_address(settings.trusted_proxies),
            body_timeout=settings.body_timeout * 1000,
            max_payload=settings.live_max_payload,
            max_unjoined_payload=min(JOINING_PAYLOAD, settings.live_max_payload),
            # Answers get as much room again, beyond the limit for events.
            max_buffered_bytes=2 * settings.live_max_buffered,
            max_offered_bytes=settings.live_max_buffered,
            cors_origins=settings.trusted_origins,
            cors_public=True,  # any page may connect with its own token; `_principal` checks cookies
            farewell=self._farewell,
            on_limit=lambda name: limit_reached(LIMIT_NAMES[name]),
        )
        registry.context.fanout.cork = self.eio.cork
        self._registry = registry
        self._limit_reached = limit_reached
        self._resolver = resolver
        self._trusted = trusted
        self._most = settings.live_max_connections
        self._patience = settings.live_ping_timeout
        self.lagging = 0
        self._sessions: dict[str, LiveSession] = {}
        self._eio_sids: dict[str, str] = {}
        self.on("connect", self._connected)
        self.on("disconnect", self._disconnected)

    # Figures for the metrics.

    def connections_by_kind(self) -> Mapping[tuple[str, str], int]:
        return Counter((str(c.version), str(c.transport)) for c in self.eio.connections.values())

    def channels(self) -> int:
        return len(self._registry.context.fanout.channels)

    def deliveries(self) -> int:
        return self._registry.context.fanout.deliveries

    # Clients.

    async def _connected(self, sid: str, environ: Mapping[str, Any], auth: Any = None) -> None:
        self._check_room()
        try:
            credential, principal = await self._principal(Call(environ["asgi.scope"], _no_body), auth)
        except AuthError as error:
            raise Refused(status_text(describe(error).status)) from None
        except StoreError as error:
            raise Refused(status_text(describe(error).status)) from None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            # Of a read that it shared: python-socketio would let the client in, without a session.
            raise Refused(status_text(HTTPStatus.SERVICE_UNAVAILABLE)) from None
        self._check_room()  # others may have joined during the lookup
        connection = self.connection(sid)
        if connection is not None:
            connection.owner = principal.user_id
            sink = SocketIOSink(connection, self._patience)
            session = LiveSession(self._registry.context, sink, principal, credential)
            self._sessions[connection.sid] = session
            self._eio_sids[sid] = connection.sid
            self._registry.open(session)

    def _check_room(self) -> None:
        if self._is_full:
            self._limit_reached("live_max_connections")
            raise Refused("Too many connections")

    @property
    def _is_full(self) -> bool:
        return len(self._registry.sessions) >= self._most

    async def _handle_connect(self, eio_sid: str, namespace: str, data: Any) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        connection = self.eio.connections.get(eio_sid)
        if connection is not None and not connection.joined and self._is_full:
            connection.close(CloseReason.OVERLOADED)

    async def _principal(self, call: Call, auth: Any) -> tuple[str, Principal]:
        """Authenticate by the `auth` payload, the query's token, a Bearer token, or the cookie of a trusted page."""
        payload = auth.get("token") if isinstance(auth, dict) else None
        query = parse_qs(call.scope["query_string"].decode("latin-1")).get("token", [None])[0]
        token = payload or query or call.bearer()
        if not isinstance(token, str):
            # A WebSocket handshake is a GET and changes nothing, but later messages on it can change anything.
            origin, site = call.header(b"origin"), call.header(b"sec-fetch-site")
            check_same_site("POST", call.scheme, call.host, origin, site, self._trusted)
            token = call.session() or ""
        return token, await self._resolver.resolve(token)

    async def _disconnected(self, sid: str, reason: str | None = None) -> None:
        self.lagging += reason == CloseReason.LAGGING
        session = self._sessions.pop(self._eio_sids.pop(sid, ""), None)
        if session is not None:
            await self._registry.close(session)

    def _farewell(self, connection: Connection, reason: CloseReason) -> str | None:
        """Return the last packet to a client that is disconnected, which gives the reason. None if the reason has no
        name, or if the client is still connecting: an event must not precede the answer to its connect packet."""
        kind = NOTICES.get(reason) if connection.sid in self._sessions else None
        return event_text("notice", {"kind": kind}) if kind else None

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Wait until the client reads its answers, before a message is parsed: that may multiply its size."""
        session = self._sessions.get(eio_sid)
        if session is not None and not session.sink.has_room:
            await session.sink.drained()
        await super()._handle_eio_message(eio_sid, data)

    async def _handle_event(self, eio_sid: str, namespace: str, id: int | None, data: list[Any]) -> None:
        session, connection = self._sessions.get(eio_sid), self.eio.connections.get(eio_sid)
        if session is None or connection is None:
            return

        def reply(answer: bytes) -> None:
            # Written here, not returned to python-socketio, so that events caused by the request come after it.
            if id is not None:
                connection.send(f"3{id}[{answer.decode()}]")

        await session.request(data[0], data[1] if len(data) > 1 else None, reply)


async def _no_body() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def refuse(answer: Answer, scope: Scope, send: Send) -> None:
    """Send the answer to an error of a request or a handshake."""
    answer.headers = [*answer.headers, (b"x-request-id", secrets.token_hex(8).encode())]
    if scope["type"] == "http":
        await answer.send(scope, send)
        return
    assert isinstance(answer.body, bytes)
    headers = [(b"content-type", answer.content_type), *answer.headers]
    await refuse_websocket(scope, send, int(answer.status), headers, answer.body)


class LiveEndpoint:
    """The gateway as an ASGI application. It first checks the Host and Origin headers."""

    def __init__(self, server: LiveGateway, origins: Origins, error_answer: ErrorAnswer) -> None:
        self._server = server
        self._origins = origins
        self._error_answer = error_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._origins.admit(scope)
        except (AuthError, HubError) as error:
            await refuse(self._error_answer(error, scope), scope, send)
            return
        scope.pop(FIRST_HEADERS, None)  # a connection keeps its scope for as long as it lives
        await self._server.eio(scope, receive, send)
