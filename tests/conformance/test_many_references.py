"""Writes with many references: they are collected in a thread, and checked as a bulk procedure."""

from __future__ import annotations

import threading

import pytest

from hub.services import reference_keeper
from hub.services.reference_keeper import LIGHT_VALUES, ReferenceKeeper
from hub.services.registry import StoreRegistry
from stores.errors import InvalidEntity
from stores.protocol import Engine, Insert, Update, Write
from stores.records import Entity, new_id
from stores.relation import Relation
from tests.support.entities import USER, entity, insert_one
from tests.support.principals import user

ORDERS = "orders"
FIELDS = [{"id": "tags", "type": "Reference", "store": ORDERS, "many": True}, {"id": "n", "type": "JSON"}]


@pytest.fixture
async def keeper(engine: Engine) -> ReferenceKeeper:
    registry = StoreRegistry(engine)
    await registry.open()
    await insert_one(engine, {"name": ORDERS, "fields": FIELDS}, store="stores")
    await registry.refresh()
    return ReferenceKeeper(registry, 1_000)


def writes_with(count: int) -> list[Write]:
    tags = [new_id() for _ in range(count)]
    made: Entity = entity(tags=tags[::2], n=[1] * 10_000)
    return [Insert(ORDERS, made), Update(ORDERS, made["_id"], {"tags": tags[1::2]})]


async def test_many_are_collected_in_a_thread(
    engine: Engine, keeper: ReferenceKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what fields with references hold counts."""
    monkeypatch.setattr(reference_keeper, "COLLECTED_AT_ONCE", 50)
    locations, threads = Relation.locations, set[threading.Thread]()

    def noted(self: Relation, entity: Entity) -> object:
        threads.add(threading.current_thread())
        return locations(self, entity)

    monkeypatch.setattr(Relation, "locations", noted)
    for count, on_loop in ((40, True), (60, False)):
        threads.clear()
        writes = writes_with(count)
        guarded = await keeper.guarded(user(admin=True), writes, indexed=False)
        assert (threads == {threading.current_thread()}) is on_loop
        with pytest.raises(InvalidEntity):
            await engine.commit(guarded.writes, USER)


@pytest.mark.parametrize(("count", "bulk"), [(LIGHT_VALUES - 10, False), (LIGHT_VALUES + 10, True)])
async def test_many_are_checked_as_a_bulk_procedure(keeper: ReferenceKeeper, count: int, bulk: bool) -> None:
    [procedure] = keeper.guard(user(admin=True), writes_with(count)).before
    assert procedure.bulk is bulk
