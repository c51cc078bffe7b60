"""A client that leaves while the hub works for it: the work ends, and nothing of the client stays."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from auth.view import View
from realtime import missed_delivery
from realtime.channels import topic_of
from realtime.fanout import Fanout
from realtime.subscription import Subscription
from realtime.subscriptions import Subscriptions
from stores.protocol import Batch, Engine
from stores.query import EVERYTHING, WHOLE
from stores.read_turns import READER
from stores.schema import StoreDefinition
from tests.support.ear import Ear
from tests.support.entities import STORE, insert_one

VIEW = View(StoreDefinition(STORE), EVERYTHING, frozenset(), frozenset(), "d")
MISSED = 20
TOPIC = topic_of(STORE, EVERYTHING, WHOLE)


@dataclass
class Leaving(Ear):
    """The sink of a client that leaves at its third event."""

    def offer(self, frame: bytes, text: str) -> bool:
        self.send(text)
        self.closed = len(self.said) == 3
        return True


async def behind(engine: Engine) -> tuple[Fanout, Subscription]:
    """Return a subscription of a client that has missed MISSED changes, and its fan-out."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    for number in range(MISSED):
        await insert_one(engine, n=number)
    fanout = Fanout(engine, recent=1)  # nothing is kept for a second reader
    fanout.start(await engine.feed.position())
    client = Subscriptions(fanout, lambda error: {"error": repr(error)}, Leaving())
    subscription = Subscription(client, TOPIC, VIEW, EVERYTHING, WHOLE, position=begun)
    client.add(subscription, None)
    return fanout, subscription


@pytest.mark.parametrize("way", ["resume", "recover"])
async def test_a_client_that_leaves_gets_no_further_missed_changes(
    engine: Engine, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may have missed a million of them. What it missed is neither read nor encoded for nobody."""
    monkeypatch.setattr(missed_delivery, "PIECE_CHANGES", 1)
    fanout, subscription = await behind(engine)
    client = subscription.owner
    if way == "resume":
        await client.join(subscription)
    else:
        await client._recover()
    assert isinstance(client.sink, Leaving)
    assert len(client.sink.changes()) == 3
    assert (subscription.channel, len(fanout.channels)) == (None, 0)


async def test_a_client_that_recovers_reads_for_its_user(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the feed itself would wait behind the reads of clients that have fallen behind."""
    _, subscription = await behind(engine)
    subscription.user = "ada"
    read, readers = engine.feed.read, set[str]()

    async def recorded(position: str, limit: int, *, whole: bool) -> Batch:
        readers.add(READER.get())
        return await read(position, limit, whole=whole)

    monkeypatch.setattr(engine.feed, "read", recorded)
    recovering = asyncio.create_task(subscription.owner._recover())
    await recovering
    assert readers == {"ada"}


async def test_the_names_of_a_subscription_that_has_ended_count_once(engine: Engine) -> None:
    """It may end while another name for it is being added. Releasing that name then counts nothing."""
    _, subscription = await behind(engine)
    client = subscription.owner
    client.add(subscription, "another")
    assert client.count == 2
    client.drop(subscription)
    client.release(subscription, "another")
    assert (client.count, client.by_name, client.by_topic) == (0, {}, {})


async def test_a_client_that_leaves_gives_up_its_turn_to_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of missed changes take turns: a client that has gone must not delay those behind it."""
    fanout, subscription = await behind(engine)
    reads: list[str] = []
    read, is_reading, may_read = engine.feed.read, asyncio.Event(), asyncio.Event()

    async def slow(position: str, limit: int, *, whole: bool) -> Batch:
        reads.append(position)
        is_reading.set()
        await may_read.wait()
        return await read(position, limit, whole=whole)

    monkeypatch.setattr(engine.feed, "read", slow)
    first = asyncio.create_task(fanout.missed.read_after(subscription.position))
    joining = asyncio.create_task(subscription.owner.join(subscription))
    await is_reading.wait()
    assert isinstance(subscription.owner.sink, Leaving)
    subscription.owner.sink.closed = True
    may_read.set()
    assert len((await first).changes) == MISSED
    await joining
    assert len(reads) == 1
