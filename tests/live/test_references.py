"""References by a key in live views: the consequences of deletions, and filters in any form of the key."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.live.conftest import Connect
from tests.platform.answers import good
from tests.support.hub import Client, Hub
from tests.support.live import Beacon, matches_rest, ops

pytestmark = pytest.mark.gate("sqlite", "mongodb")


async def test_deletions_take_what_refers_by_a_key(connected: Connect, hub: Hub, user: Client, beacon: Beacon) -> None:
    """`cascade` removes it, `clear` empties the field or shortens the list, each in one commit with the deletion."""
    products = await hub.define(fields=[{"id": "sku", "type": "Text", "unique": True}])
    by_sku = {"type": "Reference", "store": products, "by": "sku"}
    lines = await hub.define(fields=[{"id": "product", **by_sku, "on_delete": "cascade"}])
    clears = {**by_sku, "on_delete": "clear"}
    notes = await hub.define(fields=[{"id": "main", **clears}, {"id": "others", "many": True, **clears}])
    tea, pot = await user.make_all(products, [{"sku": "tea"}, {"sku": "pot"}])
    gone, _ = await user.make_all(lines, [{"product": "tea"}, {"product": "pot"}])
    first, second, third = await user.make_all(
        notes, [{"main": "tea", "others": ["pot", "tea"]}, {"main": "pot", "others": ["tea"]}, {"main": "pot"}]
    )
    client = await connected(user)
    watches = [await client.watch(store) for store in (products, lines, notes)]
    good(await user.delete(f"/{products}/{tea['_id']}"))
    await client.caught_up(beacon)
    events = [watch.take() for watch in watches]
    assert [ops(each) for each in events[:2]] == [[("remove", tea["_id"])], [("remove", gone["_id"])]]
    assert sorted(ops(events[2])) == sorted([("update", first["_id"]), ("update", second["_id"])])
    assert len({event["commit"] for each in events for event in each}) == 1
    for watch in watches:
        await matches_rest(watch, user)
    left = {id: (each["main"], each.get("others")) for id, each in watches[2].view.items()}
    assert left == {first["_id"]: (None, ["pot"]), second["_id"]: ("pot", []), third["_id"]: ("pot", None)}
    assert [*watches[0].view] == [pot["_id"]]


FORMS: dict[str, tuple[list[str], list[str]]] = {
    "mail": (["ann@example.com", "bob@example.com"], ["Ann@Example.com", "BOB@example.com"]),
    "phone": (["+15145550123", "+15145550199"], ["+1 (514) 555-0123", "001 514-555-0199"]),
    "of": (["ann@example.com", "bob@example.com"], ["ANN@example.com", "Bob@Example.com"]),
}
"""Fields, two values of each as they are stored, and these values in other forms."""


@pytest.mark.parametrize("field", FORMS)
async def test_filters_take_any_form_of_a_value(
    connected: Connect, hub: Hub, user: Client, beacon: Beacon, field: str
) -> None:
    """Of an Email, a Phone and a reference by an Email: entities enter and leave as in a list."""
    people = await hub.define(fields=[{"id": "mail", "type": "Email", "unique": True}])
    await user.make_all(people, [{"mail": mail} for mail in FORMS["mail"][0]])
    fields: list[Entity] = [{"id": "mail", "type": "Email"}, {"id": "phone", "type": "Phone"}]
    store = await hub.define(fields=[*fields, {"id": "of", "type": "Reference", "store": people, "by": "mail"}])
    _, (ann, bob) = FORMS[field]
    none: Any = None
    expected: list[tuple[Any, list[str]]] = [
        (ann, ["a"]),
        ({"$ne": ann}, ["b", "none"]),
        ({"$in": [bob, none]}, ["b", "none"]),
        ({"$in": [ann, bob]}, ["a", "b"]),
        ({"$nin": [ann, none]}, ["b"]),
        ({"$nin": [bob]}, ["a", "none"]),
    ]
    client = await connected(user)
    watches = [await client.watch(store, filter={field: each}) for each, _ in expected]
    made = await user.make_all(store, [{field: ann}, {field: bob}, {field: none}])
    names = dict(zip((each["_id"] for each in made), ("a", "b", "none"), strict=True))
    for _ in range(2):
        await client.caught_up(beacon)
        for watch, (_, seen) in zip(watches, expected, strict=True):
            assert sorted(names[id] for id in watch.view) == seen, watch.request
            await matches_rest(watch, user)
        good(await user.patch(f"/{store}/{made[0]['_id']}", {field: bob}))
        good(await user.patch(f"/{store}/{made[1]['_id']}", {field: ann}))
        names[made[0]["_id"]], names[made[1]["_id"]] = "b", "a"
