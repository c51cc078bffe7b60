"""Stamps: rising in the order of commits, whatever changes entities at the same time; none for what alters nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from stores.computing import Computed
from stores.errors import DuplicateValue, EntityTooLarge, StaleRevision
from stores.mongo.repetition import Repetition
from stores.mongo.writes import WriteExecutor
from stores.options import EngineOptions
from stores.protocol import (
    Engine,
    IdempotencyKey,
    Insert,
    Procedure,
    Stamp,
    Steps,
    Update,
    UpdateMany,
    Upsert,
    Write,
    Written,
    do,
    take,
)
from stores.query import EVERYTHING, Compare, Equal, Query, Sort
from stores.records import Change, Entity, now_ms, now_us
from stores.reference_checks import NOTHING_WRITTEN
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import OTHER_USER, STORE, USER, entity, value
from tests.support.reading import changes_since, find, get

STAMPS = (Stamp("changed", "things"),)
HOUR = 3_600_000_000
WRITERS = 20


class Adding:
    """The computed change that adds to `n`."""

    size = 10
    names = frozenset({"n"})

    def __init__(self, amount: int) -> None:
        self._amount = amount

    def __call__(self, entity: Entity) -> Computed:
        return Computed({"n": entity["n"] + self._amount} if self._amount else {})


def new(code: str, n: int = 0, stamps: tuple[Stamp, ...] = STAMPS) -> Insert:
    return Insert(STORE, entity(code=code, n=n), stamps=stamps)


def update(id: str, n: int, *, replace: bool = False, forced: bool = False) -> Update:
    changes = {"code": "a", "n": n, "_at": now_ms()} if replace else {"n": n, "_at": now_ms()}
    return Update(STORE, id, changes, replace=replace, forced=forced, stamps=STAMPS)


def computed(id: str, amount: int) -> Update:
    return Update(STORE, id, {"_at": now_ms()}, compute=Adding(amount), stamps=STAMPS)


def upsert(code: str, n: int, amount: int = 0) -> Upsert:
    compute = Adding(amount) if amount else None
    return Upsert(STORE, "code", entity(code=code, n=n), {"n": n, "_at": now_ms()}, compute=compute, stamps=STAMPS)


def bulk(n: int, amount: int | None = None) -> UpdateMany:
    changes: Entity = {"_at": now_ms()} if amount is not None else {"n": n, "_at": now_ms()}
    compute = None if amount is None else Adding(amount)
    return UpdateMany(STORE, EVERYTHING, changes, 1_000, compute=compute, stamps=STAMPS)


def doing(*writes: Insert | Update | Upsert | UpdateMany, stamps: tuple[Stamp, ...] = STAMPS) -> Procedure:
    def steps() -> Steps:
        for write in writes:
            yield from do(write)
        return NOTHING_WRITTEN

    return Procedure(STORE, steps, stamps=stamps)


async def commit(engine: Engine, *writes: Write, key: IdempotencyKey | None = None, by: str = USER) -> list[Entity]:
    """Return the entities of the outcome."""
    return [value(written) for written in await engine.commit(writes, by, key) if written.entity]


async def created(engine: Engine, *codes: str) -> list[Entity]:
    return await commit(engine, *(new(code) for code in codes))


async def all_by_code(engine: Engine) -> dict[str, Entity]:
    return {each["code"]: each for each in await engine.entities(STORE, Query())}


ALTERING: dict[str, Callable[[str], list[Write]]] = {
    "update": lambda one: [update(one, 1)],
    "replacement": lambda one: [update(one, 1, replace=True)],
    "operator": lambda one: [computed(one, 1)],
    "upsert": lambda one: [upsert("a", 1)],
    "upsert with an operator": lambda one: [upsert("a", 0, amount=1)],
    "upserts": lambda one: [upsert("a", 1), upsert("new", 1)],
    "upserts of one": lambda one: [upsert("a", 1), upsert("a", 2)],
    "touch": lambda one: [Update(STORE, one, {"_at": now_ms()}, forced=True, stamps=STAMPS)],
    "sharing": lambda one: [Update(STORE, one, {"access": [OTHER_USER], "_at": now_ms()}, stamps=STAMPS)],
    "bulk change": lambda one: [bulk(1)],
    "bulk change with an operator": lambda one: [bulk(0, amount=1)],
    "several": lambda one: [update(one, 1), new("new"), update(one, 2)],
    "procedure": lambda one: [doing(update(one, 1), new("new"))],
    "procedure that does not say so": lambda one: [doing(update(one, 1), stamps=())],
    "bulk change in a procedure": lambda one: [doing(bulk(1))],
}

UNALTERING: dict[str, Callable[[str], list[Write]]] = {
    "update": lambda one: [update(one, 0)],
    "replacement": lambda one: [update(one, 0, replace=True)],
    "operator": lambda one: [computed(one, 0)],
    "upsert": lambda one: [upsert("a", 0)],
    "upserts": lambda one: [upsert("a", 0), upsert("b", 0)],
    "bulk change": lambda one: [bulk(0)],
    "bulk change with an operator": lambda one: [bulk(0, amount=0)],
    "several": lambda one: [update(one, 0), update(one, 0, replace=True)],
    "procedure": lambda one: [doing(update(one, 0), bulk(0))],
}


async def test_a_new_entity_gets_the_time(engine: Engine) -> None:
    """In Unix microseconds, which JSON clients read exactly."""
    before = now_us()
    [one] = await commit(engine, new("a"))
    assert before <= one["changed"] <= now_us()
    assert one["changed"] < 2**53
    assert await get(engine, one["_id"]) == one


async def test_each_entity_of_a_commit_gets_another_stamp(engine: Engine) -> None:
    """In the order of an array."""
    made = await created(engine, *(f"{n}" for n in range(300)))
    stamps = [each["changed"] for each in made]
    assert stamps == sorted(set(stamps))
    for write in (bulk(1), bulk(0, amount=1)):
        await commit(engine, write)
        after = [each["changed"] for each in await find(engine)]
        assert len(set(after)) == 300
        assert min(after) > max(stamps)
        stamps = after


@pytest.mark.parametrize("kind", ALTERING)
async def test_a_change_stamps(engine: Engine, kind: str) -> None:
    """Whatever makes it: what is altered gets a greater stamp than any before, and what is not keeps its own. The
    outcome says what is stored."""
    one, other = await created(engine, "a", "b")
    outcome = await commit(engine, *ALTERING[kind](one["_id"]))
    after = await all_by_code(engine)
    assert after["a"]["changed"] > other["changed"] > one["changed"]
    assert after["a"]["_rev"] > 1
    assert (after["b"]["changed"] > other["changed"]) is (after["b"]["_rev"] > 1)
    for each in outcome[-1:]:
        assert each == after[each["code"]]


@pytest.mark.parametrize("kind", UNALTERING)
async def test_what_alters_nothing_is_not_stamped(engine: Engine, kind: str) -> None:
    """Nor is it a change."""
    [one, _] = await created(engine, "a", "b")
    before, position = await all_by_code(engine), await engine.feed.position()
    outcome = await commit(engine, *UNALTERING[kind](one["_id"]))
    assert await all_by_code(engine) == before
    assert await changes_since(engine.feed, position) == []
    assert all(each == before[each["code"]] for each in outcome)


async def test_a_replacement_keeps_the_stamp_out_of_its_body(engine: Engine) -> None:
    """The other fields go, the system fields stay."""
    [one] = await commit(engine, Insert(STORE, entity(code="a", n=0, more=True), stamps=STAMPS))
    [after] = await commit(engine, update(one["_id"], 5, replace=True))
    assert {name: after[name] for name in ("code", "n", "time", "owner")} == {
        "code": "a", "n": 5, "time": one["time"], "owner": one["owner"],
    }  # fmt: skip
    assert "more" not in after
    assert after["changed"] > one["changed"]
    assert await get(engine, one["_id"]) == after


async def test_what_is_refused_stamps_nothing(engine: Engine, database: Database) -> None:
    one, _ = await created(engine, "a", "b")
    with pytest.raises(DuplicateValue) as refused:
        await commit(engine, new("c"), new("b"))
    assert refused.value.index == 1
    with pytest.raises(DuplicateValue):
        await commit(engine, new("b"))
    with pytest.raises(StaleRevision):
        await commit(engine, Update(STORE, one["_id"], {"n": 9}, revs=frozenset({7}), stamps=STAMPS))
    assert (await all_by_code(engine))["a"] == one
    assert len(await all_by_code(engine)) == 2


async def test_a_stamp_does_not_change_how_large_an_entity_may_be(database: Database) -> None:
    """Sharing may make it larger."""
    async with opened(database.engine(EngineOptions(max_entity_bytes=1_000))) as engine:
        await engine.define(StoreDefinition(STORE, unique=("code",)))
        [one] = await commit(engine, new("a"))
        for write in (
            Update(STORE, one["_id"], {"n": "x" * 1_000}, stamps=STAMPS),
            UpdateMany(STORE, EVERYTHING, {"n": "x" * 1_000}, 10, stamps=STAMPS),
        ):
            with pytest.raises(EntityTooLarge):
                await commit(engine, write)
        access = {"access": [OTHER_USER] * 40}
        await commit(engine, Update(STORE, one["_id"], access, stamps=STAMPS))
        await commit(engine, UpdateMany(STORE, EVERYTHING, {"branch": [OTHER_USER] * 40}, 10, stamps=STAMPS))
        assert (await all_by_code(engine))["a"]["_rev"] == 3


async def test_stamps_rise_when_the_clock_goes_back(engine: Engine) -> None:
    """They go on from the last one, by one, until the clock has passed it."""
    ahead = now_us() + HOUR
    [one] = await commit(engine, new("a", stamps=(Stamp("changed", "things", ahead),)))
    assert one["changed"] == ahead
    [two] = await created(engine, "b")
    [three] = await commit(engine, update(one["_id"], 1))
    assert [two["changed"], three["changed"]] == [ahead + 1, ahead + 2]


async def test_counters_are_independent(engine: Engine) -> None:
    """Two fields with one counter rise together."""
    ahead = now_us() + HOUR
    await commit(engine, new("a", stamps=(Stamp("changed", "others", ahead),)))
    [one] = await created(engine, "b")
    assert one["changed"] < ahead
    both = (*STAMPS, Stamp("seen", "things"))
    made = await commit(engine, *(new(code, stamps=both) for code in "cde"))
    stamps = [each[name] for each in made for name in ("changed", "seen")]
    assert len({*stamps, one["changed"]}) == 7
    assert min(stamps) > one["changed"]


async def test_a_procedure_lets_stamps_go_on_from_a_number(engine: Engine) -> None:
    """As a new field does in which entities have numbers already."""
    ahead, firsts = now_us() + HOUR, list[int]()

    def steps() -> Steps:
        firsts.append((yield from take(Stamp("changed", "things", ahead), 0)))
        return NOTHING_WRITTEN

    await commit(engine, Procedure(STORE, steps, stamps=STAMPS))
    [one] = await created(engine, "a")
    assert (firsts, one["changed"]) == ([ahead], ahead)


async def test_a_repeated_request_is_stamped_once(engine: Engine) -> None:
    key = IdempotencyKey("k", "f", now_ms() + 60_000)
    [one] = await commit(engine, new("a"), key=key)
    assert await commit(engine, new("a"), key=key) == [one]
    assert await find(engine) == [one]


async def test_stamps_rise_after_a_restart(database: Database) -> None:
    ahead = now_us() + HOUR
    for stamps in ((Stamp("changed", "things", ahead),), STAMPS):
        async with opened(database.engine()) as engine:
            await engine.define(StoreDefinition(STORE, unique=("code",)))
            await commit(engine, new(f"{len(stamps)}{stamps[0].start}", stamps=stamps))
            found = await find(engine)
    assert [each["changed"] for each in found] == [ahead, ahead + 1]


@asynccontextmanager
async def sides(engine: Engine, database: Database) -> AsyncIterator[list[Engine]]:
    """Yield the engine, and a second one where the database is shared."""
    if not engine.shared:
        yield [engine]
        return
    async with opened(database.engine()) as second:
        await second.define(StoreDefinition(STORE, unique=("code",)))
        yield [engine, second]


def writes_of(place: int, ids: Sequence[str]) -> Iterator[list[Write]]:
    """Yield the commits of one writer, one after the other: on entities of its own, and on those of all."""
    for turn in range(2):
        code, shared = f"{place}.{turn}", ids[(place + turn) % len(ids)]
        yield [new(code)]
        yield [upsert(code, turn + 1)]
        yield [update(shared, 100 * place + turn + 1)]
        yield [computed(shared, 1)]
        yield [new(f"{code}.{n}") for n in range(3)]
        yield [doing(update(shared, -100 * place - turn), new(f"{code}.p"))]
        yield [upsert(f"{code}.0", 7), upsert("one", place)]
        if turn == 1:
            yield [UpdateMany(STORE, Equal(("code",), f"{place}.0.1"), {"n": 3}, 10, stamps=STAMPS)]


async def write_all(engines: Sequence[Engine], ids: Sequence[str]) -> None:
    """Let writers work at the same time, each of another user."""

    async def write(place: int) -> None:
        engine, by = engines[place % len(engines)], f"{place:024x}"
        for writes in writes_of(place, ids):
            await commit(engine, *writes, by=by)

    await asyncio.gather(*(write(place) for place in range(WRITERS)))


def commits(changes: Sequence[Change]) -> list[list[int]]:
    """Return the stamps of changes, by commit."""
    found: list[tuple[str | None, list[int]]] = []
    for change in changes:
        assert change.after is not None
        if not found or change.commit is None or found[-1][0] != change.commit:
            found.append((change.commit, []))
        found[-1][1].append(change.after["changed"])
    return [stamps for _, stamps in found]


@pytest.mark.generated(0.1)
async def test_stamps_have_the_order_of_commits(engine: Engine, database: Database) -> None:
    """Of many writers, on two open engines where the database is shared: the feed, which has the order of commits,
    tells."""
    ids = [each["_id"] for each in await created(engine, *(f"shared{n}" for n in range(5)))]
    position = await engine.feed.position()
    async with sides(engine, database) as engines:
        await write_all(engines, ids)
    found = commits(await changes_since(engine.feed, position))
    assert len(found) > WRITERS * 10
    for one, next_one in pairwise(found):
        assert max(one) < min(next_one)
    stamps = [stamp for each in found for stamp in each]
    assert len(stamps) == len(set(stamps))


@pytest.mark.generated(0.1)
async def test_a_poller_misses_nothing(engine: Engine, database: Database) -> None:
    """It asks for what has changed since the greatest stamp that it has seen, a few at a time, beside the writers. In
    the end it has every entity as it is."""
    ids = [each["_id"] for each in await created(engine, *(f"shared{n}" for n in range(5)))]
    known: dict[str, Entity] = {}
    last, polls = 0, 0

    async def poll(reader: Engine) -> int:
        nonlocal last, polls
        since = Query(Compare(("changed",), "gt", last), (Sort(("changed",)),), limit=40)
        found = await find(reader, since)
        for each in found:
            assert each["changed"] > last
            last, known[each["_id"]] = each["changed"], each
        polls += 1
        return len(found)

    async with sides(engine, database) as engines:
        writing = asyncio.create_task(write_all(engines, ids))
        while not writing.done():
            await poll(engines[-1])
            await asyncio.sleep(0)
        await writing
        while await poll(engines[-1]):
            pass
    assert polls > 5
    assert known == {each["_id"]: each for each in await engine.entities(STORE, Query())}


@pytest.fixture
def collisions(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """The errors after which transactions are repeated from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    after = Repetition.after

    async def noted(self: Repetition, error: PyMongoError) -> None:
        queue.put_nowait(str(error))
        await after(self, error)

    monkeypatch.setattr(Repetition, "after", noted)
    return queue


