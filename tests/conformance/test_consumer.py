"""Consumers of the feed: every change in order, exactly once in the database, by one process at a time; otherwise the
consumer stops with an error."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from hub.metrics import Metrics
from stores.consumer import ConsumerState, LeasedConsumer
from stores.errors import ConsumerBehind, ConsumerFailing, LeaseLost, NotFound, Unavailable
from stores.options import ConsumerOptions, EngineOptions
from stores.protocol import Consumer, Delete, Engine, Insert, Update, Write
from stores.query import Query
from stores.records import Change, Entity, now_ms
from stores.schema import StoreDefinition
from stores.sqlite import SQLiteEngine
from tests.support.consuming import Recorder, at_work, is_counted
from tests.support.counting import COUNTED, COUNTS, counting, write
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, insert, insert_one, numbered
from tests.support.hub import eventually
from tests.support.reading import changes_since, find, trail

NAME = "test"
LOG = StoreDefinition("_log")
QUICK: dict[str, Any] = {"first_pause": 0.01, "longest_pause": 0.02}


def state_of(consumer: Consumer) -> ConsumerState:
    assert isinstance(consumer, LeasedConsumer)
    return consumer._state


def line(change: Change, engine: Engine) -> Insert:
    """Return the write that the tests make for a change; it shows duplicates and a wrong order."""
    rev = (change.after or change.before or {})["_rev"]
    place = engine.feed.order(change.position).hex()
    return Insert(LOG.name, entity(entity=change.id, rev=rev, place=place))


async def logged(engine: Engine) -> list[tuple[str, int]]:
    lines = await find(engine, Query(limit=10_000), store=LOG.name)
    return [(each["entity"], each["rev"]) for each in sorted(lines, key=lambda each: str(each["place"]))]


async def work(engine: Engine, rounds: int) -> None:
    """Insert entities, change them twice and delete some, in commits of several sizes."""
    for n in range(rounds):
        made = numbered(1 + n % 3, round=n)
        await insert(engine, *made)
        await engine.commit([Update(STORE, each["_id"], {"n": -n - 1}) for each in made], USER)
        await engine.commit(
            [Delete(STORE, made[0]["_id"])] if n % 2 else [Update(STORE, made[0]["_id"], {"x": 1})], USER
        )


async def test_every_change_arrives_once_and_in_order(engine: Engine) -> None:
    """This includes changes from before it starts and during its run; the order holds per entity and in all."""
    start = await engine.feed.position()
    await work(engine, 5)
    recorder = Recorder()
    async with at_work(engine.consumer(NAME, recorder, ConsumerOptions(since=start))):
        await work(engine, 10)
        last = await insert_one(engine)
        await recorder.has(last["_id"])
    assert recorder.positions == [change.position for change in await changes_since(engine.feed, start)]


async def test_a_new_consumer_begins_now(engine: Engine) -> None:
    """Without a stored position it gets only changes that are committed after its start."""
    early = await insert_one(engine)
    recorder, made = Recorder(), []
    async with at_work(engine.consumer(NAME, recorder)):

        async def has_begun() -> bool:
            made.append((await insert_one(engine))["_id"])
            return bool(recorder.calls)

        await eventually(has_begun)
    first = made.index(recorder.ids[0])
    assert recorder.ids == made[first : first + len(recorder.ids)]
    assert early["_id"] not in recorder.ids


async def test_it_goes_on_where_it_was(database: Database) -> None:
    """It resumes after restarts of the engine, and handles no committed change again."""
    recorder, made = Recorder(), []
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        start = await engine.feed.position()
    for _ in range(3):
        async with opened(database.engine()) as engine:
            made.append((await insert_one(engine))["_id"])
            async with at_work(engine.consumer(NAME, recorder, ConsumerOptions(since=start))):
                made.append((await insert_one(engine))["_id"])
                await recorder.has(made[-1])
                await stored_up_to(engine, made[-1], start)
    assert recorder.ids == made


async def stored_up_to(engine: Engine, id: str, start: str) -> None:
    """Wait until the stored position has reached the change of that entity."""
    [change] = [change for change in await changes_since(engine.feed, start) if change.id == id]
    place = engine.feed.order(change.position)

    async def stored() -> bool:
        return engine.feed.order(await stored_position(engine)) >= place

    await eventually(stored)


async def stored_position(engine: Engine) -> str:
    """Return the consumer's position as stored by the engine."""
    state: Any = state_of(engine.consumers()[-1])
    if hasattr(state, "_commit_with"):
        found = await state._commit_with(
            (), lambda c: c.execute("SELECT position FROM consumers WHERE name=?", (NAME,)).get
        )
    else:
        found = (await state._connection.collection("_meta").find_one({"_id": f"consumer:{NAME}"}))["position"]
    return str(found)


