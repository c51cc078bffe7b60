"""Concurrent writes cannot create or restore values that do not fit the store's definition."""

from __future__ import annotations

import pytest

from stores.errors import DataStandsAgainst, InvalidEntity
from stores.records import Entity
from tests.support.racing import Racing


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("spoiled", "mended"), [({"amount": "many"}, {"amount": 5}), ({"must": None}, {"must": "here"})]
)
async def test_a_put_does_not_undo_what_was_just_mended(
    racing: Racing, spoiled: Entity, mended: Entity, hidden: bool
) -> None:
    """A PUT that sends back the invalid value is refused if another request has corrected the value in the meantime."""
    fields = [
        {"id": "amount", "type": "Numeric"},
        {"id": "must", "type": "Text", "required": True},
        {"id": "secret", "type": "Text", "hidden": hidden},
    ]
    await racing.make("stores", {"name": "orders", "fields": fields})
    id = await racing.make("orders", {"amount": 1, "must": "x"})
    await racing.spoil("orders", id, spoiled)
    entities, me = racing.hub.entities, racing.principal
    body = await racing.see("orders", id) | {"secret": "s"}
    racing.before("commit", lambda: entities.change(me, "orders", id, mended, None))
    with pytest.raises(InvalidEntity):
        await entities.replace(me, "orders", id, body, None)
    assert mended.items() <= (await racing.see("orders", id)).items()
    fitting = await racing.see("orders", id)
    await entities.replace(me, "orders", id, fitting, None)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ([{"id": "name", "type": "Text"}], "code"),
        ([{"id": "name", "type": "Text", "required": True}, {"id": "code", "type": "Text"}], "name"),
    ],
    ids=["a removed field", "a required field"],
)
async def test_what_is_written_just_before_a_definition_changes_stands_against_it(
    racing: Racing, fields: list[Entity], at_fault: str
) -> None:
    """The definition is refused although no entity violated it when the entities were counted."""
    before = [{"id": "name", "type": "Text"}, {"id": "code", "type": "Text"}]
    store = await racing.make("stores", {"name": "orders", "fields": before})
    racing.before("define", lambda: racing.make("orders", {"code": "c"}))
    with pytest.raises(DataStandsAgainst) as refusal:
        await racing.hub.entities.change(racing.principal, "stores", store, {"fields": fields}, None)
    assert [*refusal.value.found] == [at_fault]
    assert [field["id"] for field in (await racing.see("stores", store))["fields"]] == ["name", "code"]
