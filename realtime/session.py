"""A live session: one client's principal and its requests, over any transport.

Requests come in as values; events and answers go out through a `ClientSink`. The same view, filter and projection as
for a REST answer decide what a client sees. `realtime.subscriptions` follows the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson

from auth.errors import AuthError
from auth.policy import rights_digest
from auth.positions import bind
from auth.principal import Principal
from realtime.channels import topic_of
from realtime.client_sink import ClientSink
from realtime.context import LiveContext
from realtime.engineio.deadlines import Entry
from realtime.errors import BadRequest, TooManySubscriptions
from realtime.events import difference_encoder, event_text
from realtime.reconcile import ChangedView, send_in_pieces
from realtime.requests import SubscribeRequest
from realtime.subscription import Subscription
from realtime.subscription_starts import Start, SubscriptionStarts
from realtime.subscriptions import Subscriptions
from realtime.unread import ClientList
from stores.errors import HistoryGone, NotFound, StoreError, TooManyLists, Unavailable
from stores.query import Filter
from stores.read_turns import READER
from stores.records import now_ms
from stores.tasks import is_cancelled
from stores.tracebacks import drop_tracebacks

Reply = Callable[[bytes], None]

RETRY_SECONDS: Final = 0.5
"""Delay between attempts to read a changed principal while the database is away."""


class _BeginsAnew(Exception):
    """The principal or the store changed while a request was being served, so it must be served again, unless the
    client has gone."""


class LiveSession:
    """One client's session. `credential` is resolved again whenever its principal may have changed."""

    def __init__(self, context: LiveContext, sink: ClientSink, principal: Principal, credential: str) -> None:
        self.context = context
        self.sink = sink
        self.principal = principal
        self.credential = credential
        self.subscriptions = Subscriptions(context.fanout, context.describe, sink)
        self.is_refreshing = False
        """Whether a task runs `refresh`, or is about to."""
        self._has_left = False
        self.armed: Entry | None = None
        """Set by `Deadlines` only."""
        self.on_new_principal: Callable[[LiveSession, Principal], None] = lambda session, before: None
        """Called with the session and its previous principal after the principal has changed."""
        self._list = ClientList(context.unread, sink, context.settings.reading)
        self._starts = SubscriptionStarts(context, self._list)

    async def request(self, name: str, payload: Any, reply: Reply) -> None:
        """Serve a client's request. `reply` gets the acknowledgement before any event that follows from it."""
        handlers = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe, "authenticate": self._authenticate}
        await self.sink.drained()  # a client that does not read its answers must wait
        async with self.subscriptions.turn:
            try:
                if name not in handlers:
                    raise BadRequest("event", f"unknown event {name!r:.100}")
                if isinstance(payload, StoreError):
                    raise payload
                if isinstance(payload, ValueError):
                    raise BadRequest("payload", f"is not JSON: {payload}")
                if not isinstance(payload, dict):
                    raise BadRequest("payload", "must be an object")
                READER.set(self.principal.user_id)
                await self.context.beginning.enter()
                await handlers[name](payload, reply)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                self._refuse(Unavailable("a read that this request shared was cancelled"), reply)
            except Exception as error:
                self._refuse(error, reply)
                drop_tracebacks(error)

    def _refuse(self, error: Exception, reply: Reply) -> None:
        reply(orjson.dumps({"ok": False, "error": self.context.describe(error)}))

    @property
    def closed(self) -> bool:
        """Whether the client has gone. `close` follows when its current request ends, which it then does soon."""
        return self._has_left or self.sink.closed

    @property
    def due(self) -> float:
        """When the credential expires, in the time of the event loop."""
        return asyncio.get_running_loop().time() + (self.principal.expires - now_ms()) / 1000

    async def close(self) -> None:
        """End the session, because the client has disconnected. Its subscriptions end in slices, unless it could still
        be sent their events."""
        self._has_left = True
        for subscription in self.subscriptions:
            if self.sink.closed:
                await self._wait_for_turn()
            self.subscriptions.drop(subscription)

    async def _wait_for_turn(self) -> None:
        """Let other tasks run if the sessions have taken their share of this iteration of the event loop."""
        while self.context.turns.is_over():  # noqa: ASYNC110 (it is over for one iteration only)
            await asyncio.sleep(0)

    def send_position(self) -> None:
        """Send the client the position that it has reached, so that it can resume from there.

        Nothing is sent while a subscription is ahead of fan-out, because that position would be behind what the client
        has, nor while one has a gap, for which it is about to be ended.
        """
        if self.subscriptions.is_listening and self.sink.has_room:
            position = bind(self.context.fanout.position, rights_digest(self.principal))
            self.sink.send(event_text("position", {"position": position}))

    def outlives(self, subscription: Subscription, order: bytes) -> bool:
        """Return whether a subscription to a store goes on although a change at `order` ends the views of that store.

        It does if it began after the change, with the definition of now.
        """
        if not self.subscriptions.is_past(subscription, order):
            return False
        try:
            view = self.context.view(self.principal, subscription.store)
        except (AuthError, StoreError):
            return False
        now, then = view.definition, subscription.definition
        return now == then and now.key_types == then.key_types

    # Subscribing.

    async def _subscribe(self, payload: dict[str, Any], reply: Reply) -> None:
        request = SubscribeRequest.parse(payload)
        subscriptions = self.subscriptions
        while not self.closed:
            await self._freshen()
            subscription = self._subscription(request)
            shared = bool(subscription.names)
            subscriptions.add(subscription, request.id)
            try:
                await (self._share if shared else self._begin)(subscription, request, reply)
                return
            except _BeginsAnew:
                subscriptions.release(subscription, request.id)
            except BaseException:
                subscriptions.release(subscription, request.id)
                raise
            finally:
                self._list.drop()

    def _subscription(self, request: SubscribeRequest) -> Subscription:
        """Return the client's subscription to the same topic under other names, or a new one."""
        view = self.context.view(self.principal, request.store)
        filter, projection = request.query(view, self.context.settings.filter_limits)
        topic = topic_of(request.store, filter, projection)
        subscriptions, most = self.subscriptions, self.context.settings.subscriptions
        existing = subscriptions.by_topic.get(topic)
        replaced = existing if request.id is None else subscriptions.by_name.get(request.id)
        if replaced is not None:
            subscriptions.release(replaced, request.id)
        if subscriptions.count >= most:
            raise TooManySubscriptions("store", f"at most {most} subscriptions").at("live_subscriptions")
        if existing is not None and not existing.ended:
            return existing
        made = Subscription(subscriptions, topic, view, filter, projection, user=self.principal.user_id)
        made.on_drop = self.context.filter_sizes.take(made.user, made.key.where)
        return made

    async def _begin(self, subscription: Subscription, request: SubscribeRequest, reply: Reply) -> None:
        """Send the acknowledgement, then deliver changes from its position on."""
        start = await self._starts.find(subscription, request, self.principal.user_id)
        self._accept(subscription, start, request, reply)
        await self.subscriptions.join(subscription)

    async def _share(self, subscription: Subscription, request: SubscribeRequest, reply: Reply) -> None:
        """Add another name to a subscription that already receives changes.

        The acknowledgement is sent when the other names have received everything up to its position, so that later
        events are new to all of them.
        """
        subscriptions = self.subscriptions
        subscriptions.mute(subscription)
        try:
            start = await self._starts.find(subscription, request, self.principal.user_id, subscription.position)
            await subscriptions.catch_up(subscription, until=start.position)
            if not subscription.ended:
                self._accept(subscription, start, request, reply)
            elif not self.closed:
                raise Unavailable("the view has ended meanwhile")
        finally:
            await subscriptions.join(subscription)

    def _accept(self, subscription: Subscription, start: Start, request: SubscribeRequest, reply: Reply) -> None:
        if self.subscriptions.suspended or subscription.ended or self.closed:
            raise _BeginsAnew
        subscription.position = start.position
        self._starts.acknowledge(start.position)
        answer: dict[str, Any] = {"ok": True, "channel": subscription.topic}
        if request.id is not None:
            answer["id"] = request.id
        answer["position"] = bind(start.position, subscription.view.digest)
        if start.resync:
            answer["resync"] = True
        text = orjson.dumps(answer)
        if start.entities is not None:
            text = text[:-1] + b',"entities":' + start.entities + b"}"
            self.sink.make_room(len(text))
        reply(text)
        if not self.closed:  # otherwise nothing was sent
            self._list.hand_over()

    async def _unsubscribe(self, payload: dict[str, Any], reply: Reply) -> None:
        """Remove one name by `id`, or all names of a channel by `channel`."""
        subscriptions = self.subscriptions
        name, topic = payload.get("id"), payload.get("channel")
        if name is not None:
            if topic is not None:
                raise BadRequest("id", "give an id or a channel, not both")
            if not isinstance(name, str) or name not in subscriptions.by_name:
                raise NotFound("no such subscription")
            subscriptions.release(subscriptions.by_name[name], name)
        else:
            if "channel" not in payload:
                raise BadRequest("id", "give an id or a channel")
            if not isinstance(topic, str) or topic not in subscriptions.by_topic:
                raise NotFound("no such channel")
            subscriptions.drop(subscriptions.by_topic[topic])
        reply(b'{"ok":true}')

    # A changed principal.

    async def _authenticate(self, payload: dict[str, Any], reply: Reply) -> None:
        token = payload.get("token")
        if not isinstance(token, str) or not token:
            raise BadRequest("token", "must be a string")
        await self.context.resolver.resolve(token)  # raises Unauthenticated; then nothing changes
        self.credential = token
        self.suspend()
        reply(b'{"ok":true}')
        while not self.closed:
            if await self._try_to_freshen():
                return
            await asyncio.sleep(RETRY_SECONDS)

    def stop_catching_up(self) -> None:
        """Stop catching up with the old principal. Call `suspend` before fan-out goes on."""
        self.subscriptions.suspended = True

    def suspend(self) -> None:
        """Deliver nothing more to the old principal, which changes at this point of the feed.

        Call `refresh` afterwards.
        """
        self.subscriptions.suspend()

    @property
    def will_refresh(self) -> bool:
        """Whether the session is suspended until a task reads its principal, which has yet to begin."""
        return self.is_refreshing and self.subscriptions.suspended

    async def refresh(self) -> None:
        """Read the current principal as soon as the database answers.

        A client whose credential is no longer valid is disconnected.
        """
        try:
            READER.set(self.principal.user_id)
            while not self.closed:
                await self.context.looking.enter()
                async with self.subscriptions.turn:
                    if await self._try_to_freshen():
                        return
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            self.is_refreshing = False

    async def _try_to_freshen(self) -> bool:
        """Return whether the principal has been read; false while the database is away.

        An unexpected error ends the subscriptions of the session.
        """
        try:
            await self._freshen()
        except StoreError:
            return False
        except Exception as error:
            for subscription in self.subscriptions:
                self.subscriptions.end(subscription, error)
        return True

    async def _freshen(self) -> None:
        """Read the principal again if it may have changed, and continue its subscriptions.

        If the principal cannot be read, the error is raised. The session then stays suspended and delivers no change.
        """
        subscriptions = self.subscriptions
        if not subscriptions.suspended:
            return
        while subscriptions.suspended and not self.closed:
            subscriptions.suspended = False
            before = self.principal
            try:
                async with self.context.refreshing:
                    self.principal = await self.context.resolver.resolve(self.credential)
            except AuthError:
                self.sink.close("expired" if self.principal.expires <= now_ms() else "revoked")
                return
            except BaseException:
                subscriptions.suspended = True
                raise
            self.on_new_principal(self, before)
            for subscription in subscriptions:
                await self._wait_for_turn()
                try:
                    await self._move(subscription)
                except Exception as error:
                    subscriptions.end(subscription, error)
        self.send_position()

    async def _move(self, subscription: Subscription) -> None:
        """Continue a muted subscription with the principal's current view, and send what enters and leaves that
        view."""
        if self.subscriptions.suspended or subscription.channel is not None or self.closed:
            return
        view = self.context.view(self.principal, subscription.store)
        subscription.user = self.principal.user_id
        new = view.narrowed(subscription.filter)
        if new != subscription.where:
            try:
                position = await self._send_differences(subscription, new)
                if not self.closed:
                    self._list.hand_over()
            finally:
                self._list.drop()
            if position is None:
                return
            subscription.position = position
        subscription.set_view(view)
        await self.subscriptions.join(subscription)

    async def _send_differences(self, subscription: Subscription, new: Filter) -> str | None:
        """Send the events of a changed view, and return its position; None if the principal changes meanwhile.

        A large view is sent in pieces. If the principal changes between them, the client must start afresh.
        """
        differences, position = await self._reconciled(subscription, new)
        goes_on = partial(self.subscriptions.goes_on, subscription)
        sent = await send_in_pieces(differences, self.sink, goes_on)
        if sent == len(differences) and goes_on():
            return position
        if sent:
            gone = HistoryGone("the rights have changed again while their last change was being sent")
            self.subscriptions.end(subscription, gone)
        return None

    async def _reconciled(self, subscription: Subscription, new: Filter) -> tuple[list[str], str]:
        context, unread = self.context, self._list.begin(self.principal.user_id)
        encode = difference_encoder(
            subscription.topic, subscription.store, subscription.projection, subscription.position
        )
        view = ChangedView(subscription.definition, subscription.where, new, subscription.position, encode)
        try:
            async with context.refreshing:
                return await context.reconciler.reconciled(view, unread)
        except TooManyLists:
            if (slot := unread.enter()) is not None:
                await slot  # outside of `refreshing`, which other users need
            async with context.refreshing:
                return await context.reconciler.reconciled(view, unread)