async def test_what_it_writes_is_written_exactly_once(database: Database) -> None:
    """This holds if it is repeatedly interrupted, because writes and position are committed together."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE), LOG)
        start = await engine.feed.position()
        await work(engine, 80)
        expected = [(c.id, (c.after or c.before or {})["_rev"]) for c in await changes_since(engine.feed, start)]

    async def handle(changes: Sequence[Change]) -> list[Write]:
        await asyncio.sleep(0)
        return [line(change, engine) for change in changes]

    chance = random.Random(5)
    for _ in range(12):
        async with (
            opened(database.engine()) as engine,
            at_work(engine.consumer(NAME, handle, ConsumerOptions(since=start, most_changes=4))),
        ):
            await asyncio.sleep(chance.uniform(0, 0.05))
    async with opened(database.engine()) as engine:

        async def is_done() -> bool:
            return len(await logged(engine)) >= len(expected)

        async with at_work(engine.consumer(NAME, handle, ConsumerOptions(since=start, most_changes=4))):
            await eventually(is_done)
        assert await logged(engine) == expected


async def test_counts_are_exact(engine: Engine) -> None:
    """A consumer of a few lines reads its own earlier writes."""
    await engine.define(COUNTS, *COUNTED)
    since = await engine.feed.position()
    async with at_work(counting(engine, since, most_changes=7)):
        for number in range(30):
            await write(engine, number)
        await eventually(lambda: is_counted(engine, since))


async def test_what_it_need_not_commit_is_stored_later(engine: Engine) -> None:
    """If the handler returns None, its position is stored when the lease is renewed."""
    start = await engine.feed.position()
    recorder = Recorder(None)
    async with at_work(engine.consumer(NAME, recorder, ConsumerOptions(since=start, lease_seconds=0.9))):
        made = await insert_one(engine)
        await recorder.has(made["_id"])
        await stored_up_to(engine, made["_id"], start)


async def test_one_of_several_works(engine: Engine) -> None:
    """When it ends, another continues at once with the remaining changes, so that together they get each change once.
    No lease ends here: each is longer than the test."""
    start = await engine.feed.position()
    recorders = [Recorder() for _ in range(3)]
    options = ConsumerOptions(since=start, lease_seconds=300)
    consumers = [engine.consumer(NAME, recorder, options) for recorder in recorders]
    async with at_work(consumers[0]):
        made = await insert_one(engine)
        await recorders[0].has(made["_id"])
        async with at_work(consumers[1]), at_work(consumers[2]):
            for _ in range(5):
                made = await insert_one(engine)
                await recorders[0].has(made["_id"])
            assert not recorders[1].calls
            assert not recorders[2].calls
            assert (consumers[1].lag, consumers[2].lag) == (None, None)
            assert consumers[0].lag is not None
            await stored_up_to(engine, made["_id"], start)
    async with at_work(consumers[1]):
        made = await insert_one(engine)
        await recorders[1].has(made["_id"])
    got = [position for recorder in recorders for position in recorder.positions]
    assert got == [change.position for change in await changes_since(engine.feed, start)]


async def test_one_that_has_died_is_taken_over_when_its_lease_ends(engine: Engine) -> None:
    """Another consumer takes over after the end of the lease, not earlier, from the stored position."""
    start = await engine.feed.position()
    options = ConsumerOptions(since=start, lease_seconds=1.2)
    recorder = Recorder()
    consumer = engine.consumer(NAME, recorder, options)
    before = time.monotonic()
    dead = await state_of(consumer).acquire("dead", options.lease_seconds, start)
    assert dead is not None
    made = numbered(4)
    await insert(engine, *made)
    second = (await changes_since(engine.feed, start))[1]
    await state_of(consumer).commit(dead, [], second.position)
    async with at_work(consumer):
        await recorder.has(made[-1]["_id"])
    assert recorder.ids == [each["_id"] for each in made[2:]]
    assert time.monotonic() - before >= options.lease_seconds - 0.01


async def test_one_that_is_late_commits_nothing(engine: Engine) -> None:
    """A consumer that was taken over can neither write nor store a position, even if it does not know that yet."""
    await engine.define(LOG)
    start = await engine.feed.position()
    await insert_one(engine)
    [change] = await changes_since(engine.feed, start)
    state = state_of(engine.consumer(NAME, Recorder()))
    late = await state.acquire("late", 0.05, start)
    assert late is not None

    async def taken() -> Any:
        return await state.acquire("next", 0.05, start)

    lease = await eventually(taken)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await state.commit(late, [line(change, engine)], change.position)
        with pytest.raises(LeaseLost):
            await state.commit(late, [], change.position)
        with pytest.raises(LeaseLost):
            await state.renew(late, change.position)
        await state.release(late)
    assert await logged(engine) == []
    await state.commit(lease, [line(change, engine)], change.position)
    with pytest.raises(LeaseLost):
        await state.commit(late, [line(change, engine)], change.position)
    assert await logged(engine) == [(change.id, 1)]


async def test_one_that_is_late_by_the_same_lease_commits_nothing(engine: Engine) -> None:
    """A commit with an unknown outcome is repeated. The position has moved, so nothing is written twice."""
    await engine.define(LOG)
    start = await engine.feed.position()
    await insert_one(engine)
    [change] = await changes_since(engine.feed, start)
    state = state_of(engine.consumer(NAME, Recorder()))
    lease = await state.acquire("one", 60, start)
    assert lease is not None
    await state.commit(lease, [line(change, engine)], change.position)
    lease.position = start
    for writes in ([line(change, engine)], []):
        with pytest.raises(LeaseLost):
            await state.commit(lease, writes, change.position)
    assert await logged(engine) == [(change.id, 1)]


async def test_beginning_anew_ends_what_is_under_way(engine: Engine) -> None:
    """The handler's current batch is not committed, and the consumer continues from the new position."""
    await engine.define(LOG)
    start = await engine.feed.position()
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def handle(changes: Sequence[Change]) -> list[Write]:
        began.set()
        await goes_on.wait()
        return [line(change, engine) for change in changes]

    consumer = engine.consumer(NAME, handle, ConsumerOptions(since=start, lease_seconds=0.9))
    async with at_work(consumer):
        passed_over = await insert_one(engine)
        await began.wait()
        marker = entity(entity="anew", rev=0, place="")
        await consumer.restart_at(writes=[Insert(LOG.name, marker)])
        goes_on.set()
        made = await insert_one(engine)

        async def is_done() -> bool:
            return (made["_id"], 1) in await logged(engine)

        await eventually(is_done)
    assert (passed_over["_id"], 1) not in await logged(engine)
    assert ("anew", 0) in await logged(engine)


