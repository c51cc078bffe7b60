"""Fan-out and who joins while it lags a little behind the database."""

from __future__ import annotations

import asyncio

from realtime.channels import ChannelKey
from realtime.engineio import build_text_frame
from realtime.fanout import Fanout, topic_of
from realtime.replays import Replays
from stores.protocol import Engine
from stores.query import EVERYTHING, WHOLE, Equal
from stores.records import Change
from stores.schema import StoreDefinition
from tests.support.entities import STORE, insert_one
from tests.support.reading import changes_since


class Listener:
    """A subscription that writes down what it is told."""

    def __init__(self, floor: bytes) -> None:
        self.floor = floor
        self.told: list[str] = []

    def tell(self, frame: bytes, text: str) -> None:
        self.told.append(text)


async def test_a_snapshot_that_is_ahead_is_told_nothing_twice(engine: Engine) -> None:
    """Its list has what fan-out is yet to hand out: of the three changes only those behind its position are told."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine)
    fanout.start(begun)
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    topic = topic_of(STORE, EVERYTHING, WHOLE)
    listeners = [Listener(engine.feed.order(position)) for position in (begun, *(c.position for c in changes))]
    for listener in listeners:
        fanout.join(ChannelKey(STORE, repr(EVERYTHING), WHOLE, ""), EVERYTHING, topic, listener)
    fanout.advance(changes, changes[-1].position)
    assert [len(listener.told) for listener in listeners] == [3, 2, 1, 0]
    assert listeners[1].told == listeners[0].told[1:]
    assert fanout.deliveries == 6


async def test_what_one_reads_to_catch_up_is_there_for_the_next(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    fanout = Fanout(engine)
    fanout.start(changes[-1].position)
    order = engine.feed.order(begun)
    assert fanout.recent_after(order) is None
    read, again = await asyncio.gather(fanout.read_after(begun), fanout.read_after(begun))
    assert [c.position for c in read.changes] == [c.position for c in changes]
    assert all(a is b for a, b in zip(read.changes, again.changes, strict=True))  # not read twice
    assert fanout.recent_after(order) == read.changes
    assert fanout.recent_after(engine.feed.order(changes[0].position)) == read.changes[1:]


async def test_what_is_read_is_kept_within_the_bound_only(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    fanout = Fanout(engine, recent=2)
    fanout.start(changes[-1].position)
    assert len((await fanout.read_after(begun)).changes) == 3
    assert fanout.recent_after(engine.feed.order(begun)) is None
    assert len((await fanout.read_after(changes[0].position)).changes) == 2
    assert len(fanout.recent_after(engine.feed.order(changes[0].position)) or ()) == 2


async def test_a_position_that_is_not_reached_is_not_taken_for_one_in_memory(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE))
    fanout = Fanout(engine)
    fanout.start(await engine.feed.position())
    later = await insert_one_and_position(engine)
    batch = await fanout.read_after(later)
    assert (batch.changes, engine.feed.order(batch.position) >= engine.feed.order(later)) == ([], True)


async def insert_one_and_position(engine: Engine) -> str:
    begun = await engine.feed.position()
    await insert_one(engine, n=1)
    return (await changes_since(engine.feed, begun))[-1].position


def test_events_made_for_a_replay_are_kept_within_the_bound() -> None:
    change = Change("p.1", "insert", STORE, "a", None, '{"_id":"a","n":1}', None, 0)
    key = ChannelKey(STORE, repr(EVERYTHING), WHOLE, "digest")
    replays = Replays(100_000)
    told = replays.of(key, EVERYTHING, "topic").told(change)
    assert told is not None
    assert told[0] == build_text_frame(told[1])
    assert replays.of(key, EVERYTHING, "topic").told(change) is told
    replays.rest()
    assert replays.of(key, EVERYTHING, "topic").told(change) is told  # asked for since the last rest
    replays.rest()
    replays.rest()
    assert replays.of(key, EVERYTHING, "topic").told(change) is not told
    tight = Replays(100)
    assert tight.of(key, EVERYTHING, "topic").told(change) == told
    assert tight.of(key, EVERYTHING, "topic").told(change) is not told


def test_one_replay_tells_by_its_own_sight_only() -> None:
    """Another digest, another event: the position in it belongs to one sight."""
    change = Change("p.1", "insert", STORE, "a", None, '{"_id":"a","n":1}', None, 0)
    replays = Replays(100_000)
    texts = {
        told[1]
        for digest in ("one", "two")
        if (told := replays.of(ChannelKey(STORE, "", WHOLE, digest), EVERYTHING, "topic").told(change))
    }
    assert len(texts) == 2
    hidden = replays.of(ChannelKey(STORE, "n=2", WHOLE, "one"), Equal(("n",), 2), "topic")
    assert hidden.told(change) is None
