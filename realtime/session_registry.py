"""The live sessions of one process. It refreshes them when their principals change, ends them when their credentials
expire, and checks them every second."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from time import monotonic
from typing import Any, Final

from auth.principal import Principal
from auth.resolver import FOREVER, alters_principals
from auth.system_stores import SYSTEM_STORES
from realtime.context import LiveContext
from realtime.engineio.deadlines import Deadlines
from realtime.key_changes import rekeyed
from realtime.redefinitions import redefines
from realtime.session import LiveSession
from realtime.subscription import Subscription
from stores.errors import HistoryGone, NotFound
from stores.records import Change, now_ms
from stores.turns import Turn

log = logging.getLogger(__name__)

CHECKED_EVERY: Final = 1.0
"""Seconds between the beginnings of two checks of all sessions."""
LEAST_PAUSE: Final = 0.1
"""Seconds between two checks, if they take long."""


class SessionRegistry:
    """The open sessions. `position_every`: seconds after which clients are sent the position that they have reached."""

    def __init__(self, context: LiveContext, position_every: float) -> None:
        self.context = context
        self.sessions: set[LiveSession] = set()
        self._by_user: dict[str, set[LiveSession]] = defaultdict(set)
        self._by_credential: dict[str, set[LiveSession]] = defaultdict(set)
        self._by_role: dict[str, set[LiveSession]] = defaultdict(set)
        self._position_every = position_every
        self._expiries: Deadlines[LiveSession] = Deadlines(self._end_expired)
        self._tasks: set[asyncio.Task[None]] = set()
        context.fanout.listeners.append(self._on_change)

    def open(self, session: LiveSession) -> None:
        self.sessions.add(session)
        self._enter(session)
        session.on_new_principal = self._on_new_principal

    async def close(self, session: LiveSession) -> None:
        self.sessions.discard(session)
        self._expiries.forget(session)
        self._leave(session, session.principal)
        await session.close()

    async def run(self) -> None:
        """Until cancelled, close sessions that have expired because the clock was set, and send clients their
        position."""
        began = sent = monotonic()
        while True:
            await asyncio.sleep(max(began + CHECKED_EVERY - monotonic(), LEAST_PAUSE))
            began = monotonic()
            is_due = began - sent >= self._position_every
            turn = Turn()
            for session in list(self.sessions):
                try:
                    self._check(session, is_due)
                except Exception:
                    log.exception("a session could not be checked")
                if turn.is_over:
                    await turn.pass_on()
            if is_due:
                sent = began
                self.context.fanout.replays.drop_cached()

    def _check(self, session: LiveSession, is_due: bool) -> None:
        if not self._end_expired(session) and is_due:
            session.send_position()

    def _end_expired(self, session: LiveSession) -> bool:
        """Close the session if its credential has expired, and return whether it has."""
        has_expired = session.principal.expires <= now_ms()
        if has_expired:
            session.sink.close("expired")
        return has_expired

    async def start_afresh(self) -> None:
        """End all subscriptions and refresh all sessions, because the feed missed changes.

        No subscription can go on without a gap, so each client must start from a fresh list. Any principal may have
        changed meanwhile.
        """
        await self._end_views(HistoryGone("changes were missed"))
        await self._look_again(self.sessions)

    # Changes that concern the sessions themselves, handled before the events of these changes are sent.

    async def _on_change(self, change: Change) -> None:
        if change.op == "lost":
            self.context.fanout.pending_ends.append(change)
            await self._lost(change)
        elif change.store == "stores":
            self.context.fanout.pending_ends.append(change)
            await self._redefined(change)
        elif alters_principals(change):
            await self._look_again(self._concerned(change))

    def _concerned(self, change: Change) -> Collection[LiveSession]:
        """Return the sessions that a change of a user, credential or role concerns."""
        if change.store == "users":
            return self._by_user.get(change.id, ())
        if change.store in ("tokens", "sessions"):
            return self._by_credential.get(change.id, ())
        return self._by_role.get(change.id, ()) if change.store == "roles" else ()

    async def _lost(self, change: Change) -> None:
        """Handle a gap in the changes of a store. Any session may depend on a system store."""
        if change.store in SYSTEM_STORES:
            await self.start_afresh()
        else:
            await self._end_views_of(change.store, HistoryGone("changes were missed"), change)

    async def _look_again(self, sessions: Iterable[LiveSession]) -> None:
        """Refresh sessions in slices, between which other tasks run.

        All of them stop catching up first, so that none receives a later change by its old rights. Sessions that have
        yet to read their principal after an earlier change need nothing more.
        """
        concerned = [session for session in sessions if not session.will_refresh]
        for session in concerned:
            session.stop_catching_up()
        turn = Turn()
        for session in concerned:
            session.suspend()
            if not session.is_refreshing:
                session.is_refreshing = True
                self._start(session.refresh())
            if turn.is_over:
                await turn.pass_on()

    async def _redefined(self, change: Change) -> None:
        """End the subscriptions to a store that now shows other fields, and those to stores whose references have got
        another type by it. Their clients must start from a fresh list."""
        if not redefines(change):
            return
        name = str((change.before or {}).get("name"))
        gone = HistoryGone("the store was redefined")
        await self._end_views_of(name, gone if change.op == "update" else NotFound(f"no store {name}"), change)
        if keys := rekeyed(change):
            order = self.context.fanout.order_of(change.position)

            def refers(session: LiveSession, subscription: Subscription) -> bool:
                is_concerned = not keys.isdisjoint(subscription.definition.key_types)
                return is_concerned and not session.outlives(subscription, order)

            await self._end_views(HistoryGone("a store to which it refers was redefined"), refers)

    async def _end_views_of(self, store: str, error: Exception, change: Change) -> None:
        """End the subscriptions to one store that began before this change."""
        order = self.context.fanout.order_of(change.position)
        await self._end_views(error, lambda session, s: s.store == store and not session.outlives(s, order))

    async def _end_views(
        self, error: Exception, ends: Callable[[LiveSession, Subscription], bool] = lambda session, subscription: True
    ) -> None:
        """End those current subscriptions that `ends` says, in slices."""
        turn = Turn()
        for session in list(self.sessions):
            for subscription in session.subscriptions:
                if ends(session, subscription):
                    session.subscriptions.end(subscription, error)
                if turn.is_over:
                    await turn.pass_on()

    def _enter(self, session: LiveSession) -> None:
        for role in session.principal.roles:
            self._by_role[role].add(session)
        self._by_user[session.principal.user_id].add(session)
        self._by_credential[session.principal.credential_id].add(session)
        if session.principal.expires < FOREVER:
            self._expiries.watch(session)

    def _on_new_principal(self, session: LiveSession, before: Principal) -> None:
        self._leave(session, before)
        if session in self.sessions:  # the session may have closed meanwhile
            self._enter(session)

    def _leave(self, session: LiveSession, principal: Principal) -> None:
        indexes = [(self._by_user, principal.user_id), (self._by_credential, principal.credential_id)]
        indexes += [(self._by_role, role) for role in principal.roles]
        for index, key in indexes:
            same = index.get(key)
            if same is not None:
                same.discard(session)
                if not same:
                    del index[key]

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