async def test_a_restart_that_fails_changes_nothing(engine: Engine) -> None:
    """The writes and the position are stored together or not at all. The lease of the running consumer stays valid."""
    start = await engine.feed.position()
    await insert_one(engine)
    [change] = await changes_since(engine.feed, start)
    consumer = engine.consumer(NAME, Recorder())
    lease = await state_of(consumer).acquire("one", 60, start)
    assert lease is not None
    with pytest.raises(NotFound):
        await consumer.restart_at(writes=[Update(STORE, "5f0000000000000000000fff", {"n": 1})])
    assert await state_of(consumer).acquire("another", 60, start) is None
    await state_of(consumer).commit(lease, [], change.position)
    assert engine.feed.order(await stored_position(engine)) == engine.feed.order(change.position)


async def test_a_call_is_bounded(engine: Engine) -> None:
    """A batch is bounded by changes and by bytes; a larger change comes alone. Together the batches are complete and in
    order."""
    start = await engine.feed.position()
    await insert(engine, *numbered(40))
    await insert(engine, *(entity(text="x" * size) for size in (3_000, 3_000, 30_000, 10, 10, 20_000)))
    last = await insert_one(engine)
    recorder = Recorder()
    options = ConsumerOptions(since=start, most_changes=7, most_bytes=10_000)
    async with at_work(engine.consumer(NAME, recorder, options)):
        await recorder.has(last["_id"])
    assert recorder.positions == [change.position for change in await changes_since(engine.feed, start)]
    for call in recorder.calls:
        assert len(call) <= 7
        assert len(call) == 1 or sum(change.size for change in call) <= 10_000


