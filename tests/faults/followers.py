"""Live clients that follow a store during a fault. After a disconnection they resume from their last position. What
they show is whole whenever a commit has arrived."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.faults.shown import Shown
from tests.faults.writers import PAUSE
from tests.support.hub import Client
from tests.support.live import Declined, Ended, Event, LiveClient, Refused, Watch, live

LONG = 600.0
"""Seconds, effectively no limit: hangs are found by the test's own time limit."""

LAST = "last"
"""The tag of the last write: a follower that has received it has received everything."""

CUT_OFF = (OSError, Ended, Refused, ConnectionClosed, InvalidHandshake)


async def wait_out(declined: Declined) -> None:
    """Wait for a moment if the database was unavailable: MongoDB may still elect a primary after an earlier fault."""
    if declined.answer["error"]["code"] != "503":
        raise declined
    await asyncio.sleep(PAUSE)


class Follower:
    """Follows one view from beginning to end, over any number of connections. `restless`: it disconnects by itself
    after about so many events. If the view ends because the store was redefined, it begins anew."""

    def __init__(self, client: Client, store: str, *, restless: int = 0, **request: Any) -> None:
        self.client = client
        self.store = store
        self.request = request
        self.restless = restless
        self.watches: list[Watch] = []
        self.connection: LiveClient | None = None
        self.shown = Shown({})
        self.start = ""
        self.began = asyncio.Event()
        self._taken = 0

    @property
    def watch(self) -> Watch:
        return self.watches[-1]

    @property
    def events(self) -> list[Event]:
        return [event for watch in self.watches for event in watch.events]

    def told(self) -> tuple[list[Event], str]:
        """Return the events since the follower has last begun anew, and the position at which it did."""
        first = max((number for number, watch in enumerate(self.watches) if watch.resync), default=0)
        return [event for watch in self.watches[first:] for event in watch.events], self.watches[first].began

    @property
    def resyncs(self) -> int:
        return sum(watch.resync for watch in self.watches)

    async def run(self) -> None:
        """Follow until the last write is in the view."""
        while not self._finished():
            try:
                async with live(self.client.url, self.client) as connection:
                    await self._follow(connection)
            except CUT_OFF:
                await asyncio.sleep(PAUSE)
            except Declined as declined:
                await wait_out(declined)

    async def _follow(self, connection: LiveClient) -> None:
        self.connection = connection
        if self.watches:
            self.show()  # what arrived while the former connection ended
            former = self.watch
            self._begin(await connection.resume(former, snapshot="auto"))
            assert self.watch.resync or former.ended is None, f"{former.ended}, but it goes on"
            former.view, former.first = {}, {}  # hundreds of views take much memory
        else:
            self._begin(await self._watch(connection))
        enough = random.randint(1, 2 * self.restless) if self.restless else None
        await connection.until(lambda: self._has_enough(enough), LONG)
        assert self.watch.ended is None or self.watch.ended["code"] == "410", self.watch.ended
        connection.abort()

    def _begin(self, watch: Watch) -> None:
        if watch.resync or not self.watches:
            self.shown = Shown(watch.first)
        self.watches.append(watch)
        self._taken = 0

    def show(self) -> None:
        """Show what has arrived. Raises AssertionError if a commit is not whole."""
        for event in self.watch.events[self._taken :]:
            self.shown.take(event)
        self._taken = len(self.watch.events)

    def _has_enough(self, events: int | None) -> bool:
        self.show()
        return self._finished() or self.watch.ended is not None or len(self.watch.events) == events

    async def _watch(self, connection: LiveClient) -> Watch:
        """Subscribe for the first time, before any writer has started."""
        watch = await connection.watch(self.store, **self.request)
        self.start = watch.position
        self.began.set()
        return watch

    def _finished(self) -> bool:
        if not self.watches:
            return False
        events = self.watch.events
        if events:
            return bool(events[-1].get("entity", {}).get("tag") == LAST)
        return any(entity["tag"] == LAST for entity in self.watch.view.values())


class Sleeper(Follower):
    """Subscribes at the beginning, disconnects, and resumes when everything is over."""

    async def fall_asleep(self) -> None:
        while not self.watches:
            try:
                async with live(self.client.url, self.client) as connection:
                    self._begin(await self._watch(connection))
                    connection.abort()
            except Declined as declined:
                await wait_out(declined)
