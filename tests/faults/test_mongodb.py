"""Faults of MongoDB: its primary is killed, steps down or freezes, or all members freeze."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure

from stores.errors import Unavailable
from stores.options import EngineOptions
from stores.protocol import Engine
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.starting import when_available
from tests.faults.conftest import Report
from tests.faults.hub import MortalHub, mortal_hub
from tests.faults.workload import Workload, workload
from tests.faults.writers import SEPARATE
from tests.support import mongod
from tests.support.consuming import at_work, is_counted
from tests.support.counting import COUNTED, COUNTS, counted, counting, write
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import STORE, entity, insert_one
from tests.support.hub import eventually
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.engine("mongodb"),
    pytest.mark.faults,
    # PyMongo leaves its socket to the garbage collector if a member is killed while it connects.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

Mongo = AsyncMongoClient[Entity]
Server = tuple[str, int]
LARGE = 15_000_000
"""Characters of an entity whose history takes longer to record than a member takes to stop."""
SELECTION = 5.0
"""Seconds for which the driver looks for a primary."""
ALREADY_STEPPING_DOWN = 117
"""MongoDB's code ConflictingOperationInProgress."""
STANDSTILL = 10.0
"""Seconds for which all of MongoDB is frozen."""


@pytest.fixture(scope="module")
def replica_set() -> Iterator[str]:
    """The URL of a replica set of three members; a member that ends is started again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HUB_TEST_MONGODB_URL", raising=False)
        ports = [free_port() for _ in range(3)]
        with mongod.running("--restart", "--cache", "0.25", ports=ports) as server:
            yield server.url


@pytest.fixture
async def replicated(replica_set: str, tmp_path: Path) -> AsyncIterator[MortalHub]:
    """A hub on the replica set, with all members running."""
    async with Mongo(replica_set) as mongo:
        await whole(mongo)
    async with mortal_hub(mongo_database(replica_set), tmp_path / "hub") as hub:
        yield hub


async def primary(mongo: Mongo) -> Server:
    """Return the current primary, as seen by the members that answer. On a busy machine one may step down or be elected
    at any time."""

    async def known() -> Server | None:
        await mongo.admin.command("ping")
        return await mongo.primary

    found = await eventually(known)
    assert found is not None
    return found


async def pid_of(server: Server) -> int:
    async with Mongo(*server, directConnection=True) as mongo:
        return int((await mongo.admin.command("serverStatus"))["pid"])


async def another(mongo: Mongo, before: Server) -> bool:
    """Return whether there is a primary other than `before`."""
    try:
        return await primary(mongo) != before
    except ConnectionFailure:
        return False


async def all_there(mongo: Mongo) -> bool:
    """Return whether every member is a primary or a secondary, so that the next fault leaves a majority."""
    try:
        status = await mongo.admin.command("replSetGetStatus")
    except ConnectionFailure:
        return False
    return all(member["state"] in (1, 2) for member in status["members"])


async def whole(mongo: Mongo) -> None:
    await eventually(lambda: all_there(mongo), 60)


async def upset(hub: MortalHub, times: int, fault: Callable[[Mongo, Server], Awaitable[object]]) -> Workload:
    """Run writers and followers, and cause the fault `times` times, each with the current primary."""
    async with workload(hub) as load, Mongo(hub.database.location) as mongo:
        for _ in range(times):
            await whole(mongo)
            await load.progress(random.randint(20, 60))
            await fault(mongo, await primary(mongo))
            await load.progress(20)
    return load


async def test_the_primary_is_killed(replicated: MortalHub, times: int, report: Report) -> None:
    """SIGKILL: another member is elected; the killed one returns and catches up."""

    async def kill(mongo: Mongo, primary: Server) -> None:
        os.kill(await pid_of(primary), signal.SIGKILL)

    kills = 1 + times // 4
    load = await upset(replicated, kills, kill)
    report(await load.verdict("MongoDB primary killed", kills))


async def test_a_hub_starts_once_there_is_a_primary(replica_set: str, tmp_path: Path) -> None:
    """The first start on a database, while only one member answers, for longer than one attempt takes."""
    async with Mongo(replica_set) as mongo:
        await whole(mongo)
        pids = [await pid_of(server) for server in sorted(mongo.nodes)[:2]]
    signal_all(pids, signal.SIGSTOP)
    waking = asyncio.create_task(continue_after(pids, SELECTION + 2))
    try:
        async with mortal_hub(mongo_database(replica_set), tmp_path / "hub") as hub, Mongo(replica_set) as mongo:
            await waking
            await whole(mongo)
            async with workload(hub) as load:
                await load.progress(5)
    finally:
        await waking


async def continue_after(pids: Sequence[int], seconds: float) -> None:
    await asyncio.sleep(seconds)
    signal_all(pids, signal.SIGCONT)


def signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.full
async def test_history_outlives_a_primary_that_had_recorded_it_alone(replica_set: str) -> None:
    """The primary records a change while the others are frozen, and is then frozen itself until another is elected. The
    new primary has the change but not its record, so the record is made again."""
    database = mongo_database(replica_set)
    async with Mongo(database.location) as mongo:
        await whole(mongo)
        async with opened(database.engine(EngineOptions(max_entity_bytes=2 * LARGE))) as engine:
            await engine.define(StoreDefinition(STORE))
            first = await primary(mongo)
            alone, others = await pid_of(first), [await pid_of(server) for server in mongo.nodes - {first}]
            await insert_one(engine)
            # Only then it follows the feed: while the others are frozen, a lost stream could not be opened again.
            await eventually(lambda: recorded_at(first, database, 1))
            made = await insert_one(engine, entity(text="x" * LARGE))
            with frozen(others):
                await eventually(lambda: recorded_at(first, database, 2))
                os.kill(alone, signal.SIGSTOP)
            with frozen([alone]):
                await eventually(lambda: another(mongo, first), 60)
                await eventually(lambda: is_written(engine), 60)
            await whole(mongo)
            records = mongo.get_default_database()["_history"]

            async def all_recorded() -> bool:
                return await records.distinct("op", {"entity": made["_id"]}) == ["insert"]

            await eventually(all_recorded, 30)
        await database.drop()


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def recorded_at(server: Server, database: Database, count: int) -> bool:
    """Return whether one member has recorded so many changes."""
    async with Mongo(*server, directConnection=True) as mongo:
        records = mongo[urlsplit(database.location).path.strip("/")]["_history"]
        return await records.count_documents({}) >= count


async def is_written(engine: Engine) -> bool:
    try:
        await insert_one(engine, entity())
    except Unavailable:
        return False
    return True


async def test_the_primary_steps_down(replicated: MortalHub, times: int, report: Report) -> None:
    """`replSetStepDown` during writes."""

    async def elect(mongo: Mongo, primary: Server) -> None:
        await step_down(mongo)
        await eventually(lambda: another(mongo, primary))

    steps = 1 + times // 4
    load = await upset(replicated, steps, elect)
    report(await load.verdict("MongoDB primary steps down", steps))


async def step_down(mongo: Mongo) -> None:
    """Make the primary step down. It closes all connections, and the driver may then send the command once more."""
    try:
        await mongo.admin.command({"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 5})
    except AutoReconnect:
        pass
    except OperationFailure as error:
        if error.code != ALREADY_STEPPING_DOWN:
            raise


async def test_a_consumer_counts_exactly_over_failovers(replica_set: str, times: int) -> None:
    """The primary is killed or steps down during a consumer's commits: each change counts once."""
    database = mongo_database(replica_set)
    async with Mongo(database.location) as mongo, opened(database.engine()) as engine:
        await whole(mongo)
        await when_available(partial(engine.define, COUNTS, *COUNTED))  # the members may still elect
        since = await when_available(engine.feed.position)
        async with at_work(counting(engine, since, most_changes=5)):
            enough = asyncio.Event()
            writing = asyncio.create_task(write_through(engine, enough))
            for number in range(1 + times // 2):
                await whole(mongo)
                await grows(engine)
                before = await primary(mongo)
                if number % 2:
                    os.kill(await pid_of(before), signal.SIGKILL)
                else:
                    await step_down(mongo)
                await eventually(lambda: another(mongo, before), 60)  # noqa: B023
                await grows(engine)
            enough.set()
            await writing  # a cancelled write might still be committed, after the consumer has counted
            await eventually(lambda: is_counted(engine, since), 60)
        await eventually(lambda: is_counted(engine, since), 60)  # and the end of the consumer has changed nothing
    await database.drop()


async def write_through(engine: Engine, enough: asyncio.Event) -> None:
    """Write until there is enough, ignoring failures of the database."""
    for number in count():
        if enough.is_set():
            return
        try:
            await write(engine, number)
        except Unavailable:
            await asyncio.sleep(0.1)


async def grows(engine: Engine) -> None:
    """Wait until more changes have been counted."""

    async def total() -> int:
        try:
            return sum((await counted(engine)).values())
        except Unavailable:
            return 0

    before = await eventually(total, 60)

    async def has_grown() -> bool:
        return await total() > before + 30

    await eventually(has_grown, 60)


@pytest.mark.full
async def test_the_primary_freezes(replicated: MortalHub, report: Report) -> None:
    """SIGSTOP: another member is elected; after SIGCONT the old one still acts as the primary for a moment."""
    async with workload(replicated) as load, Mongo(replicated.database.location) as mongo:
        await whole(mongo)
        await load.progress(40)
        before = await primary(mongo)
        pid = await pid_of(before)
        os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: another(mongo, before), 60)
            await load.progress(40)
        finally:
            os.kill(pid, signal.SIGCONT)
        await load.progress(40)
        await whole(mongo)
    report(await load.verdict("MongoDB primary frozen", 1))


async def test_mongodb_stands_still(tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members are frozen for ten seconds; nothing is restarted."""
    monkeypatch.delenv("HUB_TEST_MONGODB_URL", raising=False)
    with mongod.running() as server:
        database: Database = mongo_database(server.url)
        async with mortal_hub(database, tmp_path / "hub") as hub, workload(hub, crowd=SEPARATE) as load:
            await load.progress(40)
            pid = await pid_of(("127.0.0.1", server.port))
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(STANDSTILL)
            finally:
                os.kill(pid, signal.SIGCONT)
            await load.progress(40)
            await load.end()
            report(await load.verdict("MongoDB stands still for 10 s", 1))