async def test_a_handler_that_fails_gets_the_same_again(engine: Engine) -> None:
    """No change is skipped, and later changes wait."""
    start = await engine.feed.position()
    made = numbered(3)
    await insert(engine, *made)
    recorder = Recorder()

    async def handle(changes: Sequence[Change]) -> Sequence[Write] | None:
        await recorder(changes)
        if len(recorder.calls) < 4:
            raise RuntimeError("not yet")
        return []

    async with at_work(engine.consumer(NAME, handle, ConsumerOptions(since=start, **QUICK))):
        await eventually(lambda: told(recorder, 4))
        last = await insert_one(engine)
        await recorder.has(last["_id"])
    assert [[change.id for change in call] for call in recorder.calls] == [[e["_id"] for e in made]] * 4 + [
        [last["_id"]]
    ]


async def told(recorder: Recorder, calls: int) -> bool:
    return len(recorder.calls) >= calls


async def raising(_: Sequence[Change]) -> list[Write]:
    raise ValueError("broken")


async def hanging(_: Sequence[Change]) -> list[Write]:
    await asyncio.Event().wait()
    return []


async def refused(changes: Sequence[Change]) -> list[Write]:
    """Return writes of which only the first could be made."""
    return [Insert(LOG.name, entity(entity="x", rev=0, place="")), Update(STORE, "5f0000000000000000000fff", {"n": 1})]


