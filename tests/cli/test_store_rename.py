"""`hub store rename`, which a hub requires if a store has the name of a new system store."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from hub.engines import make_engine
from hub.services.registry import StoreRegistry
from hub.services.renaming import rename_store
from hub.settings import Settings
from stores.errors import NotAsExpected
from stores.protocol import Engine, Expect, Insert, Update
from stores.query import EVERYTHING, Equal, Query
from stores.records import Entity
from tests.cli.conftest import CommandLine
from tests.support.engines import opened
from tests.support.entities import entity


@pytest.mark.gate("sqlite", "mongodb")
def test_a_store_gets_another_name_with_all_that_belongs_to_it(hub_of_each_engine: CommandLine) -> None:
    """Entities, indexes, history and scopes follow the new name; a second call reports that there is no such store."""
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "visits", "--unique", "code", "--index", "day")
        hub.file("rows.ndjson", '{"code":"a","day":1}\n{"code":"b","day":2}\n')
        hub("import", "visits", "rows.ndjson")
        hub("token", "create", "reader", "--scope", "GET /visits/*", "--scope", "GET /other/*")
    before = hub.rows("visits")
    assert hub("store", "rename", "visits", "calls").out.strip() == "store visits is now calls"
    with hub.serving():
        assert hub.rows("calls") == before
        assert hub.json("token", "list", "--json")[0]["scopes"] == ["GET /calls/*", "GET /other/*"]
        hub.file("again.ndjson", '{"code":"a"}\n')
        assert "code" in hub("import", "calls", "again.ndjson", code=1).err
        hub("export", "visits", code=1)
    assert "no store visits" in hub("store", "rename", "visits", "more", code=1).err
    assert "reserved" in hub("store", "rename", "calls", "users", code=1).err


async def test_references_follow_the_new_name(engine: Engine) -> None:
    """Those of other stores, also inside of objects, and those of the store to itself."""
    await StoreRegistry(engine).open()
    to_visits: Entity = {"id": "visit", "type": "Reference", "store": "visits"}
    inner = {"id": "lines", "type": "Object", "many": True, "fields": [{"id": "visits", "type": "Text"}, to_visits]}
    to_users = {"id": "visits", "type": "Reference", "store": "users"}
    definitions: list[Entity] = [
        {"name": "visits", "fields": [to_visits]},
        {"name": "bills", "fields": [to_users, inner, to_visits | {"id": "first", "on_delete": "cascade"}]},
        {"name": "others", "fields": [to_users]},
        {"name": "open"},
    ]
    await engine.commit([Insert("stores", entity(each)) for each in definitions], None)
    await StoreRegistry(engine).open()
    await rename_store(engine, "visits", "calls")
    registry = StoreRegistry(engine)
    await registry.open()
    assert registry.referring("visits") == ()
    referring = {(each.store, each.path, each.on_delete) for each in registry.referring("calls")}
    assert referring == {
        ("calls", ("visit",), "refuse"),
        ("bills", ("lines", "visit"), "refuse"),
        ("bills", ("first",), "cascade"),
    }
    revisions = {each["name"]: each["_rev"] for each in await engine.entities("stores", Query())}
    assert revisions == {"calls": 2, "bills": 2, "others": 1, "open": 1}


def test_a_store_by_the_name_of_a_system_store_keeps_the_hub_from_starting(hub_of_each_engine: CommandLine) -> None:
    """The start fails with the names of the store and the command, and changes nothing; after the rename it
    succeeds."""
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "visits")
        hub.file("rows.ndjson", '{"n":1}\n')
        hub("import", "visits", "rows.ndjson")
    as_older_version(hub, "visits", "signins")
    refusal = hub("serve", "--port", "0", code=1).err
    assert "hub store rename signins NEW" in refusal
    assert "Traceback" not in refusal
    hub("store", "rename", "signins", "visits")
    with hub.serving():
        assert [row["n"] for row in hub.rows("visits")] == [1]


@pytest.mark.gate("sqlite", "mongodb")
@pytest.mark.engine("mongodb")
def test_a_hub_does_not_start_on_a_rename_that_was_interrupted(hub_of_each_engine: CommandLine) -> None:
    """It would create an empty store by the former name. The refusal names the command, which does the rest."""
    hub = hub_of_each_engine
    with hub.serving():
        hub("store", "create", "visits")
        hub.file("rows.ndjson", '{"n":1}\n')
        hub("import", "visits", "rows.ndjson")
    asyncio.run(rename_without_commit(hub, "visits", "calls"))
    refusal = hub("serve", "--port", "0", code=1).err
    assert "hub store rename visits calls" in refusal
    assert "Traceback" not in refusal
    hub("store", "rename", "visits", "calls")
    with hub.serving():
        assert [row["n"] for row in hub.rows("calls")] == [1]
        hub("store", "create", "visits")


async def rename_without_commit(hub: CommandLine, store: str, name: str) -> None:
    """Rename the storage of a store, but not its definition, as a command that is killed."""
    async with opened(make_engine(Settings(database_url=SecretStr(hub.variables["HUB_DATABASE_URL"])))) as engine:
        with pytest.raises(NotAsExpected):
            await engine.rename(store, name, [Expect("stores", EVERYTHING, least=100)])


def as_older_version(hub: CommandLine, store: str, system: str) -> None:
    """Change the database as if written by a version without a system store of this name."""
    url = hub.variables.get("HUB_DATABASE_URL")
    if url is None:
        asyncio.run(rename_in_file(hub, store, system))
        return
    with MongoClient[dict[str, object]](url) as client:
        database = client.get_default_database()
        database.drop_collection(system)
        database[store].rename(system)
        database["stores"].update_one({"name": store}, {"$set": {"name": system}})


async def rename_in_file(hub: CommandLine, store: str, system: str) -> None:
    async with opened(make_engine(Settings(data_dir=hub.folder / "data"))) as engine:
        await engine.drop(system)
        [definition] = await engine.entities("stores", Query(Equal(("name",), store)))
        await engine.rename(store, system, [Update("stores", definition["_id"], {"name": system})])
