"""Other programs create, fill, rename, replace and drop collections, both other ones and those of stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from stores.errors import NotFound, StoreNotEmpty
from stores.mongo.connection import Connection
from stores.mongo.structure import faults, remove_dropped
from stores.options import EngineOptions
from stores.protocol import Delete, Engine, Insert, Update
from stores.records import Change, Entity
from stores.schema import StoreDefinition
from tests.support.engines import Database, mongo_database, opened
from tests.support.entities import STORE, USER, entity, insert_one
from tests.support.hub import eventually
from tests.support.reading import changes_since, follow, following, trail

pytestmark = pytest.mark.engine("mongodb")
Documents = AsyncDatabase[dict[str, Any]]
Act = Callable[[Documents], Awaitable[object]]


@pytest.fixture
async def database(mongodb: str) -> AsyncIterator[Database]:
    fresh = mongo_database(mongodb)
    yield fresh
    await fresh.empty()


@pytest.fixture
async def documents(engine: Engine, database: Database) -> AsyncIterator[Documents]:
    """The database as another program sees it, with that program's collection and a second store."""
    await engine.define(StoreDefinition("others", indexes=("n",)))
    async with AsyncMongoClient[dict[str, Any]](database.location) as client:
        theirs = client.get_default_database()
        await theirs["reports"].insert_many([{"n": n} for n in range(10)])
        yield theirs


async def out(documents: Documents, target: str) -> None:
    await (await documents["reports"].aggregate([{"$match": {"n": {"$gt": 3}}}, {"$out": target}])).to_list()


FOREIGN: dict[str, Act] = {
    "drop": lambda d: d["reports"].drop(),
    "rename": lambda d: d["reports"].rename("statements"),
    "rename over": lambda d: d["reports"].rename("statements", dropTarget=True),
    "out": lambda d: out(d, "statements"),
    "out over": lambda d: out(d, "reports"),
    "update": lambda d: d["reports"].update_many({}, {"$set": {"n": 1}}),
    "delete": lambda d: d["reports"].delete_many({}),
}


@pytest.mark.parametrize("act", FOREIGN.values(), ids=FOREIGN.keys())
async def test_what_happens_to_a_collection_that_is_no_store_concerns_nobody(
    engine: Engine, documents: Documents, act: Act
) -> None:
    """Followers and positions stay valid, and all changes around it are in the feed and in the history."""
    start = await engine.feed.position()
    made = await insert_one(engine, n=0)
    for n in range(1, 6):
        await engine.commit([Update(STORE, made["_id"], {"n": n})], USER)
        if n == 3:
            await act(documents)
    changes = await changes_since(engine.feed, start)
    assert [(c.op, (c.after or {})["n"]) for c in changes] == [("insert", 0), *(("update", n) for n in range(1, 6))]
    assert [c.position for c in await follow(engine.feed, start, 6)] == [c.position for c in changes]
    entries, _ = await trail(engine, STORE, made["_id"])
    assert [e.rev for e in entries] == [1, 2, 3, 4, 5, 6]


async def recorded(engine: Engine, documents: Documents, entity: Entity) -> None:
    """Wait until the recorder of history has reached the entity."""
    await eventually(lambda: documents["_history"].find_one({"entity": entity["_id"]}))


async def test_a_collection_that_is_no_store_has_no_history(engine: Engine, documents: Documents) -> None:
    """Its documents are neither in the feed nor in the history, because it is not in the list of stores."""
    start = await engine.feed.position()
    await documents["reports"].insert_many([{"n": n} for n in range(5_000)])
    made = await insert_one(engine)
    await recorded(engine, documents, made)
    assert await documents["_history"].distinct("store") == [STORE]
    assert [c.id for c in await changes_since(engine.feed, start)] == [made["_id"]]
    assert sorted(await documents["_stores"].distinct("_id")) == ["others", STORE]


BREAKS: dict[str, Act] = {
    "drop": lambda d: d[STORE].drop(),
    "rename": lambda d: d[STORE].rename("elsewhere"),
    "rename over": lambda d: d["reports"].rename(STORE, dropTarget=True),
    "out over": lambda d: out(d, STORE),
}