@pytest.mark.parametrize("handler", [raising, hanging, refused])
async def test_a_handler_that_always_fails_stops_aloud(
    engine: Engine, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops with a specific error in the log and in the metrics. Nothing is written or skipped: another handler gets
    the same changes."""
    await engine.define(LOG)
    start = await engine.feed.position()
    made = await insert_one(engine)
    calls = []

    async def handle(changes: Sequence[Change]) -> list[Write]:
        calls.append(changes)
        written: list[Write] = await handler(changes)
        return written

    options = ConsumerOptions(since=start, most_attempts=3, handle_seconds=2 if handler is refused else 0.2, **QUICK)
    consumer = engine.consumer(NAME, handle, options)
    async with at_work(consumer) as task:
        with pytest.raises(ConsumerFailing):
            await asyncio.wait_for(task, 30)
    assert len(calls) == 3
    assert isinstance(consumer.error, ConsumerFailing)
    stops = [r for r in caplog.records if r.levelno == logging.ERROR and r.name.startswith("stores.")]
    assert ["ConsumerFailing" in record.getMessage() for record in stops] == [True]
    assert f'hub_consumer_stopped{{consumer="{NAME}",error="ConsumerFailing"}} 1.0' in metrics_of(engine)
    assert await logged(engine) == []
    recorder = Recorder()
    async with at_work(engine.consumer(NAME, recorder, options)):
        await recorder.has(made["_id"])
    assert "hub_consumer_stopped{" not in metrics_of(engine)


def metrics_of(engine: Engine) -> str:
    metrics = Metrics()
    metrics.watch_consumers(engine.consumers)
    return metrics.render().decode()


async def test_an_interruption_after_a_failed_attempt_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures of the handler and interruptions by the database are counted separately."""
    start = await engine.feed.position()
    made = await insert_one(engine)
    recorder = Recorder()
    errors = [ValueError("broken"), Unavailable("away"), Unavailable("still away")]

    async def handle(changes: Sequence[Change]) -> Sequence[Write] | None:
        if errors:
            raise errors.pop(0)
        return await recorder(changes)

    async with at_work(engine.consumer(NAME, handle, ConsumerOptions(since=start, **QUICK))):
        await recorder.has(made["_id"])
    warnings = [r.getMessage() for r in caplog.records if "interrupted" in r.getMessage()]
    assert warnings == [f"consumer {NAME}: interrupted: Unavailable: away"]


async def test_a_consumer_that_runs_again_begins_with_short_pauses(engine: Engine) -> None:
    """Attempts and pauses are counted from the beginning. Otherwise the pauses would take 40 seconds together."""
    start = await engine.feed.position()
    await insert_one(engine)
    options = ConsumerOptions(since=start, most_attempts=7, first_pause=0.01, longest_pause=30)
    consumer = engine.consumer(NAME, raising, options)
    for _ in range(2):
        with pytest.raises(ConsumerFailing):
            await asyncio.wait_for(consumer.run(), 20)


async def test_behind_the_retention_it_stops_aloud(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """It never skips changes silently. The caller may make it begin anew."""
    async with opened(database.engine(EngineOptions(feed_retention_hours=1))) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, *numbered(5))
        epoch = (await engine.feed.position()).partition(".")[0]
        await engine.sweep(now_ms() + 7_200_000)
    # MongoDB's oplog is still complete here, so the test uses a time in the future, which cannot be followed either.
    outlived = f"{epoch}.0" if database.kind == "sqlite" else f"{epoch}.t4000000000.1"
    async with opened(database.engine()) as engine:
        recorder = Recorder()
        consumer = engine.consumer(NAME, recorder, ConsumerOptions(since=outlived))
        for _ in range(2):
            caplog.clear()
            async with at_work(consumer) as task:
                with pytest.raises(ConsumerBehind):
                    await asyncio.wait_for(task, 30)
            assert isinstance(consumer.error, ConsumerBehind)
            assert any("ConsumerBehind" in r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)
            assert f'hub_consumer_stopped{{consumer="{NAME}",error="ConsumerBehind"}} 1.0' in metrics_of(engine)
        assert not recorder.calls
        await consumer.restart_at()
        made = await insert_one(engine)
        async with at_work(consumer):
            await recorder.has(made["_id"])
            assert consumer.error is None
    assert recorder.ids == [made["_id"]]


async def test_of_several_that_are_behind_one_begins_anew(engine: Engine) -> None:
    """When the second one begins anew too, it does not skip changes after the first one's new position."""
    epoch = (await engine.feed.position()).partition(".")[0]
    ahead = f"{epoch}.4000000000" if isinstance(engine, SQLiteEngine) else f"{epoch}.t4000000000.1"
    recorders = [Recorder(), Recorder()]
    consumers = [engine.consumer(NAME, recorder, ConsumerOptions(since=ahead)) for recorder in recorders]
    for consumer in consumers:
        with pytest.raises(ConsumerBehind):
            await asyncio.wait_for(consumer.run(), 30)
    await engine.define(LOG)
    await consumers[0].restart_at()
    made = await insert_one(engine)
    await consumers[1].restart_at(writes=[Insert(LOG.name, entity(entity="x", rev=0, place=""))])
    assert await logged(engine) == []
    async with at_work(consumers[1]):
        await recorders[1].has(made["_id"])


async def test_lag_is_the_age_of_what_waits(engine: Engine) -> None:
    """It grows while a change waits and is 0 otherwise."""
    start = await engine.feed.position()
    goes_on = asyncio.Event()
    recorder = Recorder()

    async def handle(changes: Sequence[Change]) -> Sequence[Write] | None:
        await goes_on.wait()
        return await recorder(changes)

    consumer = engine.consumer(NAME, handle, ConsumerOptions(since=start))
    assert consumer.lag is None
    async with at_work(consumer):
        await insert_one(engine)

        async def lags() -> bool:
            return (consumer.lag or 0) > 0.3

        await eventually(lags)
        metric = f'hub_consumer_lag_seconds{{consumer="{NAME}"}} '
        [shown] = [text for text in metrics_of(engine).splitlines() if text.startswith(metric)]
        assert float(shown.split()[-1]) > 0.3
        goes_on.set()

        async def has_caught_up() -> bool:
            return consumer.lag == 0

        await eventually(has_caught_up)


async def test_a_store_of_the_hubs_own_is_in_no_feed(engine: Engine) -> None:
    """Its entities can be written and read like any other, but its changes are neither in the feed nor in the
    history."""
    await engine.define(StoreDefinition("_own", unique=("code",), indexes=("n",)))
    start = await engine.feed.position()
    made = await insert_one(engine, store="_own", code="x", n=1)
    await engine.commit([Update("_own", made["_id"], {"n": 2})], USER)
    await engine.commit([Insert("_own", entity(code="y", n=3)), Insert(STORE, entity(code="z"))], USER)
    await engine.commit([Delete("_own", made["_id"])], USER)
    found: list[Entity] = await find(engine, store="_own")
    assert [each["n"] for each in found] == [3]
    assert {change.store for change in await changes_since(engine.feed, start)} == {STORE}
    assert await trail(engine, "_own", made["_id"]) == ([], None)
