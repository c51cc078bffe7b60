"""Live events of one commit: they share `commit`, and the last one for a channel says so, also to those who resume."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import orjson
import pytest

from realtime import change_view as view_module
from realtime import fanout as fanout_module
from realtime import missed_changes
from realtime.channels import topic_of
from realtime.fanout import Fanout
from realtime.subscription import Subscription
from realtime.subscriptions import Subscriptions
from stores.commits import is_cut
from stores.protocol import Engine
from stores.query import WHOLE, Filter
from stores.records import Change
from stores.schema import StoreDefinition
from tests.live.conftest import Connect
from tests.live.narrow import FILTERS, VIEW, Narrow, rejoin
from tests.platform.answers import good
from tests.support.entities import STORE, entity, insert
from tests.support.hub import Client
from tests.support.live import Beacon
from tests.support.reading import changes_since

pytestmark = pytest.mark.gate("sqlite", "mongodb")  # engines number the changes of a commit

Event = dict[str, Any]


def commits_of(events: Sequence[Event]) -> list[tuple[list[int], bool]]:
    """Return the numbers of the entities in each commit, and whether its last event, and no other, is marked. Events
    without a commit are one each."""
    found: list[tuple[list[int], bool]] = []
    for commit, group in groupby(events, lambda event: event.get("commit", event["position"])):
        run = list(group)
        marks = [event.get("last", False) for event in run]
        assert not any(marks[:-1]), run
        assert ("commit" in run[0]) is (commit != run[0]["position"])
        found.append(([event["entity"]["n"] for event in run], marks[-1]))
    return found


async def test_events_of_one_commit_say_so(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """A write of one entity has no commit. What a channel does not show does not count for it."""
    client = await connected(user)
    watch, some = await client.watch(store), await client.watch(store, filter={"even": True})
    await user.make_all(store, [{"n": n, "even": n % 2 == 0} for n in range(4)])
    await user.make(store, n=4, even=True)
    await user.make_all(store, [{"n": n, "even": n == 5} for n in range(5, 8)])
    await client.caught_up(beacon)
    assert commits_of(watch.take()) == [([0, 1, 2, 3], True), ([4], False), ([5, 6, 7], True)]
    assert commits_of(some.take()) == [([0, 2], True), ([4], False), ([5], True)]


async def test_other_changes_of_many_entities_are_commits_too(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    client = await connected(user)
    await user.make_all(store, [{"n": n} for n in range(3)])
    watch = await client.watch(store)
    good(await user.patch(f"/{store}?all=true", {"m": 1}))
    good(await user.delete(f"/{store}?all=true"))
    await client.caught_up(beacon)
    events = watch.take()
    assert [event["op"] for event in events] == ["update"] * 3 + ["remove"] * 3
    assert [event.get("last") for event in events] == [None, None, True] * 2
    assert len({event["commit"] for event in events}) == 2
    assert events[-1].keys() == {"channel", "op", "store", "_id", "commit", "last", "position"}


async def test_who_resumes_within_a_commit_learns_of_its_end(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Missed events are the same as those that were delivered at once."""
    client = await connected(user)
    watch = await client.watch(store)
    await user.make_all(store, [{"n": n} for n in range(3)])
    await client.caught_up(beacon)
    events = watch.take()
    assert commits_of(events) == [([0, 1, 2], True)]
    for number, event in enumerate(events):
        another = await connected(user)
        resumed = await another.watch(store, snapshot=False, since=event["position"])
        await another.caught_up(beacon)
        assert resumed.take() == events[number + 1 :]


