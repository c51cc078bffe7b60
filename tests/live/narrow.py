"""A client that often has no room, and a view and filters for its subscriptions, for tests of fan-out."""

from __future__ import annotations

import asyncio
import random

import orjson

from auth.view import View
from realtime.subscription import Subscription
from realtime.subscriptions import Subscriptions
from stores.query import EVERYTHING, Equal, Filter
from stores.schema import StoreDefinition
from tests.support.entities import STORE


class Narrow:
    """A sink that often has no room, like that of a slow client."""

    def __init__(self, rng: random.Random) -> None:
        self.events: list[tuple[str, int]] = []
        self.rng = rng

    def offer(self, frame: bytes, text: str) -> bool:
        if self.rng.random() < 0.1:
            return False
        payload = orjson.loads(text[2:])[1]
        self.events.append((payload["channel"], payload["entity"]["n"]))
        return True

    def send(self, text: str) -> None:
        raise AssertionError(text)

    def make_room(self, size: int) -> None: ...

    has_room = True
    closed = False

    async def drained(self) -> None:
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)

    async def taken(self) -> None: ...

    def close(self, kind: str) -> None: ...


async def rejoin(client: Subscriptions, subscription: Subscription) -> None:
    """Let a subscription leave its channel, and catch up."""
    async with client.turn:
        client.mute(subscription)
        await asyncio.sleep(0)
        await client.join(subscription)


VIEW = View(StoreDefinition(STORE), EVERYTHING, frozenset(), frozenset(), "d")
FILTERS: list[Filter] = [EVERYTHING, Equal(("marks",), "even")]
