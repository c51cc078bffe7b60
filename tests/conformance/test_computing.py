"""Changes that are computed from the entity as it is in the commit: exact under contention, checked, all or none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from stores.computing import Computed, OperatorChange, prepared
from stores.errors import (
    ComputedTooLong,
    DuplicateValue,
    EntityTooLarge,
    InvalidEntity,
    InvalidQuery,
    NotFound,
    StaleRevision,
    TooManyMatches,
    Violation,
)
from stores.field import Field
from stores.limits import EntityLimits
from stores.options import EngineOptions
from stores.parse_operators import parse_change
from stores.protocol import (
    Delete,
    DeleteMany,
    Engine,
    IdempotencyKey,
    Insert,
    Procedure,
    Steps,
    Update,
    UpdateMany,
    Upsert,
    Written,
    do,
)
from stores.protocol import find as search
from stores.query import EVERYTHING, And, Compare, Equal, Query
from stores.records import Entity, now_ms
from stores.schema import StoreDefinition
from stores.sqlite.entity_writes import _row
from tests.support.engines import Database, opened
from tests.support.entities import GROUP, STORE, USER, entity, insert, insert_one, numbered, value
from tests.support.reading import changes_since, find, get, trail

DEFINITION = StoreDefinition(STORE, fields=(Field("name", "Text", required=True),), open=True, unique=("code",))
CLIENTS = 64
ALLOWANCES = ("SECONDS_PER_CHANGE", "SECONDS_PER_ENTITY_BYTE", "SECONDS_PER_FOUND", "SECONDS_PER_BYTE")


def change(definition: StoreDefinition = DEFINITION, **operators: Any) -> OperatorChange:
    """Return what a body with these operators computes; their names are given without ``$``."""
    _, parsed = parse_change({f"${name}": argument for name, argument in operators.items()})
    ready, violations = prepared(parsed, definition, frozenset(), EntityLimits())
    assert not violations
    return OperatorChange(ready, definition)


def increment(id: str, path: str = "n", by: int = 1) -> Update:
    return Update(STORE, id, {"_at": now_ms()}, compute=change(inc={path: by}))


@dataclass(frozen=True)
class Noted(OperatorChange):
    """Notes whether it computes on the event loop, which is that of the thread `loop`."""

    loop: int = field(default_factory=threading.get_ident)
    on_loop: list[bool] = field(default_factory=list)

    def __call__(self, entity: Entity) -> Computed:
        self.on_loop.append(threading.get_ident() == self.loop)
        return OperatorChange.__call__(self, entity)


async def test_a_list_whose_check_takes_long_is_checked_in_a_thread(engine: Engine) -> None:
    """Also if the change is small, and so is the entity; changes of other fields take none."""
    person = Field("person", "Object", fields=(Field("mail", "Email"),))
    definition = StoreDefinition(STORE, fields=(Field("mails", "Email", many=True), person), open=True)
    mails = [f"{number}@bücher.example.org" for number in range(100)]
    made = await insert_one(engine, mails=mails, code="a", n=0)
    for operators, on_loop in (
        ({"push": {"mails": "a@example.org"}}, False),
        ({"pull": {"mails": "a@example.org"}}, False),
        ({"inc": {"n": 1}}, True),
        ({"set": {"person.mail": "ü@example.org"}}, True),
    ):
        plain = change(definition, **operators)
        compute = Noted(plain.operators, plain.definition)
        upsert = Upsert(STORE, "code", entity(code="a"), {}, compute=compute)
        for writes in ([Update(STORE, made["_id"], {}, compute=compute)], [upsert], [upsert, entity_of_code("b")]):
            compute.on_loop.clear()
            await engine.commit(writes, USER)
            assert compute.on_loop == [on_loop], (operators, writes)


def entity_of_code(code: str) -> Upsert:
    return Upsert(STORE, "code", entity(code=code), {})


async def test_a_computed_change_is_an_ordinary_change(engine: Engine) -> None:
    """The answer, the feed and the history show the plain fields and the computed ones, and removals."""
    made = await insert_one(engine, n=5, deep={"list": [1], "x": 1}, gone=1)
    position = await engine.feed.position()
    computed = change(inc={"n": -2}, push={"deep.list": 2}, unset=["gone", "deep.x"])
    [written] = await engine.commit([Update(STORE, made["_id"], {"note": "sold"}, compute=computed)], USER)
    after = {n: v for n, v in made.items() if n != "gone"} | {
        "n": 3, "deep": {"list": [1, 2]}, "note": "sold", "_rev": 2
    }  # fmt: skip
    assert (value(written), written.rev, written.count) == (after, 2, 1)
    assert await get(engine, made["_id"]) == after
    [seen] = await changes_since(engine.feed, position)
    assert (seen.op, seen.before, seen.after, seen.by) == ("update", made, after, USER)
    entries, _ = await trail(engine, STORE, made["_id"])
    assert dict(entries[-1].changed) == {
        "n": (5, 3), "deep": ({"list": [1], "x": 1}, {"list": [1, 2]}), "gone": (1, None), "note": (None, "sold"),
        "_rev": (1, 2),
    }  # fmt: skip


async def test_a_change_that_computes_nothing_new_is_not_written(engine: Engine) -> None:
    """Unless it is forced."""
    made = await insert_one(engine, n=5, l=["a"], m=["a"], code="x")
    position = await engine.feed.position()
    compute = change(max={"n": 5.0}, addToSet={"l": "a"}, pull={"m": "b"}, unset=["none"])
    stamped = {"_at": now_ms() + 5_000}
    for write in (
        Update(STORE, made["_id"], stamped, compute=compute),
        Upsert(STORE, "code", entity(code="x"), stamped, compute=compute),
        UpdateMany(STORE, EVERYTHING, stamped, 10, compute=compute),
    ):
        [written] = await engine.commit([write], USER)
        assert written.count == 0
    await engine.commit([Upsert(STORE, "code", entity(code="x"), stamped, compute=compute)] * 2, USER)
    assert await get(engine, made["_id"]) == made
    assert await changes_since(engine.feed, position) == []
    [written] = await engine.commit([Update(STORE, made["_id"], stamped, forced=True, compute=compute)], USER)
    assert (written.count, written.rev) == (1, 2)


async def test_a_refused_change_leaves_everything_as_it_was(engine: Engine) -> None:
    """One entity that it does not fit refuses the whole commit, and names the field."""
    made = await insert_one(engine, n=2**63 - 1, name="x", text="x", code="x")
    first = await insert_one(engine, n=1, name="y", code="y")
    before = await find(engine)
    for write in (
        increment(made["_id"]),
        Update(STORE, made["_id"], {"seen": True}, compute=change(set={"text.a": "z"})),
        Upsert(STORE, "code", entity(code="x"), {}, compute=change(inc={"n": 1})),
        UpdateMany(STORE, EVERYTHING, {"seen": True}, 10, compute=change(inc={"n": 1})),
    ):
        for writes in ([write], [increment(first["_id"]), write], [Insert(STORE, entity()), write]):
            with pytest.raises(InvalidEntity) as error:
                await engine.commit(writes, USER)
            assert error.value.violations[0].field in ("n", "text.a")
    assert await find(engine) == before


async def test_conditions_are_decided_with_the_change(engine: Engine) -> None:
    """Visibility and revisions come before what the change finds in the entity."""
    made = await insert_one(engine, n="text")
    compute = change(inc={"n": 1})
    with pytest.raises(StaleRevision):
        await engine.commit([Update(STORE, made["_id"], {}, revs=frozenset({7}), compute=compute)], USER)
    with pytest.raises(NotFound):
        await engine.commit([Update(STORE, made["_id"], {}, Equal(("n",), 1), compute=compute)], USER)
    with pytest.raises(InvalidEntity):
        await engine.commit([Update(STORE, made["_id"], {}, revs=frozenset({1}), compute=compute)], USER)


@pytest.mark.parametrize("each", [10, pytest.param(100, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
async def test_increments_of_many_clients_are_exact(engine: Engine, each: int) -> None:
    """64 clients increment one entity 100 times each: none is refused, none is lost, each is a change of its own."""
    made = await insert_one(engine, n=0, price=0)

    async def client() -> list[int]:
        return [value((await engine.commit([increment(made["_id"])], USER))[0])["n"] for _ in range(each)]

    answers = await asyncio.gather(*(client() for _ in range(CLIENTS)))
    assert sorted(n for mine in answers for n in mine) == list(range(1, CLIENTS * each + 1))
    assert all(mine == sorted(mine) for mine in answers)
    read = await get(engine, made["_id"]) or {}
    assert (read["n"], read["_rev"]) == (CLIENTS * each, CLIENTS * each + 1)


async def test_increments_pass_through_other_writers(engine: Engine) -> None:
    """Plain changes, upserts, transactions and bulk changes of the same entity neither lose nor refuse increments."""
    made = await insert_one(engine, n=0, code="hot")
    id = made["_id"]

    async def plain(n: int) -> None:
        await engine.commit([Update(STORE, id, {f"f{n}": n})], USER)

    async def upserted() -> None:
        await engine.commit([Upsert(STORE, "code", entity(code="hot"), {}, compute=change(inc={"n": 1}))], USER)

    async def together() -> None:
        await engine.commit([increment(id), Insert(STORE, entity()), increment(id)], USER)

    async def keyed(n: int) -> None:
        key = IdempotencyKey(f"k{n % 10}", "same", now_ms() + 60_000)
        await engine.commit([increment(id)], USER, key)

    async def bulk() -> None:
        await engine.commit([UpdateMany(STORE, Equal(("code",), "hot"), {}, 10, compute=change(inc={"n": 1}))], USER)

    single = [engine.commit([increment(id)], USER) for _ in range(40)]
    others = [step for n in range(20) for step in (plain(n), upserted(), together(), keyed(n))]
    await asyncio.gather(*single, *others, *(bulk() for _ in range(5)))
    read = await get(engine, id) or {}
    assert read["n"] == 40 + 20 + 2 * 20 + 10 + 5
    assert {f"f{n}": read.get(f"f{n}") for n in range(20)} == {f"f{n}": n for n in range(20)}


@pytest.mark.engine("mongodb")
async def test_increments_of_two_processes_are_exact(database: Database) -> None:
    """Two engines on one database stand for two processes: they share no locks."""
    async with opened(database.engine()) as one, opened(database.engine()) as two:
        await one.define(StoreDefinition(STORE))
        await two.define(StoreDefinition(STORE))
        made = await insert_one(one, n=0)

        async def client(engine: Engine) -> None:
            for _ in range(20):
                await engine.commit([increment(made["_id"])], USER)

        await asyncio.gather(*(client(engine) for engine in (one, two) for _ in range(10)))
        assert (await get(one, made["_id"]) or {})["n"] == 400


async def test_upserts_compute_their_update_and_insert_the_rest(engine: Engine) -> None:
    """An entity that is created gets the plain fields only. Equal values in one array meet the entity one by one."""
    compute = change(inc={"n": 1}, push={"l": "x"})

    def upsert(code: str) -> Upsert:
        return Upsert(STORE, "code", entity(code=code, n=0), {}, compute=compute)

    await engine.commit([upsert("a")], USER)
    await engine.commit([upsert("a"), upsert("b"), upsert("a")], USER)
    written = await engine.commit([upsert("a"), upsert("b")], USER)
    assert [(value(w)["code"], value(w)["n"], value(w).get("l")) for w in written] == [
        ("a", 3, ["x", "x", "x"]), ("b", 1, ["x"])
    ]  # fmt: skip


async def test_a_bulk_change_computes_entity_by_entity(engine: Engine) -> None:
    """Each match is changed once, also those that the change moves within an index, and is a change of its own."""
    await engine.define(StoreDefinition(STORE, unique=("code",), indexes=("n",)))
    await insert(engine, *numbered(1_500), entity(n=-1))
    position = await engine.feed.position()
    compute = change(inc={"n": 1}, max={"top": 7})
    above = And((Compare(("n",), "gt", -2), Equal(("group",), GROUP)))
    [written] = await engine.commit([UpdateMany(STORE, above, {"seen": True}, 2_000, compute=compute)], USER)
    assert written.count == 1_501
    found = await find(engine, Query(limit=2_000))
    assert sorted(e["n"] for e in found) == [*range(1_501)]
    assert all(e["seen"] and e["top"] == 7 and e["_rev"] == 2 for e in found)
    assert len(await changes_since(engine.feed, position)) == 1_501


async def test_a_bulk_change_counts_what_it_alters(engine: Engine) -> None:
    await insert(engine, *numbered(10))
    [written] = await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 10, compute=change(min={"n": 3}))], USER)
    assert written.count == 6
    with pytest.raises(TooManyMatches):
        await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 9, compute=change(inc={"n": 3}))], USER)


async def test_unique_values_of_a_bulk_change_are_taken_in_order_of_creation(engine: Engine) -> None:
    """Both engines refuse and accept the same."""
    await insert(engine, *(entity(code=code) for code in (3, 2, 1)))
    await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 10, compute=change(inc={"code": 1}))], USER)
    assert [e["code"] for e in await find(engine)] == [4, 3, 2]
    with pytest.raises(DuplicateValue):
        await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 10, compute=change(inc={"code": -1}))], USER)
    assert [e["code"] for e in await find(engine)] == [4, 3, 2]


async def test_the_result_is_bounded_in_bytes(database: Database) -> None:
    """A list can grow up to the bound of an entity, and a change of many entities too."""
    async with opened(database.engine(EngineOptions(max_entity_bytes=2_000))) as engine:
        await engine.define(StoreDefinition(STORE, unique=("code",)))
        made = await insert_one(engine, l=[], code="x")
        grow = change(push={"l": "x" * 900})
        await engine.commit([Update(STORE, made["_id"], {}, compute=grow)], USER)
        before = await find(engine)
        for write in (
            Update(STORE, made["_id"], {}, compute=grow),
            Upsert(STORE, "code", entity(code="x"), {}, compute=grow),
            UpdateMany(STORE, EVERYTHING, {}, 10, compute=grow),
        ):
            for writes in ([write], [write, write]):
                with pytest.raises(EntityTooLarge):
                    await engine.commit(writes, USER)
        assert await find(engine) == before


async def test_a_bulk_change_is_bounded_in_bytes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields that it computes count, beside the entities as they are stored."""
    monkeypatch.setattr("stores.writes.MOST_BULK_BYTES", 16_000)
    await insert(engine, *(entity(l=["x" * 3_000]) for _ in range(4)))
    before = await find(engine)
    longer = change(push={"l": "y" * 3_000})
    with pytest.raises(InvalidQuery) as error:
        await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 10, compute=longer)], USER)
    assert (error.value.field, error.value.limit_name) == ("filter", "MOST_BULK_BYTES")
    assert await find(engine) == before


