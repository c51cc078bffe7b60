"""A live client for tests. It implements Socket.IO over a WebSocket itself, so that it sees every packet, and updates
its views by events alone, so that a gap, a duplicate or a misplaced change fails immediately."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from auth.secret_key import SecretKey
from stores.records import Entity
from tests.support import exchanges
from tests.support.hub import PATIENCE, SECRET_KEY, Client, Hub, unique

Event = dict[str, Any]
POSITIONS: Final = SecretKey.parse(SECRET_KEY).cover("positions")
_MOST_BYTES: Final = 64 * 1024 * 1024


class Refused(Exception):
    """The hub refused the connection; the text says why."""


class Ended(Exception):
    """The hub closed the connection."""


class Declined(AssertionError):
    """A subscription that must succeed was refused. `answer` is the acknowledgement."""

    def __init__(self, answer: Event) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass
class Watch:
    """A subscription as its client knows it. `view` (entities by id) is the snapshot with all events applied; `began`
    is the position in the acknowledgement, and `first` the view at that position."""

    channel: str
    request: dict[str, Any]
    position: str
    view: dict[str, Entity]
    resync: bool = False
    strict: bool = True
    ended: Event | None = None
    events: list[Event] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    """The commits of which the last event has arrived."""

    def __post_init__(self) -> None:
        self.began = self.position
        self.first = dict(self.view)

    def take(self) -> list[Event]:
        """Return the changes since the last call."""
        taken, self.events = self.events, []
        return taken

    def reached(self, position: str) -> None:
        """Remember the newest position. Raises AssertionError if it is before the previous one."""
        assert order_of(self.position) <= order_of(position), f"back from {self.position} to {position}"
        self.position = position

    def apply(self, event: Event) -> None:
        """Apply an event to the view. Raises AssertionError if the event does not fit the view."""
        self.events.append(event)
        self.reached(event["position"])
        assert event.get("commit") not in self.complete, f"after the last of its commit: {event}"
        if event.get("last"):
            self.complete.add(event["commit"])
        op, id = event["op"], event["_id"]
        if self.strict:
            assert (id in self.view) is (op != "insert"), f"{op} out of place: {event}"
        if op == "remove":
            assert event.keys() - {"commit", "last"} == {"channel", "op", "store", "_id", "position"}, event
            self.view.pop(id, None)
        else:
            assert op != "update" or event["changed"], event
            if self.strict and op == "update":
                assert {*event["changed"]} == differing(self.view[id], event["entity"]), event
            self.view[id] = event["entity"]


def differing(one: Entity, other: Entity) -> set[str]:
    """Return the names of the fields that differ."""
    return {name for name in {*one, *other} if (name in one, one.get(name)) != (name in other, other.get(name))}


class LiveClient:
    """A live client, made by `live`. It handles messages as they arrive; the next call raises any failure."""

    def __init__(self, websocket: ClientConnection, version: int) -> None:
        self.version = version
        self.open: dict[str, Any] = {}
        self.watches: dict[str, Watch] = {}
        self.channels: set[str] = set()
        self.notices: list[str] = []
        self.positions: list[str] = []
        self.packets: list[str] = []
        self.closed = asyncio.Event()
        self._websocket = websocket
        self._replies: dict[int, Callable[[Event], None]] = {}
        self._next_id = 0
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._left: int | None = None
        self._reader: asyncio.Task[None] | None = None

    # Connecting.

    async def handshake(self, auth: dict[str, Any] | None) -> None:
        """Exchange the open and connect packets. Raises Refused."""
        self.open = orjson.loads((await self.receive())[1:])
        if self.version == 4:
            await self._websocket.send("40" + ("" if auth is None else orjson.dumps(auth).decode()))
        answer = await self.receive()
        if answer.startswith("44"):
            said = orjson.loads(answer[2:])
            raise Refused(said["message"] if isinstance(said, dict) else said)
        assert answer.startswith("40"), answer
        self._reader = asyncio.create_task(self._read())

    async def receive(self) -> str:
        async with asyncio.timeout(PATIENCE):
            message = await self._websocket.recv()
        assert isinstance(message, str)
        return message

    async def close(self) -> None:
        await self._websocket.close()
        if self._reader is not None:
            await self._reader

    def abort(self) -> None:
        """Drop the connection without a close handshake, as a network failure does."""
        self._websocket.transport.abort()

    def cut_after(self, changes: int) -> None:
        """Drop the connection once so many more changes are applied, whatever else has arrived by then. Does nothing on
        a connection that was already dropped."""
        if not self.was_cut:
            self._left = changes

    @property
    def was_cut(self) -> bool:
        return self._left == 0

    def stop_reading(self) -> None:
        """Stop reading, so that incoming data queues up in the network and in the hub."""
        self._websocket.transport.pause_reading()

    def read_on(self) -> None:
        self._websocket.transport.resume_reading()

    # Requests.

    async def ask(self, name: str, *payload: Any) -> Event:
        """Send a request; return its acknowledgement."""
        return await self._ask(name, payload, lambda answer: None)

    async def _ask(self, name: str, payload: tuple[Any, ...], heard: Callable[[Event], None]) -> Event:
        """Send a request. `heard` is called as soon as the answer arrives, before any later message is handled."""
        self.check()
        answered: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def reply(answer: Event) -> None:
            heard(answer)
            if not answered.done():
                answered.set_result(answer)

        id, self._next_id = self._next_id, self._next_id + 1
        self._replies[id] = reply
        with suppress(ConnectionClosed):
            await self._websocket.send(f"42{id}{orjson.dumps([name, *payload]).decode()}")
        gone = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait((answered, gone), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        self.check()
        if not answered.done():
            raise Ended(f"no answer to {name}: {self.notices}")
        return answered.result()

    async def subscribe(self, store: str, **more: Any) -> Event:
        """Send ``subscribe``; return the acknowledgement, whether ok or an error."""
        return await self._ask("subscribe", ({"store": store, **more},), self._subscribed)

    def _subscribed(self, answer: Event) -> None:
        if answer["ok"]:
            self.channels.add(answer["channel"])

    async def watch(self, store: str, *, strict: bool = True, **more: Any) -> Watch:
        """Subscribe, which must succeed, with a snapshot by default. A view without a snapshot is not strict, because
        it receives changes of entities that are not in it."""
        request = {"store": store, "snapshot": True, **more}
        return await self._watch(request, {}, strict and bool(request["snapshot"]))

    async def resume(self, watch: Watch, **more: Any) -> Watch:
        """Resume another client's subscription on this connection, from its last position."""
        request = watch.request | {"since": watch.position, "snapshot": False} | more
        return await self._watch(request, dict(watch.view), watch.strict)

    async def _watch(self, request: dict[str, Any], view: dict[str, Entity], strict: bool) -> Watch:
        made: list[Watch] = []

        def heard(answer: Event) -> None:
            if answer["ok"]:
                entities = answer.get("entities")
                seen = view if entities is None else {e["_id"]: e for e in entities}
                resync = answer.get("resync", False)
                assert entities is None or len(seen) == len(entities)
                made.append(Watch(answer["channel"], request, answer["position"], seen, resync, strict))
                self.watches[answer["channel"]] = made[0]

        answer = await self._ask("subscribe", (request,), heard)
        if not made:
            raise Declined(answer)
        return made[0]

    # Events.

    async def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until incoming messages make the condition true. Raises Ended if the connection closes first."""
        async with asyncio.timeout(patience):
            while not condition():
                self.check()
                if self.closed.is_set():
                    raise Ended(f"the connection has ended: {self.notices}")
                self._arrived.clear()
                await self._arrived.wait()
        self.check()

    async def ending(self, patience: float = PATIENCE) -> list[str]:
        """Wait until the hub has closed the connection; return the notices that it sent before."""
        async with asyncio.timeout(patience):
            await self.closed.wait()
        self.check()
        return self.notices

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def caught_up(self, beacon: Beacon) -> None:
        """Wait until all writes before this call have been delivered.

        The beacon's event arrives after the events of all earlier writes. The request at the end is answered after the
        work that the hub is already doing for this client.
        """
        shown = next((w for w in self.watches.values() if w.request["store"] == beacon.store and not w.ended), None)
        if shown is None:
            shown = await self.watch(beacon.store, snapshot=False)
        id = await beacon.light()
        await self.until(lambda: any(event["_id"] == id for event in shown.events))
        shown.take()
        await self.ask("unsubscribe", {"channel": "none"})

    async def _read(self) -> None:
        try:
            async for message in self._websocket:
                assert isinstance(message, str)
                self.packets.append(message)
                exchanges.keep_packet(message)
                await self._take(message)
                self._arrived.set()
                if self.was_cut:
                    self.abort()
                    break
        except ConnectionClosed:
            pass
        except Exception as failure:
            self._failure = failure
        finally:
            self.closed.set()
            self._arrived.set()

    async def _take(self, message: str) -> None:
        if message == "2":
            await self._websocket.send("3")
        elif message.startswith("43"):
            id, _, body = message[2:].partition("[")
            self._replies.pop(int(id))(orjson.loads(body[:-1]))
        elif message.startswith("42"):
            name, payload = orjson.loads(message[2:])
            self._heard(name, payload)
        else:
            assert message in ("1", "3", "41", "6"), message

    def _heard(self, name: str, payload: Event) -> None:
        assert not self.notices, f"{name} after the notice of {self.notices}"
        channel = payload.get("channel")
        if channel is not None and channel not in self.watches:
            assert channel in self.channels, payload  # subscribed to, but not watched
        elif name == "change":
            self.watches[payload["channel"]].apply(payload)
            if self._left:
                self._left -= 1
        elif name == "position":
            self.positions.append(payload["position"])
            for watch in self.watches.values():
                if watch.ended is None:
                    watch.reached(payload["position"])
        elif name == "ended":
            self.watches[payload["channel"]].ended = payload["error"]
        else:
            assert name == "notice", name
            self.notices.append(payload["kind"])


class Beacon:
    """A store that every user may read, and a writer to it: see `LiveClient.caught_up`."""

    def __init__(self, store: str, writer: Client) -> None:
        self.store = store
        self._writer = writer
        self._readers: list[str] = []

    def shine_for(self, user_id: str) -> None:
        self._readers.append(user_id)

    async def light(self) -> str:
        """Create an entity and share it with all readers of the beacon; return its id."""
        made = await self._writer.make(self.store)
        if self._readers:
            answer = await self._writer.put(f"/{self.store}/{made['_id']}/access", {"access": self._readers})
            assert answer.status_code == 200, answer.text
        return str(made["_id"])


def order_of(position: str) -> bytes:
    """Return a sort key of a position. On SQLite a position holds a number; on MongoDB it holds a resume token or a
    time, and a time sorts after all tokens of that time."""
    _, _, place = position.partition("~")[0].partition(".")
    if place.isdigit():
        return int(place).to_bytes(8)
    if place.startswith("t"):
        seconds, _, number = place[1:].partition(".")
        return b"\x82" + int(seconds).to_bytes(4) + int(number).to_bytes(4) + b"\xff"
    if place.startswith("s"):
        return POSITIONS.unseal(place[1:])[1:]
    return urlsafe_b64decode(place[1:] + "=" * (-len(place[1:]) % 4))


def socket_url(url: str, version: int = 4, **query: str) -> str:
    """Return the address of a hub's WebSocket."""
    return f"{url.replace('http', 'ws', 1)}/socket.io/?{urlencode({'EIO': version, 'transport': 'websocket', **query})}"


