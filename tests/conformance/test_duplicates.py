"""The count of entities with equal values at a path, which a unique index would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from stores.errors import DuplicateValue
from stores.protocol import Engine
from stores.schema import StoreDefinition
from tests.support.entities import STORE, entity, insert


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([], 0),
        (["a", "b", 1, 2, "1"], 0),
        (["a", "a", "b", "a", 1, 1.0, 2, 2.5, 2.5], 7),
        ([None, None, True, True, {"x": 1}, {"x": 1}], 0),
        (["", "", "\0", "é", "e\u0301"], 2),
        ([2**60, 2**60 + 1, float(2**60)], 2),
    ],
)
async def test_the_entities_that_share_a_value_are_counted(engine: Engine, values: list[Any], count: int) -> None:
    made = [entity(at={"code": value}) for value in values]
    await insert(engine, *made, entity(), entity(at="text"))
    found, first = await engine.count_duplicates(STORE, "at.code")
    assert found == count
    assert first == (min(e["_id"] for e in made if values.count(e["at"]["code"]) > 1) if count else "")
    if count:
        with pytest.raises(DuplicateValue):
            await engine.define(StoreDefinition(STORE, unique=("at.code",)))


async def test_no_array_is_entered(engine: Engine) -> None:
    await insert(engine, entity(mark=["a"]), entity(mark=["a"]), entity(mark="a"), entity(mark="b"))
    assert (await engine.count_duplicates(STORE, "mark"))[0] == 0
    await insert(engine, entity(list=[{"mark": 1}]), entity(list=[{"mark": 1}]))
    assert (await engine.count_duplicates(STORE, "list.mark"))[0] == 0
