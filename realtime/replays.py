"""Events for subscriptions that catch up, cached for a short time.

After a restart all clients reconnect at once, and most of them have the same views.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from sys import getsizeof
from typing import Final

from realtime.change_view import ChangeView, ViewChange
from realtime.channels import ChannelKey
from realtime.engineio import build_text_frame
from realtime.events import ChangeEncoder
from stores.query import Filter
from stores.records import Change
from stores.steps import TakesLong
from stores.threads import in_thread

EncodedEvent = tuple[bytes, str]
"""An event's packet, as a WebSocket frame and as text."""

Later = Callable[[], Sequence[Change]]

LOOKING_AHEAD: Final = 0.002
"""Seconds for which the last change of a commit that a view shows is looked for on the event loop."""

RECORD = 200
"""Approximate bytes of a cache entry in addition to its packet."""


class Replay:
    """Makes the events for the subscribers of one channel, each event once."""

    __slots__ = ("_digest", "_encoder", "_keeper", "_lasts", "_made", "_view")

    def __init__(self, keeper: Replays, key: ChannelKey, where: Filter, topic: str) -> None:
        self._keeper = keeper
        self._view = ChangeView(key.store, where, key.projection)
        self._encoder = ChangeEncoder(topic)
        self._digest = key.digest
        self._made: dict[str, EncodedEvent | None] = {}
        self._lasts: dict[str, str] = {}
        """Commit → position of the last change of it that the view shows."""

    def event(self, change: Change, later: Later = tuple) -> EncodedEvent | None:
        """Return the event for a change; None if the change shows nothing in this view. `later` returns the changes of
        its commit that follow.

        Raises TakesLong if the filter takes too long for the event loop. Then `event_off_loop` returns the event.
        """
        try:
            return self._made[change.position]
        except KeyError:
            event = self._view.at_once(change)
            if event is not None and self._lacks_last(change):
                self._find_last_at_once(change, later())
            return self._keep(change, event)

    async def event_off_loop(self, change: Change, later: Later = tuple) -> EncodedEvent | None:
        """Return the event for a change, computed in a thread. Raises FilterTooCostly."""
        event = await self._view.off_loop(change)
        if event is not None and self._lacks_last(change):
            await self._find_last(change, later())
        return self._keep(change, event)

    def _lacks_last(self, change: Change) -> bool:
        return change.commit is not None and change.commit not in self._lasts

    def _find_last_at_once(self, change: Change, later: Sequence[Change]) -> None:
        """Find the last change of the commit of `change`, which the view shows. Raises TakesLong."""
        ends = time.perf_counter() + LOOKING_AHEAD
        for each in reversed(later):
            if time.perf_counter() > ends:
                raise TakesLong
            if self._view.at_once(each) is not None:
                self._note_last(each, later)
                return
        self._note_last(change, later)

    async def _find_last(self, change: Change, later: Sequence[Change]) -> None:
        last, index = None, len(later)
        while last is None and index:
            last, index = await in_thread(self._view.last_before, later, index)
        self._note_last(last or change, later)

    def _note_last(self, change: Change, later: Sequence[Change]) -> None:
        if (later[-1] if later else change).ends_commit:
            self._lasts[change.commit or ""] = change.position
            self._keeper.grown(RECORD)

    def _keep(self, change: Change, event: ViewChange | None) -> EncodedEvent | None:
        made: EncodedEvent | None = None
        if event is not None:
            if change.commit is not None and self._lasts.get(change.commit) == change.position:
                event = replace(event, is_last=True)
            text = self._encoder.text(event, self._digest)
            made = build_text_frame(text), text
        if event is None or not self._lacks_last(change):  # otherwise it may be the last one
            self._made[change.position] = made
        self._keeper.grown(RECORD if made is None else RECORD + len(made[0]) + getsizeof(made[1]))
        return made


class Replays:
    """Cache of up to `most_bytes`. A full cache is emptied."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._used = False
        self._replays: dict[tuple[ChannelKey, str], Replay] = {}

    def of(self, key: ChannelKey, where: Filter, topic: str) -> Replay:
        self._used = True
        found = self._replays.get((key, topic))
        if found is None:
            found = self._replays[key, topic] = Replay(self, key, where, topic)
            self.grown(len(key.where) + RECORD)
        return found

    def grown(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._most_bytes:
            self._clear()

    def drop_cached(self) -> None:
        """Empty the cache if it was not used since the last call. Called from time to time."""
        if not self._used:
            self._clear()
        self._used = False

    def _clear(self) -> None:
        self._replays = {}
        self._bytes = 0