@pytest.mark.parametrize("act", BREAKS.values(), ids=BREAKS.keys())
async def test_what_happens_to_a_stores_collection_concerns_that_store_alone(
    engine: Engine, documents: Documents, act: Act
) -> None:
    """The feed has a `lost` change for it. All changes around it are in the feed and in the history."""
    start = await engine.feed.position()
    other = await insert_one(engine, n=0, store="others")
    made = await insert_one(engine, n=0)
    await act(documents)
    await engine.define(StoreDefinition(STORE, unique=("code",)))
    await engine.commit([Update("others", other["_id"], {"n": 1})], USER)
    again = await insert_one(engine, n=1)
    await engine.commit([Update(STORE, again["_id"], {"n": 2})], USER)
    expected = [
        ("insert", "others", other["_id"]),
        ("insert", STORE, made["_id"]),
        ("lost", STORE, ""),
        ("update", "others", other["_id"]),
        ("insert", STORE, again["_id"]),
        ("update", STORE, again["_id"]),
    ]
    for changes in (await changes_since(engine.feed, start), await follow(engine.feed, start, 6)):
        assert [(c.op, c.store, c.id) for c in changes] == expected
        orders = [engine.feed.order(c.position) for c in changes]
        assert orders == sorted(set(orders))
    for store, known, revs in (("others", other, [1, 2]), (STORE, made, [1]), (STORE, again, [1, 2])):
        assert [e.rev for e in (await trail(engine, store, known["_id"]))[0]] == revs


async def test_a_change_without_images_is_lost_to_its_store_alone(engine: Engine, documents: Documents) -> None:
    """If another program has switched images off, the feed continues, with a `lost` change for that store."""
    made = await insert_one(engine, n=0)
    await documents.command({"collMod": STORE, "changeStreamPreAndPostImages": {"enabled": False}})
    start = await engine.feed.position()
    other = await insert_one(engine, n=0, store="others")
    for n in range(3):
        await documents[STORE].update_one({"_id": ObjectId(made["_id"])}, {"$set": {"n": n + 1}})
    await engine.commit([Update("others", other["_id"], {"n": 1})], USER)
    changes = await changes_since(engine.feed, start)
    # Consecutive lost changes of one exchange are merged into one.
    kinds = [c.op for c in changes]
    assert kinds[0] == "insert"
    assert kinds[-1] == "update"
    assert set(kinds[1:-1]) == {"lost"}
    definition = StoreDefinition(STORE, unique=("code",))
    await engine.define(definition)
    now = await engine.feed.position()
    await engine.commit([Update(STORE, made["_id"], {"n": 9})], USER)
    assert [(c.op, (c.before or {})["n"]) for c in await changes_since(engine.feed, now)] == [("update", 3)]


async def test_the_feed_knows_a_store_from_its_first_change(engine: Engine, database: Database) -> None:
    """A store that another process defines is followed and recorded from its first change."""
    start = await engine.feed.position()
    async with opened(database.engine()) as other, following(engine.feed, start) as stream:
        await other.define(StoreDefinition("later"))
        made = await insert_one(other, store="later")
        changes: list[Change] = []
        while not changes:
            changes += await anext(stream)
        assert [(c.store, c.id) for c in changes] == [("later", made["_id"])]
        assert [c.id for c in await changes_since(engine.feed, start)] == [made["_id"]]
        assert len((await trail(engine, "later", made["_id"]))[0]) == 1


async def test_a_database_of_an_earlier_hub_gets_its_list_of_stores(
    engine: Engine, documents: Documents, database: Database
) -> None:
    """The list is made before anything is recorded, so that changes in between are in the feed and in the history."""
    start = await engine.feed.position()
    await engine.close()
    await documents["_stores"].drop()
    made = {"_id": ObjectId(), "n": 1, "_rev": 1}
    await documents["others"].insert_one(dict(made))
    await documents["reports"].insert_one({"n": 1})
    async with opened(database.engine()) as again:
        assert sorted(await documents["_stores"].distinct("_id")) == ["others", STORE]
        assert [c.store for c in await changes_since(again.feed, start)] == ["others"]
        assert len((await trail(again, "others", str(made["_id"])))[0]) == 1


