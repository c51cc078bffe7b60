"""A store's storage and the writes that belong to it are created and removed together."""

from __future__ import annotations

import pytest

from stores.errors import DuplicateValue, NotFound, StaleRevision, StoreNotEmpty
from stores.protocol import Delete, Engine, Insert, Update, Write
from stores.records import new_id
from stores.schema import StoreDefinition
from tests.support.engines import Database
from tests.support.entities import STORE, USER, entity, insert, insert_one
from tests.support.reading import find, get, usable


async def test_a_store_is_dropped_with_what_is_written(engine: Engine, database: Database) -> None:
    """The drop and the writes are both done."""
    about = await insert_one(engine, n=1)
    await engine.define(StoreDefinition("doomed", unique=("code",)))
    [written] = await engine.drop("doomed", [Delete(STORE, about["_id"])], USER)
    assert written.rev == 1
    assert await get(engine, about["_id"]) is None
    if database.kind == "sqlite":
        with pytest.raises(NotFound):
            await find(engine, store="doomed")


async def test_a_store_whose_deletion_is_not_written_stays(engine: Engine) -> None:
    """If the writes are refused, the storage stays; if the drop is refused, nothing is written."""
    about = await insert_one(engine, n=1)
    await engine.define(StoreDefinition("kept", unique=("code",)))
    with pytest.raises(StaleRevision):
        await engine.drop("kept", [Delete(STORE, about["_id"], revs=frozenset({7}))], USER)
    await usable(engine, "kept")
    held = await insert_one(engine, store="kept")
    with pytest.raises(StoreNotEmpty):
        await engine.drop("kept", [Delete(STORE, about["_id"])], USER)
    assert await get(engine, about["_id"]) == about
    assert await get(engine, held["_id"], "kept") == held


async def test_a_store_whose_creation_is_refused_promises_nothing(engine: Engine) -> None:
    """If one write is refused, none of the writes is done. Defined again, the stores are usable."""
    definitions = [StoreDefinition(name, unique=("code",)) for name in ("first", "second")]
    refused: list[Write] = [Insert(STORE, entity(n=1)), Update(STORE, new_id(), {"n": 2})]
    with pytest.raises(NotFound):
        await engine.define(*definitions, writes=refused, by=USER)
    assert await find(engine) == []
    [written] = await engine.define(*definitions, writes=[Insert(STORE, entity(n=1))], by=USER)
    assert written.rev == 1
    for name in ("first", "second"):
        await usable(engine, name)


@pytest.mark.parametrize("other", ["Code", "cODE", "c^ode"])
async def test_paths_that_differ_in_case_only_have_indexes_of_their_own(engine: Engine, other: str) -> None:
    """Both can be indexed or unique, and giving up one leaves the other."""
    await engine.define(StoreDefinition("cased", indexes=("code", other)))
    await engine.define(StoreDefinition("cased", unique=("code", other)))
    await insert(engine, entity({"code": 1, other: 2}), store="cased")
    for path, value in (("code", 1), (other, 2)):
        with pytest.raises(DuplicateValue) as raised:
            await insert(engine, entity({"code": 8, other: 9, path: value}), store="cased")
        assert raised.value.field == path
    await engine.define(StoreDefinition("cased", unique=("code",)))
    await insert(engine, entity({"code": 2, other: 2}), store="cased")
    with pytest.raises(DuplicateValue):
        await insert(engine, entity({"code": 1, other: 3}), store="cased")
