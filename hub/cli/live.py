"""Live subscriptions for the command line: Socket.IO protocol 5 over one WebSocket.

`Conversation` is the protocol without I/O; `LiveConnection` adds the WebSocket. Only one request runs at a time.
Sources: https://socket.io/docs/v4/engine-io-protocol/ and https://socket.io/docs/v4/socket-io-protocol/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode

from hub.cli.client import Server, describe
from hub.cli.output import Failure, Misuse

MOST_BYTES: Final = 64 * 1024 * 1024
"""Largest message accepted. An entity may be much larger than the request that made it."""
OPENING: Final = 10.0
"""Timeout in seconds for connecting, and for silence until the hub has announced its heartbeat interval."""
ANSWERING: Final = 60.0
"""Timeout of a request in seconds: the hub may have to read old changes from a busy disk."""
CLOSING: Final = 1.0


class Lost(Failure):
    """The connection failed or was lost. Another connection may continue from the same position."""


class Denied(Lost):
    """The hub refuses the token. Another connection would be refused, too."""


class Rejected(Failure):
    """A request failed or a subscription has ended. `code` is that of the error, such as "410"."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = str(error.get("code", ""))
        super().__init__(describe(str(error.get("message", "refused")), error.get("errors") or {}))


@dataclass(frozen=True, slots=True)
class Joined:
    """The hub has accepted the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The acknowledgement of a request."""

    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    body: dict[str, Any]


Message = Joined | Answer | Event
M = TypeVar("M", Joined, Answer, Event)


class Conversation:
    """The protocol of one connection, packet by packet. `receive` takes arriving packets; `outgoing` holds packets to
    send.

    `patience`: seconds of silence after which the connection counts as lost."""

    def __init__(self, token: str) -> None:
        self.outgoing: list[str] = []
        self.patience = OPENING
        self._token = token
        self._asked = 0

    def ask(self, name: str, body: dict[str, Any]) -> None:
        self._asked += 1
        self.outgoing.append(f"42{self._asked}{orjson.dumps([name, body]).decode()}")

    def receive(self, packet: str) -> Message | None:
        """Process a packet; return its message, or None for one that only concerns the protocol. Raises Lost, Denied,
        and ValueError for an invalid packet."""
        match packet[:1]:
            case "0":
                self._opened(orjson.loads(packet[1:]))
            case "1":
                raise Lost("the hub has closed the connection")
            case "2":
                self.outgoing.append("3" + packet[1:])
            case "4":
                return self._message(packet[1:2], packet[2:])
            case "6":  # noop
                pass
            case _:
                raise ValueError(f"no packet of Engine.IO 4: {packet[:20]!r}")
        return None

    def _opened(self, options: Any) -> None:
        match options:
            case {"pingInterval": int() as interval, "pingTimeout": int() as timeout}:
                self.patience = (interval + timeout) / 1000
            case _:
                raise ValueError("the hub has not said how often it lets hear of itself")
        # The token is in the first message rather than in the address, which proxies log.
        self.outgoing.append("40" + orjson.dumps({"token": self._token}).decode())

    def _message(self, kind: str, text: str) -> Message:
        # An acknowledgement begins with the number of its request. It is ignored: only one request runs at a time.
        text = text.lstrip("0123456789")
        match kind, orjson.loads(text or "null"):
            case "0", _:
                return Joined()
            case "1", _:
                raise Lost("the hub has closed the connection")
            case "2", [str() as name, dict() as body]:
                return Event(name, body)
            case "3", [dict() as body]:
                return Answer(body)
            case "4", {"message": "Unauthorized"}:
                raise Denied("Unauthorized: the hub does not take this token")
            case "4", {"message": str() as message}:
                raise Lost(f"the hub refuses the connection: {message}")
        raise ValueError(f"no packet of Socket.IO 5: {kind}{text[:20]!r}")


class LiveConnection:
    """A conversation over a WebSocket. Its methods raise Lost if the connection is lost."""

    def __init__(self, socket: ClientConnection, conversation: Conversation, url: str) -> None:
        self._socket = socket
        self._conversation = conversation
        self._url = url

    async def receive(self) -> Message:
        """Return the next message. Waits as long as the hub's heartbeat continues."""
        while True:
            with as_lost(self._url):
                async with asyncio.timeout(self._conversation.patience):
                    packet = await self._socket.recv(decode=True)
                message = self._conversation.receive(packet)
                await self._flush()
            if message is not None:
                return message

    async def ask(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the hub's answer to a request. Raises Rejected."""
        self._conversation.ask(name, body)
        with as_lost(self._url):
            async with asyncio.timeout(ANSWERING):
                await self._flush()
                answer = await self._first(Answer)
        if not answer.body.get("ok"):
            raise Rejected(answer.body.get("error") or {})
        return answer.body

    async def join(self) -> None:
        """Wait until the hub has accepted the connection. Raises Denied."""
        with as_lost(self._url):
            async with asyncio.timeout(OPENING):
                await self._first(Joined)

    async def _first(self, kind: type[M]) -> M:
        """Return the next message of this kind and ignore events before it: they only announce the end of the
        connection."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def _flush(self) -> None:
        outgoing = self._conversation.outgoing
        while outgoing:
            await self._socket.send(outgoing.pop(0))


class Direct(connect):
    """Follows no redirect: the token belongs to the given address only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@asynccontextmanager
async def open_live(server: Server) -> AsyncIterator[LiveConnection]:
    """Open a connection and wait until the hub accepts it. Raises Lost, Denied, and Misuse for an invalid address."""
    address = live_address(server.url)
    proxy: Literal[True] | None = True if server.trust_env else None
    with as_lost(server.url):
        # No WebSocket pings: the protocol has its own heartbeat.
        socket = await Direct(
            address,
            proxy=proxy,
            max_size=MOST_BYTES,
            ping_interval=None,
            open_timeout=OPENING,
            close_timeout=CLOSING,
        )
    async with socket:
        connection = LiveConnection(socket, Conversation(server.token), server.url)
        await connection.join()
        yield connection


def live_address(url: str) -> str:
    """Return the address of the WebSocket for an address such as ``https://hub.example.org``."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Misuse(f"{url} is no address of a hub: give one such as https://hub.example.org")
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    path = f"{parts.path.rstrip('/')}/socket.io/"
    return parts._replace(scheme=scheme, path=path, query="EIO=4&transport=websocket", fragment="").geturl()


@contextmanager
def as_lost(url: str) -> Iterator[None]:
    """Translate the errors of a connection. Use it only around code that waits for the connection: code that processes
    messages may raise the same errors."""
    try:
        yield
    except TimeoutError as error:
        raise Lost(f"{url} does not answer") from error
    except ConnectionClosed as error:
        if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
            # A retry is useless: the same message would come first.
            raise Failure(f"a message of the hub is larger than {MOST_BYTES // 1024 // 1024} MiB") from error
        raise Lost("connection lost") from error
    except InvalidStatus as error:
        if error.response.status_code == 503:
            raise Lost(f"the hub at {url} is shutting down or too busy") from error
        raise Lost(f"{url} answers {error.response.status_code} where a hub has its live API") from error
    except (OSError, WebSocketException, ImportError) as error:  # ImportError: packages for a SOCKS proxy are missing
        raise Lost(f"no answer from {url}: {error or type(error).__name__}") from error
    except ValueError as error:
        raise Lost(f"what answers at {url} is no hub: {error}") from error
