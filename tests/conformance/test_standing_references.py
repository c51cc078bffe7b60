"""Values become references: all entities are looked at, however many refer to the same."""

from __future__ import annotations

import pytest

from hub.services import standing_references
from hub.services.standing_references import check_references
from stores.errors import DataStandsAgainst
from stores.protocol import Engine
from stores.records import new_id
from stores.schema import Field, StoreDefinition
from tests.support.entities import STORE, entity, insert, insert_one

COUNT = 25


async def test_what_refers_to_the_same_is_looked_up_in_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_references, "HELD_AT_ONCE", 10)
    held: list[int] = []
    broken = standing_references._broken

    async def noted(engine: Engine, relation: object, entities: list[object], *rest: object) -> int:
        held.append(len(entities))
        return await broken(engine, relation, entities, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(standing_references, "_broken", noted)
    await engine.define(StoreDefinition("customers"))
    there, gone = (await insert_one(engine, store="customers"))["_id"], new_id()
    await insert(engine, *(entity(to=[there, there]) for _ in range(COUNT)), entity(to=[]), entity(to=[there, gone]))
    new = StoreDefinition(STORE, (Field("to", "Reference", many=True, store="customers"),))
    with pytest.raises(DataStandsAgainst) as refused:
        await check_references(engine, StoreDefinition(STORE), new)
    assert refused.value.found == {"to": "1 entity has a value of it that no entity of the other store has."}
    assert sum(held) == COUNT + 2
    assert max(held) <= 10