@asynccontextmanager
async def websocket(address: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket that sends nothing by itself, not even pings."""
    settings = {"compression": None, "ping_interval": None, "close_timeout": 1, "max_size": _MOST_BYTES, "proxy": None}
    async with connect(address, **settings | options) as opened:
        yield opened


@asynccontextmanager
async def live(
    hub: Hub | str,
    client: Client | None = None,
    *,
    version: int = 4,
    auth: dict[str, Any] | None = None,
    query: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[LiveClient]:
    """Connect a live client, with the credentials of `client` if given. Raises Refused."""
    url = hub if isinstance(hub, str) else hub.url
    headers = options.pop("headers", {}) | credentials(client)
    try:
        address = socket_url(url, version, **(query or {}))
        async with websocket(address, additional_headers=headers, max_queue=None, **options) as opened:
            made = LiveClient(opened, version)
            await made.handshake(auth)
            try:
                yield made
            finally:
                await made.close()
    except InvalidStatus as refused:
        raise Refused(refused.response.body.decode() if refused.response.body else "") from None


def credentials(client: Client | None) -> dict[str, str]:
    """Return the headers that authenticate a caller."""
    if client is None:
        return {}
    found = {name: client.http.headers[name] for name in ("Authorization",) if name in client.http.headers}
    cookies = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    return found | ({"Cookie": cookies} if cookies else {})


async def make_beacon(hub: Hub) -> Beacon:
    """Create a beacon. Only administrators see its entities until `shine_for` adds readers."""
    return Beacon(await hub.define(label=unique("beacon")), hub.admin)


async def close_code(socket: ClientConnection) -> int:
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


def frame_head(first: int, size: int) -> bytes:
    """Return the head of a client's WebSocket frame, with a mask of zeros."""
    return bytes((first, 0x80 | 127)) + size.to_bytes(8, "big") + bytes(4)


POSITION = '42["position",'


async def frame(socket: ClientConnection) -> str:
    """Return the next frame other than a ``position`` event."""
    received: str | bytes = POSITION
    async with asyncio.timeout(PATIENCE):
        while isinstance(received, str) and received.startswith(POSITION):
            received = await socket.recv()
    assert isinstance(received, str)
    return received


def ops(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["op"], event["_id"]) for event in events]


async def matches_rest(watch: Watch, client: Client) -> None:
    """Check that the live view equals a list with the same parameters."""
    params = {name: watch.request[name] for name in ("only",) if name in watch.request}
    if "filter" in watch.request:
        params["filter"] = json.dumps(watch.request["filter"])
    listed = await client.list(watch.request["store"], params)
    assert watch.view == {entity["_id"]: entity for entity in listed}


IN_KERNEL = 4_194_304
"""Bytes that the system may buffer for one connection (tcp_wmem) before anything waits in the hub."""


async def small_window(hub: Hub) -> socket.socket:
    """Return a connected socket with a tiny receive buffer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", hub.process.port))
    return made


SOON = 10.0
"""Seconds within which a revocation takes effect on a busy machine. On an idle one it takes at most one; whatever waits
for the next position or sweep takes 20 or more."""
PASSWORD = "long enough 1"


def token_of(client: Client) -> str:
    return client.http.headers["Authorization"].removeprefix("Bearer ")


async def ends_as_revoked(client: LiveClient, began: float) -> None:
    assert await client.ending() == ["revoked"]
    assert time.monotonic() - began < SOON