async def test_what_a_collection_lacks_is_named(engine: Engine, documents: Documents, database: Database) -> None:
    """`hub doctor` reports a missing collection, missing images and missing indexes, and nothing if there is no
    fault."""
    definition = StoreDefinition("others", indexes=("n",))
    connection = Connection(database.location, EngineOptions().read_timeout)
    await connection.open()
    try:
        assert await faults(connection, definition) == []
        await documents.command({"collMod": "others", "changeStreamPreAndPostImages": {"enabled": False}})
        await documents["others"].drop_index("hub_ix_n")
        assert await faults(connection, definition) == [
            "others has no pre- and post-images",
            "others lacks the index hub_ix_n",
        ]
        await documents["others"].drop()
        assert await faults(connection, definition) == ["others has no collection"]
        await engine.define(definition)
        assert await faults(connection, definition) == []
    finally:
        await connection.close()


async def test_a_dropped_store_is_closed_and_removed_later(
    engine: Engine, database: Database, documents: Documents
) -> None:
    """No process can write to it, even if it does not know of the deletion. A new store of that name is empty and
    works."""
    await engine.drop("others")
    async with opened(database.engine()) as elsewhere:
        for writer in (engine, elsewhere):
            with pytest.raises(NotFound):
                await insert_one(writer, store="others", n=1)
            with pytest.raises(NotFound):
                await writer.commit([Insert("others", entity(n=n)) for n in range(2)], USER)
    await engine.define(StoreDefinition("others"))
    made = await insert_one(engine, store="others", n=1)
    with pytest.raises(StoreNotEmpty):
        await engine.drop("others")
    await engine.commit([Update("others", made["_id"], {"n": 2}), Delete("others", made["_id"])], USER)
    await engine.drop("others")
    connection = Connection(database.location, 15)
    await connection.open()
    await remove_dropped(connection)
    assert "others" in await documents.list_collection_names()
    start = await engine.feed.position()
    await remove_dropped(connection, 0)
    await connection.close()
    assert not {"others", "_dropped"} & {*await documents.list_collection_names()}
    assert await changes_since(engine.feed, start) == []


async def test_a_store_takes_writes_while_its_deletion_is_refused(engine: Engine, documents: Documents) -> None:
    await insert_one(engine, store="others")
    refused = asyncio.Event()

    async def write() -> None:
        while not refused.is_set():
            await insert_one(engine, store="others")

    writers = [asyncio.create_task(write()) for _ in range(4)]
    for _ in range(30):
        with pytest.raises(StoreNotEmpty):
            await engine.drop("others")
    refused.set()
    await asyncio.gather(*writers)


async def test_a_store_that_is_made_while_its_old_collection_is_removed_waits(
    engine: Engine, documents: Documents
) -> None:
    """Otherwise new entities would be removed too. It does not wait for a removal that was interrupted."""
    await engine.drop("others")
    begun = [{"$set": {"removing": "$$NOW"}}]
    await documents["_stores"].update_one({"_id": "others"}, begun)
    making = asyncio.create_task(engine.define(StoreDefinition("others")))
    done, _ = await asyncio.wait((making,), timeout=0.3)
    assert not done
    await documents["_stores"].delete_one({"_id": "others"})
    await making
    start = await engine.feed.position()
    made = await insert_one(engine, store="others", n=1)
    assert [change.id for change in await changes_since(engine.feed, start)] == [made["_id"]]
    await engine.commit([Delete("others", made["_id"])], USER)
    await engine.drop("others")
    long_ago = [{"$set": {"removing": {"$subtract": ["$$NOW", 120_000]}}}]
    await documents["_stores"].update_one({"_id": "others"}, long_ago)
    await engine.define(StoreDefinition("others"))
    await insert_one(engine, store="others", n=2)


async def test_a_read_of_the_feed_does_not_read_the_list_of_stores_each_time(
    engine: Engine, documents: Documents
) -> None:
    """The list is kept in memory and follows stores that are created and deleted."""
    start = await engine.feed.position()
    await changes_since(engine.feed, start)
    await documents.command("profile", 2)
    await engine.define(StoreDefinition("later"))
    made = entity()
    await engine.commit([Insert("later", made)], USER)
    for _ in range(3):
        assert [c.id for c in await changes_since(engine.feed, start)] == [made["_id"]]
    await engine.commit([Delete("later", made["_id"])], USER)
    await engine.drop("later")
    assert [c.op for c in await changes_since(engine.feed, start)][-1] == "delete"
    await documents.command("profile", 0)
    listed = {"ns": f"{documents.name}._stores", "command.find": "_stores", "command.batchSize": 100_000}
    assert await documents["system.profile"].count_documents(listed) <= 1  # the recorder's, if it started late
