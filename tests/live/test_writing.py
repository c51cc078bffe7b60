"""Writes of every kind reach live clients, and so do changes of the store itself."""

from __future__ import annotations

import pytest

from tests.live.conftest import Connect
from tests.support.hub import Client, Hub, entity_of
from tests.support.live import Beacon, matches_rest, ops


@pytest.mark.gate("sqlite", "mongodb")
async def test_bulk_changes_tell_of_each_entity(
    connected: Connect, hub: Hub, user: Client, store: str, beacon: Beacon
) -> None:
    """An array, and PATCH and DELETE with a filter, cause one event per visible entity, in order."""
    other = await hub.as_user()
    hidden = await other.make(store, n=0)
    client = await connected(user)
    watch = await client.watch(store)
    made = await user.make_all(store, [{"n": n} for n in range(20)])
    assert (await user.patch(f"/{store}?n[lt]=5", {"m": 1})).json()["count"] == 5
    assert (await user.delete(f"/{store}?n[gte]=10")).json()["count"] == 10
    await client.caught_up(beacon)
    events = watch.take()
    assert ops(events[:20]) == [("insert", entity["_id"]) for entity in made]
    assert {*ops(events[20:25])} == {("update", entity["_id"]) for entity in made[:5]}
    assert {*ops(events[25:])} == {("remove", entity["_id"]) for entity in made[10:]}
    assert len(events) == 35
    assert hidden["_id"] not in "".join(client.packets)
    await matches_rest(watch, user)


async def test_an_upsert_inserts_or_updates(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """One array does both."""
    client = await connected(user)
    watch = await client.watch(store)
    made = await user.make(store, code="a", n=1)
    answer = await user.post(f"/{store}?upsert=code", [{"code": "a", "n": 2}, {"code": "b", "n": 3}])
    assert answer.status_code == 200, answer.text
    await client.caught_up(beacon)
    first, second, third = watch.take()
    assert (first["op"], second["op"], third["op"]) == ("insert", "update", "insert")
    assert (second["_id"], second["changed"][:1], third["entity"]["n"]) == (made["_id"], ["n"], 3)
    await matches_rest(watch, user)


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_large_import_arrives_whole(connected: Connect, admin: Client, store: str, beacon: Beacon) -> None:
    """One commit creates thousands of entities."""
    client = await connected(admin)
    watch = await client.watch(store, only="n")
    await admin.make_all(store, [{"n": n, "text": "x" * 200} for n in range(5_000)])
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in watch.take()] == [*range(5_000)]


async def test_a_refused_write_tells_nothing(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """No event follows an array with one refused item, a stale revision, or a duplicate value."""
    client = await connected(user)
    watch = await client.watch(store)
    made = await user.make(store, code="a")
    path = f"/{store}/{made['_id']}"
    assert (await user.post(f"/{store}", [{"code": "b"}, {"code": "a"}])).status_code == 409
    assert (await user.patch(path, {"n": 1}, if_match='"7"')).status_code == 412
    assert (await user.post(f"/{store}", {"code": "a"})).status_code == 409
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("insert", made["_id"])]


async def test_a_repeated_request_tells_once(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """The same Idempotency-Key writes once, so there is one event."""
    client = await connected(user)
    watch = await client.watch(store)
    for _ in range(3):
        assert (await user.post(f"/{store}", {"n": 1}, idempotency_key="k-1")).status_code == 200
    await client.caught_up(beacon)
    assert len(watch.take()) == 1


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_redefined_store_ends_its_subscriptions(
    connected: Connect, hub: Hub, admin: Client, user: Client, beacon: Beacon
) -> None:
    """They end with 410, because the fields may differ now; a new subscription does not show fields that are hidden
    now."""
    store = await hub.define(fields=[{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text"}])
    client = await connected(user)
    watch = await client.watch(store)
    await user.make(store, name="a", pin="pin-1")
    [definition] = await admin.list("stores", {"name": store})
    hidden = {"fields": [{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}]}
    entity_of(await admin.patch(f"/stores/{definition['_id']}", hidden))
    made = await user.make(store, name="b", pin="pin-2")
    await client.caught_up(beacon)
    assert watch.ended is not None
    assert watch.ended["code"] == "410"
    assert "error_resync_required" in watch.ended["tags"]
    again = await client.watch(store)
    assert again.view[made["_id"]]["name"] == "b"
    await user.make(store, name="c", pin="pin-3")
    await client.caught_up(beacon)
    assert len(again.take()) == 1
    assert "pin-2" not in "".join(client.packets)
    assert "pin-3" not in "".join(client.packets)


async def test_a_deleted_store_ends_its_subscriptions(
    connected: Connect, admin: Client, user: Client, store: str, beacon: Beacon
) -> None:
    """They end with 404; a later store of the same name does not revive them."""
    client = await connected(user)
    watch = await client.watch(store)
    [definition] = await admin.list("stores", {"name": store})
    entity_of(await admin.delete(f"/stores/{definition['_id']}"))
    await client.caught_up(beacon)
    assert watch.ended == {"code": "404", "message": "Not Found", "tags": ["error_not_found"]}
    assert (await client.subscribe(store))["error"]["code"] == "404"
    await admin.make("stores", name=store)
    await user.make(store)
    await client.caught_up(beacon)
    assert watch.take() == []
    assert len((await client.watch(store)).view) == 1