class Holding:
    """Holds the commit that inserts the entity with a code, after it has taken its stamp, until it may `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        write = WriteExecutor.write

        async def hold(executor: WriteExecutor, one: Any) -> Written:
            written = await write(executor, one)
            if isinstance(one, Insert) and one.entity["code"] == code and not self.reached.is_set():
                self.reached.set()
                await self.go_on.wait()
            return written

        monkeypatch.setattr(WriteExecutor, "write", hold)


@pytest.mark.engine("mongodb")
async def test_a_commit_waits_for_the_stamps_before_it(
    engine: Engine, database: Database, collisions: asyncio.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for those of another process: a poller that has seen its stamp would not find theirs."""
    [known] = await created(engine, "known")
    while not collisions.empty():  # the first one has made the counter
        collisions.get_nowait()
    holding = Holding(monkeypatch, "a")
    async with sides(engine, database) as (one, other):
        first = asyncio.create_task(created(one, "a"))
        await holding.reached.wait()
        second, collided = asyncio.create_task(created(other, "b")), asyncio.create_task(collisions.get())
        await asyncio.wait([second, collided], return_when=asyncio.FIRST_COMPLETED)
        collided.cancel()
        seen = await find(other)
        holding.go_on.set()
        [a], [b] = await first, await second
    assert seen == [known]
    assert a["changed"] < b["changed"]


@pytest.mark.engine("mongodb")
async def test_commits_of_one_process_wait_instead_of_colliding(engine: Engine, collisions: asyncio.Queue[str]) -> None:
    ids = [each["_id"] for each in await created(engine, *(f"shared{n}" for n in range(5)))]
    while not collisions.empty():
        collisions.get_nowait()
    await write_all([engine], ids)
    assert collisions.empty()


@pytest.mark.engine("mongodb")
async def test_what_alters_nothing_waits_for_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered while a commit that changes entities has not ended."""
    [one] = await created(engine, "a")
    holding = Holding(monkeypatch, "b")
    first = asyncio.create_task(commit(engine, new("b")))
    await holding.reached.wait()
    assert await commit(engine, update(one["_id"], 0)) == [one]
    assert await commit(engine, upsert("a", 0)) == [one]
    holding.go_on.set()
    await first
