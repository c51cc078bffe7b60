"""Values become references: all entities are looked at, however many refer to the same."""

from __future__ import annotations

import pytest

from hub.services import existing_references
from hub.services.entity_count import EntityCount
from hub.services.existing_references import check_references
from stores.data_changes import NOTHING_TO_DO, DataChange
from stores.errors import DataConflict
from stores.field import Field
from stores.protocol import Engine
from stores.records import new_id
from stores.relation import Value
from stores.schema import StoreDefinition
from tests.support.entities import STORE, entity, insert, insert_one

COUNT = 25


async def test_what_refers_to_the_same_is_looked_up_in_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing_references, "LOOKED_UP_AT_ONCE", 10)
    held: list[int] = []
    add_broken = existing_references._add_broken

    async def noted(
        engine: Engine, target: str, by: str, some: dict[str, frozenset[Value]], entities: EntityCount
    ) -> None:
        held.append(len(some))
        await add_broken(engine, target, by, some, entities)

    monkeypatch.setattr(existing_references, "_add_broken", noted)
    await engine.define(StoreDefinition("customers"))
    there, gone = (await insert_one(engine, store="customers"))["_id"], new_id()
    broken = entity(to=[there, gone])
    await insert(engine, *(entity(to=[there, there]) for _ in range(COUNT)), entity(to=[]), broken)
    new = StoreDefinition(STORE, (Field("to", "Reference", many=True, store="customers"),))
    with pytest.raises(DataConflict) as refused:
        await check_references(engine, StoreDefinition(STORE), new, DataChange(NOTHING_TO_DO, new))
    text = f"1 entity has a value of it that no entity of the other store has. The first is {broken['_id']}."
    assert refused.value.found == {"to": text}
    assert sum(held) == COUNT + 2
    assert max(held) <= 10
