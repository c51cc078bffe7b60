"""Events for subscriptions that catch up, cached for a short time.

After a restart all clients reconnect at once, and most of them have the same views.
"""

from __future__ import annotations

from sys import getsizeof

from realtime.channels import ChannelKey
from realtime.engineio import build_text_frame
from realtime.events import ChangeEncoder
from realtime.view import ChangeView, ViewChange
from stores.query import Filter
from stores.records import Change

EncodedEvent = tuple[bytes, str]
"""An event's packet, as a WebSocket frame and as text."""

RECORD = 200
"""Approximate bytes of a cache entry in addition to its packet."""


class Replay:
    """Makes the events for the subscribers of one channel, each event once."""

    __slots__ = ("_digest", "_encoder", "_keeper", "_made", "_view")

    def __init__(self, keeper: Replays, key: ChannelKey, where: Filter, topic: str) -> None:
        self._keeper = keeper
        self._view = ChangeView(key.store, where, key.projection)
        self._encoder = ChangeEncoder(topic)
        self._digest = key.digest
        self._made: dict[str, EncodedEvent | None] = {}

    def event(self, change: Change) -> EncodedEvent | None:
        """Return the event for a change; None if the change shows nothing in this view.

        Raises TakesLong if the filter takes too long for the event loop. Then `event_off_loop` returns the event.
        """
        try:
            return self._made[change.position]
        except KeyError:
            return self._keep(change, self._view.at_once(change))

    async def event_off_loop(self, change: Change) -> EncodedEvent | None:
        """Return the same, computed in a thread. Raises FilterTooCostly."""
        return self._keep(change, await self._view.off_loop(change))

    def _keep(self, change: Change, event: ViewChange | None) -> EncodedEvent | None:
        made: EncodedEvent | None = None
        if event is not None:
            text = self._encoder.text(event, self._digest)
            made = build_text_frame(text), text
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
