"""Fan-out, and subscriptions that join while it lags a little behind the database."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable

import pytest

from realtime import change_view as view_module
from realtime import fanout as fanout_module
from realtime.channels import ChannelKey, topic_of
from realtime.engineio import build_text_frame
from realtime.fanout import Fanout
from realtime.replays import Replays
from realtime.subscription import Subscription
from realtime.subscriptions import Subscriptions
from stores.canonical import filter_text
from stores.errors import StoreError
from stores.parse import parse_filter
from stores.protocol import Batch, Engine
from stores.query import EVERYTHING, WHOLE, Equal, Filter
from stores.read_turns import READER
from stores.records import Change
from stores.schema import StoreDefinition
from tests.live.narrow import FILTERS, VIEW, Narrow, rejoin
from tests.support.entities import STORE, insert_one
from tests.support.reading import changes_since


class Listener:
    """A subscription that records its deliveries."""

    user = ""

    def __init__(self, delivered_up_to: bytes) -> None:
        self.delivered_up_to = delivered_up_to
        self.delivered: list[str] = []

    def deliver(self, frame: bytes, text: str) -> bool:
        self.delivered.append(text)
        return True

    def reached(self, position: str, order: bytes) -> None:
        self.delivered_up_to = order

    def fall_behind(self) -> None:
        raise AssertionError("it has room")

    def fail(self, error: StoreError) -> None:
        raise AssertionError("it does not fail")


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_goes_between_slices_is_told_each_change_once(
    engine: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscriptions leave, return, fall behind and begin while a change is delivered to half of them or evaluated in a
    thread."""
    rng = random.Random(seed)
    monkeypatch.setattr(fanout_module, "SLICE", rng.randrange(1, 12))
    monkeypatch.setattr(view_module, "AT_LOOP", rng.choice((0, 1_000)))
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine, recent=rng.choice((3, 1_000)))
    fanout.start(begun)
    clients = [Subscriptions(fanout, lambda error: {"error": repr(error)}, Narrow(rng)) for _ in range(8)]
    starts: dict[Subscription, int] = {}

    async def begin(client: Subscriptions, where: Filter, after: int, position: str) -> None:
        topic = topic_of(STORE, where, WHOLE)
        async with client.turn:
            if topic not in client.by_topic:
                made = Subscription(client, topic, VIEW, where, WHOLE, position=position)
                client.add(made, None)
                starts[made] = after
                await client.join(made)

    for client in clients:
        for where in FILTERS:
            await begin(client, where, -1, begun)
    numbers = range(12)
    for number in numbers:
        await insert_one(engine, n=number, marks=["odd" if number % 2 else "even"])
    changes = await changes_since(engine.feed, begun)

    async def disturb() -> None:
        while fanout.order < fanout.order_of(changes[-1].position):
            client = rng.choice(clients)
            some = [s for s in client.by_topic.values() if s.channel is not None]
            if some and rng.random() < 0.5:
                await rejoin(client, rng.choice(some))
            elif some and rng.random() < 0.3:
                at = rng.randrange(len(changes))
                subscription = rng.choice(some)
                client.drop(subscription)
                assert isinstance(client.sink, Narrow)
                client.sink.events = [e for e in client.sink.events if e[0] != subscription.topic]
                await begin(client, subscription.where, at, changes[at].position)
            await asyncio.sleep(0)

    disturbing = [asyncio.create_task(disturb()) for _ in range(3)]
    split = rng.randrange(1, len(changes))
    for part in (changes[:split], changes[split:]):
        await fanout.advance(part, part[-1].position)
    await asyncio.gather(*disturbing)
    for client in clients:
        while any(s.channel is None for s in client.by_topic.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert isinstance(client.sink, Narrow)
        assert len(client.by_topic) == len(FILTERS)
        for subscription in client.by_topic.values():
            told = [n for topic, n in client.sink.events if topic == subscription.topic]
            wanted = [n for n in numbers if subscription.where != FILTERS[-1] or n % 2 == 0]
            assert told == [n for n in wanted if n > starts[subscription]], (subscription.where, starts[subscription])


async def test_a_filter_that_takes_long_leaves_turns_to_others(engine: Engine) -> None:
    """This holds for live delivery and for a subscription that catches up."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine)
    fanout.start(begun)
    where = parse_filter({"a": {"$elemMatch": {"$or": [{f"x{n}": 1} for n in range(20)]}}})
    topic = topic_of(STORE, where, WHOLE)
    await insert_one(engine, n=1, a=[*[{}] * 15_000, {"x19": 1}])
    changes = await changes_since(engine.feed, begun)
    listener = Listener(engine.feed.order(begun))
    fanout.join(ChannelKey(STORE, filter_text(where), WHOLE, ""), where, topic, listener)
    assert await turns_of_others(fanout.advance(changes, changes[-1].position)) > 10
    assert len(listener.delivered) == 1
    narrow = Narrow(random.Random(0))
    client = Subscriptions(fanout, lambda error: {"error": repr(error)}, narrow)
    subscription = Subscription(client, topic, VIEW, where, WHOLE, position=begun)
    client.add(subscription, None)
    assert await turns_of_others(client.join(subscription)) > 10
    assert narrow.events == [(topic, 1)]


async def turns_of_others(work: Awaitable[None]) -> int:
    """Return the number of turns of the loop that other tasks get during the work."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as in a hub
    try:
        done = asyncio.ensure_future(work)
        turns = 0
        while not done.done():
            await asyncio.sleep(0)
            turns += 1
    finally:
        sys.setswitchinterval(interval)
    await done
    return turns


async def fanout_behind(engine: Engine, count: int) -> tuple[Fanout, str, list[Change]]:
    """Create `count` entities. Return a fan-out that has delivered none of them, its position, and their changes."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    fanout = Fanout(engine)
    fanout.start(begun)
    for number in range(count):
        await insert_one(engine, n=number)
    return fanout, begun, await changes_since(engine.feed, begun)


async def test_whoever_waits_for_the_end_of_a_change_is_served_between_two(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that resumes or fell behind joins between two changes, also if every change pauses only within."""
    monkeypatch.setattr(fanout_module, "SLICE", 4)
    monkeypatch.setattr(fanout_module, "TURN", 60)
    fanout, begun, changes = await fanout_behind(engine, 20)
    topic = topic_of(STORE, EVERYTHING, WHOLE)
    for _ in range(5):
        listener = Listener(engine.feed.order(begun))
        fanout.join(ChannelKey(STORE, filter_text(EVERYTHING), WHOLE, ""), EVERYTHING, topic, listener)
    advancing = asyncio.create_task(fanout.advance(changes, changes[-1].position))
    await asyncio.sleep(0)
    assert fanout.is_delivering
    await fanout.delivered()
    assert fanout.position in [change.position for change in changes[:2]]
    await advancing


async def test_subscriptions_join_again_while_changes_go_on(engine: Engine) -> None:
    """Many subscriptions of a client have fallen behind, and there are changes while it looks after each of them."""
    fanout, begun, changes = await fanout_behind(engine, 600)
    client = Subscriptions(fanout, lambda error: {"error": repr(error)}, Narrow(random.Random(0)))
    for number in range(100):
        where = Equal(("n",), -number)
        made = Subscription(client, topic_of(STORE, where, WHOLE), VIEW, where, WHOLE, position=begun)
        client.add(made, None)
        await client.join(made)
    subscriptions = list(client)
    for subscription in subscriptions:
        subscription.fall_behind()
    joined = 0
    for change in changes:
        await fanout.advance([change], change.position)
        for _ in range(10):
            await asyncio.sleep(0)
        joined = max(joined, sum(each.channel is not None for each in subscriptions))
    assert joined > len(subscriptions) // 10, "it was 0; how many depends on the time that the machine takes for each"


async def test_missed_changes_end_where_fanout_is(engine: Engine) -> None:
    """A later change may follow one that ends the right to see it, of which the session has yet to hear."""
    fanout, begun, changes = await fanout_behind(engine, 3)
    await fanout.advance(changes[:1], changes[0].position)
    fanout.start(changes[1].position)  # what came before is no longer in memory
    batch = await fanout.missed.read_after(begun)
    assert [change.position for change in batch.changes] == [change.position for change in changes[:2]]
    assert (batch.position, batch.more) == (changes[1].position, True)


async def test_a_snapshot_that_is_ahead_is_told_nothing_twice(engine: Engine) -> None:
    """Its snapshot contains changes that fan-out has yet to deliver: of the three changes only those after its position
    are delivered."""
    fanout, begun, changes = await fanout_behind(engine, 3)
    topic = topic_of(STORE, EVERYTHING, WHOLE)
    listeners = [Listener(engine.feed.order(position)) for position in (begun, *(c.position for c in changes))]
    for listener in listeners:
        fanout.join(ChannelKey(STORE, filter_text(EVERYTHING), WHOLE, ""), EVERYTHING, topic, listener)
    await fanout.advance(changes, changes[-1].position)
    assert [len(listener.delivered) for listener in listeners] == [3, 2, 1, 0]
    assert listeners[1].delivered == listeners[0].delivered[1:]
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
    assert fanout.missed.kept_after(order) is None
    read, again = await asyncio.gather(fanout.missed.read_after(begun), fanout.missed.read_after(begun))
    assert [c.position for c in read.changes] == [c.position for c in changes]
    assert all(a is b for a, b in zip(read.changes, again.changes, strict=True))  # not read twice
    assert fanout.missed.kept_after(order) == read.changes
    assert fanout.missed.kept_after(engine.feed.order(changes[0].position)) == read.changes[1:]


async def test_reads_of_missed_changes_take_turns_by_user(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who resumes again and again delays one read of another user, not all. What is in memory waits for
    nobody."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    fanout = Fanout(engine, recent=1)
    fanout.start(changes[1].position)
    await fanout.advance(changes, changes[2].position)
    read, may_read, readers = engine.feed.read, asyncio.Event(), list[str]()

    async def slow(position: str, limit: int, *, whole: bool) -> Batch:
        readers.append(READER.get())
        await may_read.wait()
        return await read(position, limit, whole=whole)

    async def resume(user: str) -> None:
        READER.set(user)
        await fanout.missed.read_after(begun)

    monkeypatch.setattr(engine.feed, "read", slow)
    resuming = [asyncio.create_task(resume(user)) for user in ("greedy", "greedy", "greedy", "other")]
    await asyncio.sleep(0)
    assert [change.id for change in (await fanout.missed.read_after(changes[1].position)).changes] == [changes[2].id]
    may_read.set()
    await asyncio.gather(*resuming)
    assert readers == ["greedy", "greedy", "other", "greedy"]


async def test_what_is_read_is_kept_within_the_bound_only(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    for number in range(3):
        await insert_one(engine, n=number)
    changes = await changes_since(engine.feed, begun)
    fanout = Fanout(engine, recent=2)
    fanout.start(changes[-1].position)
    assert len((await fanout.missed.read_after(begun)).changes) == 3
    assert fanout.missed.kept_after(engine.feed.order(begun)) is None
    assert len((await fanout.missed.read_after(changes[0].position)).changes) == 2
    assert len(fanout.missed.kept_after(engine.feed.order(changes[0].position)) or ()) == 2


async def test_a_position_that_is_not_reached_is_not_taken_for_one_in_memory(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE))
    fanout = Fanout(engine)
    fanout.start(await engine.feed.position())
    later = await insert_one_and_position(engine)
    batch = await fanout.missed.read_after(later)
    assert (batch.changes, engine.feed.order(batch.position) >= engine.feed.order(later)) == ([], True)


async def insert_one_and_position(engine: Engine) -> str:
    begun = await engine.feed.position()
    await insert_one(engine, n=1)
    return (await changes_since(engine.feed, begun))[-1].position


def test_events_made_for_a_replay_are_kept_within_the_bound() -> None:
    change = Change("p.1", "insert", STORE, "a", None, '{"_id":"a","n":1}', None, 0)
    key = ChannelKey(STORE, filter_text(EVERYTHING), WHOLE, "digest")
    replays = Replays(100_000)
    event = replays.of(key, EVERYTHING, "topic").event(change)
    assert event is not None
    assert event[0] == build_text_frame(event[1])
    assert replays.of(key, EVERYTHING, "topic").event(change) is event
    replays.drop_cached()
    assert replays.of(key, EVERYTHING, "topic").event(change) is event  # asked for since the last rest
    replays.drop_cached()
    replays.drop_cached()
    assert replays.of(key, EVERYTHING, "topic").event(change) is not event
    tight = Replays(100)
    assert tight.of(key, EVERYTHING, "topic").event(change) == event
    assert tight.of(key, EVERYTHING, "topic").event(change) is not event


def test_one_replay_tells_by_its_own_view_only() -> None:
    """Views with different digests have different events, because the position in an event belongs to one view."""
    change = Change("p.1", "insert", STORE, "a", None, '{"_id":"a","n":1}', None, 0)
    replays = Replays(100_000)
    texts = {
        event[1]
        for digest in ("one", "two")
        if (event := replays.of(ChannelKey(STORE, "", WHOLE, digest), EVERYTHING, "topic").event(change))
    }
    assert len(texts) == 2
    hidden = replays.of(ChannelKey(STORE, "n=2", WHOLE, "one"), Equal(("n",), 2), "topic")
    assert hidden.event(change) is None