async def test_large_entities_are_computed_beside_the_loop(engine: Engine) -> None:
    """An entity of a megabyte is changed like any other, alone, in an array of upserts, and in a bulk change."""
    made = await insert_one(engine, l=["x" * 1_000] * 1_000, n=0, code="x")
    compute = change(inc={"n": 1}, push={"l": "y"})
    await engine.commit([Update(STORE, made["_id"], {}, compute=compute)], USER)
    await engine.commit([Upsert(STORE, "code", entity(code="x"), {}, compute=compute)] * 2, USER)
    await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 10, compute=compute)], USER)
    read = await get(engine, made["_id"]) or {}
    assert (read["n"], len(read["l"]), read["_rev"]) == (4, 1_004, 5)


class Halving:
    """A computed change other than operators: it halves `n`."""

    size = 10

    def __call__(self, entity: Entity) -> Computed:
        if entity["n"] % 2:
            raise InvalidEntity([Violation("n", "invalid", "Is odd.")])
        return Computed({"n": entity["n"] // 2})


async def test_any_function_of_the_entity_can_be_computed(engine: Engine) -> None:
    made = await insert_one(engine, n=4)
    for _ in range(2):
        await engine.commit([Update(STORE, made["_id"], {}, compute=Halving())], USER)
    with pytest.raises(InvalidEntity):
        await engine.commit([Update(STORE, made["_id"], {}, compute=Halving())], USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 1


async def test_an_entity_that_is_deleted_meanwhile_is_not_found(engine: Engine) -> None:
    """Increments of an entity that goes are made or refused, and an entity does not come back."""
    made = await insert_one(engine, n=0)
    increments = [engine.commit([increment(made["_id"])], USER) for _ in range(30)]
    outcome = await asyncio.gather(
        *increments[:15], engine.commit([Delete(STORE, made["_id"])], USER), *increments[15:], return_exceptions=True
    )
    assert all(isinstance(each, list | NotFound) for each in outcome)
    assert await find(engine) == []


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be computed."""
    monkeypatch.setattr("stores.mongo.computing.LONGEST_COMPUTING", 0)
    for name in ("LONGEST_COMPUTING", *ALLOWANCES):
        monkeypatch.setattr(f"stores.sqlite.computing_time.{name}", 0)


async def test_a_bulk_change_that_takes_too_long_changes_nothing(engine: Engine, no_time: None) -> None:
    """On MongoDB it ends before the server ends its transaction; on SQLite other writes wait for it."""
    await insert(engine, *numbered(500))
    with pytest.raises(ComputedTooLong) as error:
        await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 500, compute=change(inc={"n": 1}))], USER)
    assert error.value.limit_name == "LONGEST_COMPUTING"
    assert [e["_rev"] for e in await find(engine, Query(limit=500))] == [1] * 500


@pytest.mark.engine("sqlite")
async def test_every_commit_that_computes_is_bounded_in_time(engine: Engine, no_time: None) -> None:
    """Other writes wait for the one writer."""
    made = await insert_one(engine, n=0)
    plain = Update(STORE, made["_id"], {"n": 5})
    computed = Update(STORE, made["_id"], {}, compute=change(inc={"n": 1}))

    def steps() -> Steps:
        return (yield from do(plain))

    for writes in ([computed], [plain, computed], [Procedure(STORE, steps)], [Procedure(STORE, steps, bulk=True)]):
        with pytest.raises(ComputedTooLong):
            await engine.commit(writes, USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 0
    await engine.commit([UpdateMany(STORE, EVERYTHING, {"n": 1}, 10), plain], USER)
    assert (await get(engine, made["_id"]) or {})["n"] == 5


@pytest.mark.engine("sqlite")
async def test_what_each_entity_takes_anyway_is_not_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of many entities takes long, though nothing of it does."""
    monkeypatch.setattr("stores.sqlite.computing_time.LONGEST_COMPUTING", 0)
    monkeypatch.setattr("stores.sqlite.computing_time.SECONDS_PER_CHANGE", 1)
    await insert(engine, *numbered(5))
    await engine.commit([UpdateMany(STORE, EVERYTHING, {}, 5, compute=change(inc={"n": 1}))], USER)
    assert [e["_rev"] for e in await find(engine)] == [2] * 5


class Clock:
    """A clock of processor time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def thread_time(self) -> float:
        return self.now

    @contextmanager
    def search(self, *limits: Any) -> Iterator[None]:
        """Take the place of the time limit of a search, which takes ten seconds."""
        self.now += 10
        yield

    def insertion(self, *row: Any) -> Any:
        """Take the place of what makes a row, which takes a second."""
        self.now += 1
        return _row(*row)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("stores.sqlite.computing_time.time", clock)
    for place in ("entity_writes.time_limit", "entity_writes.short_search", "bulk_writes.time_limit"):
        monkeypatch.setattr(f"stores.sqlite.{place}", clock.search)
    monkeypatch.setattr("stores.sqlite.entity_writes._row", clock.insertion)
    return clock


@pytest.mark.engine("sqlite")
async def test_searches_are_not_counted(engine: Engine, clock: Clock) -> None:
    """They have a time limit of their own, and a filter that no index serves takes long in a large store."""
    await insert(engine, *numbered(5))
    where = Compare(("n",), "gte", 3)

    def steps() -> Steps:
        yield from search(STORE, where, 10)
        yield from search(STORE, where, 10)
        return Written(b"", 0, 0)

    before = clock.now
    await engine.commit([Procedure(STORE, steps), DeleteMany(STORE, where, 10), Procedure(STORE, steps)], USER)
    assert clock.now == before + 50
    assert len(await find(engine)) == 3


@pytest.mark.engine("sqlite")
async def test_insertions_among_changes_are_not_counted(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever order they come."""
    monkeypatch.setattr("stores.sqlite.computing_time.SECONDS_PER_CHANGE", 1)
    await insert_one(engine, code="7")

    def steps() -> Steps:
        yield from search(STORE, EVERYTHING, 10)
        return Written(b"", 0, 0)

    upserts = [Upsert(STORE, "code", entity(code=f"{n}"), {"n": 1}) for n in range(8)]
    await engine.commit([Procedure(STORE, steps), *upserts], USER)
    assert [e["_rev"] for e in await find(engine)] == [2] + [1] * 7