class Recording(Narrow):
    """The same, and it keeps the events whole."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.payloads: list[Event] = []

    def offer(self, frame: bytes, text: str) -> bool:
        taken = super().offer(frame, text)
        if taken:
            self.payloads.append(orjson.loads(text[2:])[1])
        return taken


class Steady(Recording):
    """The same for a client that always has room."""

    def __init__(self) -> None:
        super().__init__(random.Random(0))

    def offer(self, frame: bytes, text: str) -> bool:
        self.payloads.append(orjson.loads(text[2:])[1])
        return True

    async def drained(self) -> None: ...


@pytest.mark.parametrize("seed", range(12))
async def test_the_last_event_of_each_commit_is_marked_whoever_comes_and_goes(
    engine: Engine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscriptions leave, return, fall behind and begin within a commit."""
    rng = random.Random(seed)
    monkeypatch.setattr(fanout_module, "SLICE", rng.randrange(1, 12))
    monkeypatch.setattr(missed_changes, "READ_AT_ONCE", rng.choice((2, 1_000)))
    monkeypatch.setattr(fanout_module, "TURN", rng.choice((0, 0.01)))
    monkeypatch.setattr(view_module, "AT_LOOP", rng.choice((0, 1_000)))
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    sizes = [rng.choice((1, 2, 3, 5)) for _ in range(5)]
    for start, size in zip((sum(sizes[:i]) for i in range(5)), sizes, strict=True):
        marks = rng.choice((["even", "odd"], ["odd", "odd"], ["even", "even"]))
        await insert(engine, *(entity(n=n, marks=[marks[n % 2]]) for n in range(start, start + size)))
    changes = await changes_since(engine.feed, begun)
    fanout = Fanout(engine, recent=rng.choice((3, 1_000)))
    fanout.start(begun)
    clients = [Subscriptions(fanout, lambda error: {"error": repr(error)}, Recording(rng)) for _ in range(6)]
    starts: dict[Subscription, int] = {}

    async def begin(client: Subscriptions, where: Filter, after: int, position: str) -> None:
        topic = topic_of(STORE, where, WHOLE)
        async with client.turn:
            if topic not in client.by_topic:
                made = Subscription(client, topic, VIEW, where, WHOLE, position=position)
                client.add(made, None)
                starts[made] = after
                await client.join(made)

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
                sink = client.sink
                assert isinstance(sink, Recording)
                sink.payloads = [event for event in sink.payloads if event["channel"] != subscription.topic]
                await begin(client, subscription.where, at, changes[at].position)
            await asyncio.sleep(0)

    for client in clients[:4]:
        for where in FILTERS:
            await begin(client, where, -1, begun)
    disturbing = [asyncio.create_task(disturb()) for _ in range(3)]
    split = rng.choice([i for i in range(1, len(changes)) if not is_cut(changes[:i])] or [len(changes)])
    for part in (changes[:split], changes[split:]):
        if part:
            await fanout.advance(part, part[-1].position)
    await asyncio.gather(*disturbing)
    for client in clients:
        while any(s.channel is None for s in client.by_topic.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert isinstance(client.sink, Recording)
        for subscription in client.by_topic.values():
            told = [event for event in client.sink.payloads if event["channel"] == subscription.topic]
            shown = [c for c in changes[starts[subscription] + 1 :] if matches(subscription, c)]
            assert [(e["entity"]["n"], e.get("commit"), e.get("last", False)) for e in told] == expected(shown)


async def test_who_joins_while_a_commit_is_looked_at_misses_nothing_of_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fan-out pauses once, each time at another place. A subscription to a new channel joins then."""
    await engine.define(StoreDefinition(STORE))
    begun = await engine.feed.position()
    await insert(engine, *(entity(n=n, marks=["even"]) for n in range(3)))
    changes = await changes_since(engine.feed, begun)
    places = 0
    for place in range(20):
        fanout = Fanout(engine)
        fanout.start(begun)
        early, late = (Subscriptions(fanout, lambda error: {"error": repr(error)}, Steady()) for _ in range(2))
        await join(early, FILTERS[0], begun)
        calls, joining = itertools.count(), list[tuple[bytes, asyncio.Task[None]]]()

        def is_full(fanout: Fanout) -> bool:
            if next(calls) != place:  # noqa: B023
                return False
            task = asyncio.create_task(join(late, FILTERS[-1], fanout.position))  # noqa: B023
            joining.append((fanout.order, task))  # noqa: B023
            return True

        monkeypatch.setattr(Fanout, "_is_slice_full", is_full)
        await fanout.advance(changes, changes[-1].position)
        assert told(early) == expected(changes), place
        for order, task in joining:
            await task
            assert told(late) == expected([c for c in changes if fanout.order_of(c.position) > order]), place
            places += 1
    assert places > 5


def told(client: Subscriptions) -> list[tuple[int, str | None, bool]]:
    """Return number, commit and mark of the events that a client has got."""
    assert isinstance(client.sink, Recording)
    return [(e["entity"]["n"], e.get("commit"), e.get("last", False)) for e in client.sink.payloads]


async def join(client: Subscriptions, where: Filter, position: str) -> None:
    subscription = Subscription(client, topic_of(STORE, where, WHOLE), VIEW, where, WHOLE, position=position)
    client.add(subscription, None)
    await client.join(subscription)


def matches(subscription: Subscription, change: Change) -> bool:
    return subscription.where != FILTERS[-1] or "even" in (change.after or {})["marks"]


def expected(shown: Sequence[Change]) -> list[tuple[int, str | None, bool]]:
    """Return number, commit and mark of the events for changes that are shown."""
    commits = [change.commit for change in shown]
    return [
        ((change.after or {})["n"], change.commit, change.commit is not None and change.commit not in commits[i + 1 :])
        for i, change in enumerate(shown)
    ]
