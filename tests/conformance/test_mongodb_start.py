"""A MongoDB whose primary steps down or is slow, during a start and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient

from auth.secrets import Passwords
from hub.services.bootstrap import ensure_admin
from hub.services.registry import StoreRegistry
from stores.errors import Unavailable
from stores.mongo.engine import MongoEngine
from stores.mongo.structure import faults, remove_dropped
from stores.protocol import Write, Written
from stores.records import Entity
from stores.schema import StoreDefinition
from stores.starting import when_available
from tests.support import mongod
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import STORE, entity, insert, insert_one
from tests.support.hub import Hub, HubProcess, eventually
from tests.support.reading import follow, get, trail
from tests.support.tasks import end

pytestmark = pytest.mark.engine("mongodb")

FAULTS = [
    {"errorCode": 11602},  # InterruptedDueToReplStateChange
    # WriteConcernFailed. After a code that names the primary, PyMongo would wait for news of it.
    {"writeConcernError": {"code": 64, "errmsg": "waiting for replication was interrupted"}},
]
SLOWLY = {"blockConnection": True, "blockTimeMS": 3_000}
COMMANDS = ("createIndexes", "create", "collMod", "update", "findAndModify", "commitTransaction")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server with failpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HUB_TEST_MONGODB_URL", raising=False)
        with mongod.running("--fail-points") as server:
            yield server.url


@pytest.fixture
async def database(server: str) -> AsyncIterator[Database]:
    fresh = mongo_database(server)
    yield fresh
    await fresh.empty()


@asynccontextmanager
async def failing(
    database: Database, times: int, commands: tuple[str, ...], *, always: bool = False, **how: object
) -> AsyncIterator[None]:
    """Let these commands of hubs fail so many times, or `always`. Check at the end that they have."""
    point: Entity = {"configureFailPoint": "failCommand"}
    mode = "alwaysOn" if always else {"times": times}
    data = {"failCommands": commands, "appName": "hub", **how}
    async with AsyncMongoClient[Entity](database.location) as client:
        set_up = await client.admin.command({**point, "mode": mode, "data": data})
        try:
            yield
        finally:
            done = await client.admin.command({**point, "mode": "off"})
        assert done["count"] - set_up["count"] >= times


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("command", ["createIndexes", "update", "findAndModify"])
async def test_an_engine_opens_once_there_is_a_primary_again(
    database: Database, command: str, how: dict[str, object]
) -> None:
    """More errors than PyMongo's own retry hides. Afterwards the engine works."""
    async with failing(database, 5, (command,), **how), opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert_one(engine)


@pytest.mark.parametrize("how", FAULTS)
async def test_a_hub_starts_once_there_is_a_primary_again(
    database: Database, tmp_path: Path, how: dict[str, object]
) -> None:
    """Any step of the first start may fail. The first administrator can sign in."""
    async with failing(database, 12, COMMANDS, **how):
        process = await asyncio.to_thread(HubProcess, database, tmp_path, {})
    hub = Hub(process, database)
    await hub.open()
    await hub.close()
    assert process.stop() == 0


def in_full(database: Database, collection: str) -> str:
    """Return the name of a collection with that of its database."""
    return f"{urlsplit(database.location).path[1:]}.{collection}"


async def define_two(database: Database) -> None:
    """Define two stores as an earlier run of the hub did."""
    async with opened(database.engine()) as engine:
        registry = StoreRegistry(engine)
        await registry.open()
        for name in (STORE, "others"):
            await insert_one(engine, store="stores", name=name, indexes=["n"])
        await registry.refresh()


@pytest.mark.parametrize("store", [STORE, "others"])
async def test_a_store_is_not_left_out_when_the_primary_steps_down(database: Database, store: str) -> None:
    """More errors than PyMongo's own retry hides, while a start compares a store with its definition."""
    await define_two(database)
    async with opened(database.engine()) as engine:
        registry = StoreRegistry(engine)
        async with failing(database, 3, ("listIndexes",), namespace=in_full(database, store), errorCode=11602):
            await when_available(registry.open)
        assert registry.get(STORE).indexes == registry.get("others").indexes == ("n",)


async def test_a_replaced_collection_is_put_right_once_there_is_a_primary_again(database: Database) -> None:
    await define_two(database)
    async with opened(database.engine()) as engine:
        registry = StoreRegistry(engine)
        await registry.open()
        since = await engine.feed.position()
        async with AsyncMongoClient[Entity](database.location) as client:
            await client.get_default_database()[STORE].drop()
        async with failing(database, 1, ("create",), errorCode=11602):
            with pytest.raises(Unavailable):
                await registry.follow((await engine.feed.read(since)).changes)
            await registry.follow((await engine.feed.read(since)).changes)
        async with AsyncMongoClient[Entity](database.location) as client:
            assert "hub_creation" in await client.get_default_database()[STORE].index_information()


