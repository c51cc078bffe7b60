"""A live session: one client's principal and subscriptions, whatever carries its messages.

Requests come in as values, events and answers go out through an `Outlet`. What a client is shown is decided by the
same filter, sight and projection as a REST answer, and every way into a subscription (snapshot, resume, a changed
principal) ends in the same join: nothing between two moments of the feed is left out or told twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import orjson

from auth.errors import AuthError
from auth.policy import sight
from auth.positions import give, give_in_between, sight_digest, take
from auth.principal import Principal
from auth.resolver import Resolver
from realtime.channels import Channel, ChannelKey
from realtime.errors import BadRequest, SnapshotTooLarge, TooManySubscriptions
from realtime.events import event_text, settled_payload
from realtime.fanout import Fanout, Subscriber, topic_of
from realtime.reconcile import reconciled, whole_body
from realtime.requests import SubscribeRequest
from realtime.view import Settled, check_same_store
from stores.errors import HistoryGone, NotFound, StoreError
from stores.parse import Limits
from stores.projection import compile_projection
from stores.protocol import Batch, Engine
from stores.query import Filter, Projection, Query, both
from stores.records import Change, now_ms
from stores.schema import StoreDefinition

Reply = Callable[[bytes], None]
Ending = Literal["revoked", "expired"]
"""Why a session ends: its credential was taken back, or has reached its time."""

RETRY_SECONDS: Final = 0.5
"""Between attempts to read a principal that has changed, while the database is away."""

REFRESHED_AT_ONCE: Final = 50
"""Sessions that ask the database about a changed principal at the same time: a role may concern all of them."""

PIECE: Final = 65_536
"""Bytes of missed changes that are written before it is asked whether the client has room for more."""

PIECE_CHANGES: Final = 500
"""Missed changes that are looked at before others have their turn."""

PIECE_SECONDS: Final = 0.01
"""For which missed changes are looked at before others have their turn."""


class Outlet(Protocol):
    """The way out to one client. Packets go out in the order given; `close` names why."""

    def send(self, text: str) -> None: ...

    def write(self, frame: bytes, text: str) -> None:
        """Send one packet of many alike: `frame` is the WebSocket frame that holds `text`."""

    def make_room(self, size: int) -> None:
        """So many bytes may wait beyond the usual bound, until the client is `drained`: it has asked for them."""

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent, or is gone. One that takes nothing is cut off."""

    def close(self, kind: Ending) -> None: ...


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """`subscriptions`: per session; `snapshot` and `snapshot_bytes`: most entities in one acknowledgement, and most
    bytes of them."""

    subscriptions: int = 1_000
    snapshot: int = 10_000
    snapshot_bytes: int = 16_777_216
    filter_limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Live:
    """What all sessions of a process share. `definition` gives the definition of a store that a principal's scopes
    allow it to read (else Forbidden or NotFound). `describe` renders an error as ``{code, message, tags}``."""

    engine: Engine
    resolver: Resolver
    fanout: Fanout
    definition: Callable[[Principal, str], StoreDefinition]
    describe: Callable[[Exception], dict[str, Any]]
    settings: LiveSettings
    refreshing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REFRESHED_AT_ONCE))


class _SightChanged(Exception):
    """The principal changed while a request was being served: it has to be served again."""


@dataclass(eq=False, slots=True)
class Subscription:
    """One view that a session watches: `where` is its filter and the sight of a principal with this `digest`.

    `channel` is None while it is not told of changes; then `position` is how far it has been told.
    """

    session: LiveSession
    topic: str
    store: str
    filter: Filter
    projection: Projection
    where: Filter
    digest: str
    position: str = ""
    floor: bytes = b""
    channel: Channel[Subscriber] | None = None
    ended: bool = False
    tell: Callable[[bytes, str], None] = field(init=False)

    @property
    def key(self) -> ChannelKey:
        return ChannelKey(self.store, repr(self.where), self.projection, self.digest)

    def fail(self, error: StoreError) -> None:
        self.session.end(self, error)

    def __post_init__(self) -> None:
        # What is called for every delivery leads straight to the connection.
        self.tell = self.session.outlet.write


