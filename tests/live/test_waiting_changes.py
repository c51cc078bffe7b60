"""Missed changes wait for clients without room up to a bound; beyond it they are read again."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from realtime import missed_delivery, waiting_changes
from realtime.channels import topic_of
from realtime.fanout import Fanout
from realtime.subscription import Subscription
from realtime.subscriptions import Subscriptions
from stores.protocol import Batch, Engine
from stores.query import EVERYTHING, WHOLE
from stores.schema import StoreDefinition
from tests.live.narrow import VIEW
from tests.support.entities import STORE, entity, insert

MISSED = 5


class Filling:
    """A sink that is full after each event."""

    closed = False
    has_room = True

    def __init__(self) -> None:
        self.told: list[int] = []

    def offer(self, frame: bytes, text: str) -> bool:
        self.told.append(orjson.loads(text[2:])[1]["entity"]["n"])
        self.has_room = False
        return True

    async def drained(self) -> None:
        await asyncio.sleep(0)
        self.has_room = True


@pytest.mark.parametrize(("most", "reads"), [(waiting_changes.MOST_MISSED_BYTES, 1), (0, MISSED)])
async def test_missed_changes_wait_or_are_read_again(
    engine: Engine, most: int, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_changes, "MOST_MISSED_BYTES", most)
    monkeypatch.setattr(missed_delivery, "PIECE_CHANGES", 1)
    await engine.define(StoreDefinition(STORE))
    fanout = Fanout(engine)
    fanout.start(await engine.feed.position())
    begun = fanout.position
    await insert(engine, *(entity(n=n) for n in range(MISSED)))
    fanout.start(await engine.feed.position())
    read, count = fanout.missed.read_after, 0

    async def counted(*args: Any) -> Batch:
        nonlocal count
        batch = await read(*args)
        count += bool(batch.changes)
        return batch

    monkeypatch.setattr(fanout.missed, "read_after", counted)
    sink = Filling()
    client = Subscriptions(fanout, lambda error: {"error": repr(error)}, sink)  # type: ignore[arg-type]
    topic = topic_of(STORE, EVERYTHING, WHOLE)
    subscription = Subscription(client, topic, VIEW, EVERYTHING, WHOLE, position=begun)
    client.add(subscription, None)
    await client.join(subscription)
    assert sink.told == [*range(MISSED)]
    assert count == reads