async def test_the_first_password_is_shown_though_its_commit_was_in_doubt(database: Database) -> None:
    """The commit ends in Unavailable, but has been done: the next attempt finds the administrator."""
    async with opened(database.engine()) as engine:
        await StoreRegistry(engine).open()
        commit, doubts = engine.commit, ["the primary stepped down"]

        async def doubtful(writes: Sequence[Write], by: str | None) -> list[Written]:
            done = await commit(writes, by)
            if doubts:
                raise Unavailable(doubts.pop())
            return done

        engine.commit = doubtful  # type: ignore[method-assign, assignment]
        passwords = Passwords()
        password = await ensure_admin(engine, passwords, "admin", "", 8)
        passwords.close()
        assert password is not None
        assert not doubts
        assert await ensure_admin(engine, passwords, "admin", "", 8) is None


async def test_the_history_waits_until_a_majority_has_its_records(database: Database) -> None:
    """Records that the primary has written alone are written again, before the position moves beyond them."""
    async with opened(database.engine()) as engine, AsyncMongoClient[Entity](database.location) as client:
        await engine.define(StoreDefinition(STORE))
        lease = client.get_default_database()["_meta"]
        async with failing(database, 3, ("insert",), namespace=in_full(database, "_history"), **FAULTS[1]):
            made = await insert_one(engine)
            change = engine.feed.order(await engine.feed.position())

            async def is_recorded() -> bool:
                state = await lease.find_one({"_id": "history"})
                return engine.feed.order((state or {})["position"]) >= change

            await eventually(is_recorded)
        entries, _ = await trail(engine, STORE, made["_id"])
        assert [entry.rev for entry in entries] == [1]


async def test_duplicates_are_counted_although_it_takes_longer_than_other_requests(database: Database) -> None:
    """The count explains why a path cannot be unique: in a store of millions it may take minutes."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        await insert(engine, entity(code="x"), entity(code="x"))
    hurried = Database(database.kind, f"{database.location}&socketTimeoutMS=2000")
    slow = failing(database, 1, ("aggregate",), namespace=in_full(database, STORE), **SLOWLY)
    async with opened(hurried.engine()) as engine, slow:
        assert (await engine.count_duplicates(STORE, "code"))[0] == 2


async def test_a_stream_opens_that_the_server_searches_for_longer_than_other_requests_take(database: Database) -> None:
    """Each attempt has more time than the one before, so the feed and the history go on in the end."""
    async with opened(database.engine()) as engine:
        await engine.define(StoreDefinition(STORE))
        since = await engine.feed.position()
        made = await insert_one(engine)
    hurried = Database(database.kind, f"{database.location}&socketTimeoutMS=1500")
    slow = failing(database, 2, ("aggregate",), always=True, namespace=in_full(database, "$cmd.aggregate"), **SLOWLY)
    async with opened(hurried.engine()) as engine, slow:
        [change] = await follow(engine.feed, since, 1)
        assert change.id == made["_id"]


async def test_a_sweep_that_was_suspended_leaves_the_store_that_was_made_meanwhile(database: Database) -> None:
    """Its claim on the collection of the deleted store has lapsed, and the new store has a collection of its own."""
    async with opened(database.engine()) as engine, AsyncMongoClient[Entity](database.location) as client:
        assert isinstance(engine, MongoEngine)
        await engine.define(StoreDefinition(STORE))
        await engine.drop(STORE)
        names = client.get_default_database()["_stores"]
        async with failing(database, 1, ("renameCollection",), **SLOWLY):
            sweep = asyncio.create_task(remove_dropped(engine._connection, 0))
            try:
                await eventually(lambda: names.find_one({"_id": STORE, "removing": {"$exists": True}}))
                long_ago = datetime.now(UTC) - timedelta(minutes=2)
                await names.update_one({"_id": STORE}, {"$set": {"removing": long_ago}})
                await engine.define(StoreDefinition(STORE))
                made = await insert_one(engine)
                await sweep
            finally:
                await end(sweep)
        assert await get(engine, made["_id"]) == made
        assert await faults(engine._connection, StoreDefinition(STORE)) == []
        assert await names.find_one({"_id": STORE}) == {"_id": STORE}