class LiveSession:
    """`credential` is what the principal was resolved from; it is resolved again when that may have changed."""

    def __init__(self, live: Live, outlet: Outlet, principal: Principal, credential: str) -> None:
        self.live = live
        self.outlet = outlet
        self.principal = principal
        self.credential = credential
        self.subscriptions: dict[str, Subscription] = {}
        self.closed = False
        self.became: Callable[[LiveSession, str], None] = lambda session, before: None
        """Called with the user id from before when the session has become another user's."""
        self._stale = False
        self._turn = asyncio.Lock()  # requests are served one after the other, in the order they came

    async def request(self, name: str, payload: Any, reply: Reply) -> None:
        """Serve a client's request; `reply` gets the acknowledgement, before any event that follows from it."""
        handlers = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe, "authenticate": self._authenticate}
        async with self._turn:
            try:
                if name not in handlers:
                    raise BadRequest("event", f"unknown event {name!r}")
                if not isinstance(payload, dict):
                    raise BadRequest("payload", "must be an object")
                await handlers[name](payload, reply)
            except Exception as error:
                reply(orjson.dumps({"ok": False, "error": self.live.describe(error)}))

    def close(self) -> None:
        """The client is gone."""
        self.closed = True
        for subscription in list(self.subscriptions.values()):
            self._drop(subscription)

    def say_position(self) -> None:
        """Tell the client how far it has seen, so that it can resume from there. Not while a subscription is still
        ahead of fan-out: it would be led back behind what it has."""
        reached = self.live.fanout.order
        if self.subscriptions and all(s.channel and s.floor <= reached for s in self.subscriptions.values()):
            position = give(self.live.fanout.position, self.principal)
            self.outlet.send(event_text("position", {"position": position}))

    # Subscribing.

    async def _subscribe(self, payload: dict[str, Any], reply: Reply) -> None:
        request = SubscribeRequest.parse(payload)
        while not self.closed:
            await self._freshen()
            subscription = self._new_subscription(request)
            try:
                await self._begin(subscription, request, reply)
                return
            except _SightChanged:
                self._drop(subscription)
            except BaseException:
                self._drop(subscription)
                raise

    def _new_subscription(self, request: SubscribeRequest) -> Subscription:
        definition = self.live.definition(self.principal, request.store)
        filter, projection = request.query(definition, self.live.settings.filter_limits)
        where = both(sight(self.principal, definition, "GET"), filter)
        topic = topic_of(request.store, filter, projection)
        most = self.live.settings.subscriptions
        if topic in self.subscriptions:
            self._drop(self.subscriptions[topic])
        elif len(self.subscriptions) >= most:
            raise TooManySubscriptions("store", f"at most {most} subscriptions")
        digest = sight_digest(self.principal)
        made = Subscription(self, topic, request.store, filter, projection, where, digest)
        self.subscriptions[topic] = made
        return made

    async def _begin(self, subscription: Subscription, request: SubscribeRequest, reply: Reply) -> None:
        if request.since is not None:
            try:
                await self._resume(subscription, request.since, reply)
                return
            except HistoryGone:
                if request.snapshot != "auto":
                    raise
            await self._snapshot(subscription, reply, resync=True)
        elif request.snapshot:
            await self._snapshot(subscription, reply, resync=False)
        else:
            self._accept(subscription, self.live.fanout.position, reply)
            await self._join(subscription)

    async def _snapshot(self, subscription: Subscription, reply: Reply, *, resync: bool) -> None:
        """The visible matches in the acknowledgement, and events from exactly there on."""
        most, most_bytes = self.live.settings.snapshot, self.live.settings.snapshot_bytes
        query = Query(subscription.where, limit=most)
        listing = await self.live.engine.find(subscription.store, query, subscription.projection)
        entities = await whole_body(listing, most_bytes)
        if listing.next is not None or entities is None:
            bound = f"{most} entities" if listing.next is not None else f"{most_bytes} bytes"
            raise SnapshotTooLarge("snapshot", f"more than {bound} match: narrow the filter or list over REST")
        self._accept(subscription, listing.position, reply, entities, resync=resync)
        await self._join(subscription)

    async def _resume(self, subscription: Subscription, since: str, reply: Reply) -> None:
        """The missed changes as events, then the new ones."""
        position = take(since, self.principal)
        # Before anything is promised: is that history there, and is it one of the store as it is now?
        first = await self.live.fanout.read_after(position)
        check_same_store(subscription.store, first.changes)
        self._accept(subscription, position, reply)
        await self._join(subscription)

    def _accept(
        self,
        subscription: Subscription,
        position: str,
        reply: Reply,
        entities: bytes | None = None,
        *,
        resync: bool = False,
    ) -> None:
        if self._stale:
            raise _SightChanged
        subscription.position = position
        answer: dict[str, Any] = {"ok": True, "channel": subscription.topic, "position": give(position, self.principal)}
        if resync:
            answer["resync"] = True
        text = orjson.dumps(answer)
        if entities is not None:
            text = text[:-1] + b',"entities":' + entities + b"}"
            self.outlet.make_room(len(text))
        reply(text)

    async def _join(self, subscription: Subscription) -> None:
        """Catch up. The client has its acknowledgement by now, so a failure is told as the end of the subscription."""
        try:
            await self._catch_up(subscription)
        except Exception as error:
            self.end(subscription, error)

    async def _catch_up(self, subscription: Subscription) -> None:
        """Tell the subscription what happened after its position, then let it hear of what happens from now on.

        When the principal changes meanwhile it stays where it is: whoever brings the new sight goes on from there.
        """
        feed, fanout = self.live.engine.feed, self.live.fanout
        while await self._may_be_told(subscription):
            order = feed.order(subscription.position)
            if order >= fanout.order:
                self._listen(subscription, order)
                return
            await self._replay(subscription, await fanout.read_after(subscription.position))

    async def _may_be_told(self, subscription: Subscription) -> bool:
        """Whether the subscription still goes on by the same sight, once the client has room for more."""
        await self.outlet.drained()
        return not subscription.ended and not self._stale

    async def _replay(self, subscription: Subscription, batch: Batch) -> None:
        """Tell of missed changes piece by piece, no faster than the client takes them."""
        check_same_store(subscription.store, batch.changes)
        told = 0
        while told < len(batch.changes):
            if not await self._may_be_told(subscription):
                return
            told = self._replay_piece(subscription, batch.changes, told)
            subscription.position = batch.changes[told - 1].position
            if told < len(batch.changes):
                await asyncio.sleep(0)
        subscription.position = batch.position

    def _replay_piece(self, subscription: Subscription, changes: Sequence[Change], start: int) -> int:
        """Tell of the changes from `start` on, up to the index that is returned."""
        fanout = self.live.fanout
        replay = fanout.replays.of(subscription.key, subscription.where, subscription.topic)
        end, size = start, 0
        turn_ends = time.perf_counter() + PIECE_SECONDS
        with fanout.together():
            while end < min(len(changes), start + PIECE_CHANGES) and size < PIECE and time.perf_counter() < turn_ends:
                told = replay.told(changes[end])
                end += 1
                if told is not None:
                    self.outlet.write(*told)
                    size += len(told[0])
        return end

    def _listen(self, subscription: Subscription, floor: bytes) -> None:
        """No waiting between the last replay and this: what fan-out hands out next is what comes next."""
        subscription.floor = floor
        join = self.live.fanout.join
        subscription.channel = join(subscription.key, subscription.where, subscription.topic, subscription)

    # Leaving.

    async def _unsubscribe(self, payload: dict[str, Any], reply: Reply) -> None:
        topic = payload.get("channel")
        if not isinstance(topic, str) or topic not in self.subscriptions:
            raise NotFound("no such channel")
        self._drop(self.subscriptions[topic])
        reply(b'{"ok":true}')

    def _drop(self, subscription: Subscription) -> None:
        subscription.ended = True
        self._mute(subscription)
        if self.subscriptions.get(subscription.topic) is subscription:
            del self.subscriptions[subscription.topic]

    def _mute(self, subscription: Subscription) -> None:
        if subscription.channel is not None:
            self.live.fanout.leave(subscription.channel, subscription)
            subscription.channel = None
            # Unless it has begun ahead of fan-out, which lags a little behind the database.
            if self.live.fanout.order >= subscription.floor:
                subscription.position = self.live.fanout.position

    def end(self, subscription: Subscription, error: Exception) -> None:
        """Take a subscription away and say why, unless that has been done."""
        if subscription.ended:
            return
        self._drop(subscription)
        payload = {"channel": subscription.topic, "error": self.live.describe(error)}
        self.outlet.send(event_text("ended", payload))

    # A changed principal.

    async def _authenticate(self, payload: dict[str, Any], reply: Reply) -> None:
        token = payload.get("token")
        if not isinstance(token, str) or not token:
            raise BadRequest("token", "must be a string")
        await self.live.resolver.resolve(token)  # raises Unauthenticated, and everything stays as it was
        self.credential = token
        self.suspend()
        reply(b'{"ok":true}')
        while not self.closed:
            if await self._try_to_freshen():
                return
            await asyncio.sleep(RETRY_SECONDS)

    def suspend(self) -> None:
        """The principal is changing, at this point of the feed: say nothing more by what it was. Follow with
        `refresh`."""
        self._stale = True
        for subscription in self.subscriptions.values():
            self._mute(subscription)

    async def refresh(self) -> None:
        """Take in the principal as it is now, as soon as the database says who that is. A client whose credential is
        no longer valid is sent away."""
        while not self.closed:
            async with self._turn:
                if await self._try_to_freshen():
                    return
            await asyncio.sleep(RETRY_SECONDS)

    async def _try_to_freshen(self) -> bool:
        """Whether that is settled; not while the database is away. A defect costs the session its subscriptions."""
        try:
            await self._freshen()
        except StoreError:
            return False
        except Exception as error:
            for subscription in list(self.subscriptions.values()):
                self.end(subscription, error)
        return True

    async def _freshen(self) -> None:
        """Raises what keeps the principal from being read: the session stays stale, and tells of no change."""
        if not self._stale:
            return
        while self._stale and not self.closed:
            self._stale = False
            before = self.principal.user_id
            try:
                async with self.live.refreshing:
                    self.principal = await self.live.resolver.resolve(self.credential)
            except AuthError:
                self.outlet.close("expired" if self.principal.expires <= now_ms() else "revoked")
                return
            except BaseException:
                self._stale = True
                raise
            self.became(self, before)
            for subscription in list(self.subscriptions.values()):
                try:
                    await self._move(subscription)
                except Exception as error:
                    self.end(subscription, error)
        self.say_position()

    async def _move(self, subscription: Subscription) -> None:
        """Let a muted subscription see as the principal now does, telling what enters and leaves its view by that."""
        if self._stale or subscription.channel is not None:
            return
        definition = self.live.definition(self.principal, subscription.store)
        new = both(sight(self.principal, definition, "GET"), subscription.filter)
        if new != subscription.where:
            live, old, store = self.live, subscription.where, subscription.store
            most_bytes = live.settings.snapshot_bytes
            async with live.refreshing:
                settled, position = await reconciled(
                    live.engine, live.fanout, store, old, new, subscription.position, most_bytes
                )
            if self._stale or subscription.ended:
                return
            self._settle(subscription, settled)
            subscription.where, subscription.position = new, position
        subscription.digest = sight_digest(self.principal)
        await self._join(subscription)

    def _settle(self, subscription: Subscription, settled: list[Settled]) -> None:
        """These events carry the position from before the change, and no sight: a client that is cut off between them
        is told to start afresh when it comes back, even if it sees by the old rule again."""
        show = compile_projection(subscription.projection)
        position = give_in_between(subscription.position)
        payloads = (settled_payload(subscription.topic, subscription.store, item, show) for item in settled)
        texts = [event_text("change", payload | {"position": position}) for payload in payloads if payload is not None]
        self.outlet.make_room(sum(len(text.encode()) for text in texts))
        for text in texts:
            self.outlet.send(text)
