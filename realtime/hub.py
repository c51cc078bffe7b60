"""The live hub of one process: its sessions, what makes them look again at who they are, and their quiet moments."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from auth.principal import Principal
from auth.resolver import is_bookkeeping
from auth.standard import STANDARD
from realtime.session import Live, LiveSession
from realtime.view import redefines
from stores.errors import HistoryGone, NotFound
from stores.records import Change, now_ms

log = logging.getLogger(__name__)

ATTENDED_AT_ONCE: Final = 1_000
"""Sessions that are looked at before others have their turn."""


class LiveHub:
    """Holds the open sessions. `position_every`: seconds after which clients are told how far they have seen."""

    def __init__(self, live: Live, position_every: float) -> None:
        self.live = live
        self.sessions: set[LiveSession] = set()
        self._by_user: dict[str, set[LiveSession]] = defaultdict(set)
        self._by_credential: dict[str, set[LiveSession]] = defaultdict(set)
        self._position_every = position_every
        self._tasks: set[asyncio.Task[None]] = set()
        live.fanout.overheard.append(self._overhear)

    def open(self, session: LiveSession) -> None:
        self.sessions.add(session)
        self._enter(session)
        session.became = self._became

    def close(self, session: LiveSession) -> None:
        session.close()
        self.sessions.discard(session)
        self._leave(session, session.principal)

    async def run(self) -> None:
        """Until cancelled: end what has expired, and tell quiet clients their position."""
        told = 0.0
        while True:
            await asyncio.sleep(1)
            told += 1
            is_due = told >= self._position_every
            for number, session in enumerate(list(self.sessions), 1):
                try:
                    self._attend(session, is_due)
                except Exception:
                    log.exception("a session could not be attended to")
                if not number % ATTENDED_AT_ONCE:
                    await asyncio.sleep(0)
            if is_due:
                told = 0.0
                self.live.fanout.replays.rest()

    def _attend(self, session: LiveSession, is_due: bool) -> None:
        if session.principal.expires <= now_ms():
            session.outlet.close("expired")
        elif is_due:
            session.say_position()

    def start_afresh(self) -> None:
        """The feed has lost its thread: no subscription can go on without a gap, so each is told to begin anew."""
        for session in list(self.sessions):
            for subscription in session.subscriptions:
                session.subscriptions.end(subscription, HistoryGone("changes were missed"))

    # What the feed says of those who listen to it, heard before the change itself goes out.

    def _overhear(self, change: Change) -> None:
        if change.op == "lost":
            self._lost(change.store)
        elif change.store == "users":
            self._look_again(self._by_user.get(change.id, ()))
        elif change.store in ("tokens", "sessions"):
            if change.op != "insert" and change.id in self._by_credential and not is_bookkeeping(change):
                self._look_again(self._by_credential[change.id])
        elif change.store == "roles":
            self._look_again(s for s in self.sessions if change.id in s.principal.roles)
        elif change.store == "stores":
            self._redefined(change)

    def _lost(self, store: str) -> None:
        """Not all changes of a store are known. Of an administrative one any session may depend."""
        if store in STANDARD:
            self.start_afresh()
            self._look_again(self.sessions)
            return
        for session in list(self.sessions):
            for subscription in [s for s in session.subscriptions if s.store == store]:
                session.subscriptions.end(subscription, HistoryGone("changes were missed"))

    def _look_again(self, sessions: Iterable[LiveSession]) -> None:
        for session in list(sessions):
            session.suspend()
            self._start(session.refresh())

    def _redefined(self, change: Change) -> None:
        """A store that shows other fields than before: whoever watches it has to begin anew."""
        if not redefines(change):
            return
        name = (change.before or {}).get("name")
        error = HistoryGone("the store was redefined") if change.op == "update" else NotFound(f"no store {name}")
        for session in list(self.sessions):
            for subscription in [s for s in session.subscriptions if s.store == name]:
                session.subscriptions.end(subscription, error)

    def _enter(self, session: LiveSession) -> None:
        self._by_user[session.principal.user_id].add(session)
        self._by_credential[session.principal.credential_id].add(session)

    def _became(self, session: LiveSession, before: Principal) -> None:
        self._leave(session, before)
        self._enter(session)

    def _leave(self, session: LiveSession, principal: Principal) -> None:
        for index, key in ((self._by_user, principal.user_id), (self._by_credential, principal.credential_id)):
            same = index.get(key)
            if same is not None:
                same.discard(session)
                if not same:
                    del index[key]

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
