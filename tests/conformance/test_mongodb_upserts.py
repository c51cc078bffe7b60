"""Arrays of upserts on MongoDB, which are read and written together."""

from __future__ import annotations

import pytest
from bson import Decimal128
from pymongo import AsyncMongoClient

from stores.errors import DuplicateValue, EntityTooLarge, UpsertTooLarge
from stores.mongo import upserts
from stores.options import EngineOptions
from stores.protocol import MOST_UPSERT_BYTES, Engine, Upsert
from stores.records import Entity
from stores.schema import StoreDefinition
from tests.support.engines import Database, opened
from tests.support.entities import STORE, USER, entity, insert, value
from tests.support.reading import find

pytestmark = pytest.mark.engine("mongodb")


@pytest.fixture(autouse=True)
async def definition(engine: Engine) -> None:
    await engine.define(StoreDefinition(STORE, unique=("code", "email")))


def upsert(code: object, **changes: object) -> Upsert:
    return Upsert(STORE, "code", entity({"code": code, **changes}), {"code": code, **changes})


@pytest.mark.parametrize("repeated", [False, True])
async def test_the_entities_that_an_array_meets_are_bounded_by_bytes(engine: Engine, repeated: bool) -> None:
    """Nothing is written, whether different entities are met or the same one again and again."""
    size = MOST_UPSERT_BYTES // 20
    for n in range(1 if repeated else 22):
        await insert(engine, entity(code=n, text="x" * size))
    fitting = [upsert(0 if repeated else n, n=1) for n in range(19)]
    await engine.commit(fitting, USER)
    with pytest.raises(UpsertTooLarge):
        await engine.commit([upsert(0 if repeated else n, n=2) for n in range(22)], USER)
    assert {found.get("n") for found in await find(engine)} <= {1, None}


async def test_a_duplicate_is_named_by_its_place_in_the_array(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although items that alter nothing are not written, and others in several requests."""
    monkeypatch.setattr(upserts, "PART_WRITES", 2)
    await insert(engine, entity(code=0, email="a"), *(entity(code=n) for n in range(1, 6)))
    writes = [upsert(0), *(upsert(n, n=n) for n in range(1, 5)), upsert(5), upsert(6, email="a")]
    with pytest.raises(DuplicateValue) as refusal:
        await engine.commit(writes, USER)
    assert (refusal.value.field, refusal.value.index) == ("email", 6)
    outcome = await engine.commit([*writes[:-1], upsert(6, email="b")], USER)
    assert [value(done)["code"] for done in outcome] == [*range(7)]
    assert [done.rev for done in outcome] == [1, 2, 2, 2, 2, 1, 1]
    assert [done.count for done in outcome] == [0, 1, 1, 1, 1, 0, 1]
    assert {found["_id"]: found for found in await find(engine)} == {value(d)["_id"]: value(d) for d in outcome}


async def test_the_first_entity_that_grows_too_large_is_named(database: Database) -> None:
    async with opened(database.engine(EngineOptions(max_entity_bytes=1_000))) as engine:
        await insert(engine, *(entity(code=n, text="x" * 400) for n in range(5)))
        with pytest.raises(EntityTooLarge) as refusal:
            await engine.commit([upsert(n, more="x" * 400 * (n > 1)) for n in (0, 4, 3, 1)], USER)
        assert refusal.value.index == 1


async def test_a_value_of_another_programs_type_is_not_met(engine: Engine, database: Database) -> None:
    async with AsyncMongoClient[Entity](database.location) as client:
        await client.get_default_database()[STORE].insert_one({"code": Decimal128("5")})
    with pytest.raises(DuplicateValue) as refusal:
        await engine.commit([upsert(4), upsert(5)], USER)
    assert refusal.value.index == 1
