"""A repeated request with an Idempotency-Key shows its first outcome as far as the caller may see its entities now."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of, unique


async def share(owner: Client, store: str, entity: Entity, *users: Client) -> None:
    good(await owner.put(f"/{store}/{entity['_id']}/access", {"access": [each.id for each in users]}))


def marks(entity: Entity) -> Entity:
    """Return what is shown of an entity that is out of sight."""
    return {"_id": entity["_id"], "_rev": entity["_rev"]}


async def test_an_upsert_shows_nothing_that_is_out_of_sight_now(user: Client, other: Client, store: str) -> None:
    """Only its id and revision; all of the first answer once it is shared again."""
    key = unique("key")
    made = await user.make(store, code="a", salary=1)
    await share(user, store, made, other)
    request: dict[str, Any] = {"body": {"code": "a", "n": 1}, "params": {"upsert": "code"}}
    first = await other.post(f"/{store}", **request, idempotency_key=key)
    assert entity_of(first)["salary"] == 1
    await share(user, store, made)
    refused(await other.get(f"/{store}/{made['_id']}"), 404)
    again = await other.post(f"/{store}", **request, idempotency_key=key)
    assert entity_of(again) == marks(entity_of(first))
    assert again.headers["etag"] == first.headers["etag"]
    await share(user, store, made, other)
    assert (await other.post(f"/{store}", **request, idempotency_key=key)).content == first.content


@pytest.mark.gate("sqlite", "mongodb")
async def test_each_entity_of_an_array_is_judged_alone(user: Client, other: Client, store: str) -> None:
    """One that is out of sight, one that is in sight, and one that is deleted."""
    key = unique("key")
    shared = [await user.make(store, code=code, salary=1) for code in "abc"]
    for entity in shared:
        await share(user, store, entity, other)
    bodies = [{"code": code, "n": 1} for code in "abcd"]
    first = good(await other.post(f"/{store}", bodies, {"upsert": "code"}, idempotency_key=key))["entities"]
    await share(user, store, shared[0])
    good(await user.patch(f"/{store}/{shared[1]['_id']}", {"salary": 2}))
    good(await user.delete(f"/{store}/{shared[2]['_id']}"))
    again = good(await other.post(f"/{store}", bodies, {"upsert": "code"}, idempotency_key=key))["entities"]
    assert again == [marks(first[0]), *first[1:]]


async def test_a_batch_shows_nothing_that_is_out_of_sight_now(
    hub: Hub, user: Client, other: Client, store: str
) -> None:
    """Its requests may be about several stores, and several about one entity."""
    key = unique("key")
    elsewhere = await hub.define()
    made = [await user.make(name, salary=1) for name in (store, elsewhere)]
    for name, entity in zip((store, elsewhere), made, strict=True):
        await share(user, name, entity, other)
    requests = [
        {"method": "PATCH", "path": f"/{store}/{made[0]['_id']}", "body": {"n": 1}},
        {"method": "PATCH", "path": f"/{elsewhere}/{made[1]['_id']}", "body": {"n": 1}},
        {"method": "POST", "path": f"/{store}", "body": {"n": 1}},
        {"method": "PATCH", "path": f"/{store}/{made[0]['_id']}", "body": {"n": 2}},
    ]
    first = [
        each["body"]
        for each in good(await other.post("/batch", {"requests": requests}, idempotency_key=key))["responses"]
    ]
    assert [entity.get("salary") for entity in first] == [1, 1, None, 1]
    await share(user, store, made[0])
    again = [
        each["body"]
        for each in good(await other.post("/batch", {"requests": requests}, idempotency_key=key))["responses"]
    ]
    hidden = [{"success": True} | marks(entity) for entity in first]
    assert again == [hidden[0], first[1], first[2], hidden[3]]


async def test_a_deleted_entity_is_judged_as_it_was_written(hub: Hub, admin: Client, store: str) -> None:
    """It is shown to those who would see it today, and not to a member who has left the group that it belonged to."""
    key = unique("key")
    group = await admin.make("groups", name=unique("group"))
    owner, member = await hub.as_user(group=group["_id"]), await hub.as_user(group=group["_id"])
    made = await owner.make(store, code="a", salary=1)
    request: dict[str, Any] = {"body": {"code": "a", "n": 1}, "params": {"upsert": "code"}}
    first = await member.post(f"/{store}", **request, idempotency_key=key)
    assert entity_of(first)["salary"] == 1
    good(await owner.delete(f"/{store}/{made['_id']}"))
    assert (await member.post(f"/{store}", **request, idempotency_key=key)).content == first.content
    good(await admin.patch(f"/users/{member.id}", {"group": None}))
    assert entity_of(await member.post(f"/{store}", **request, idempotency_key=key)) == marks(entity_of(first))


async def test_many_entities_are_looked_up_at_once(user: Client, other: Client, store: str) -> None:
    """More than one reply of the database holds."""
    key = unique("key")
    key = unique("key")
    bodies = [{"code": str(n)} for n in range(1_500)]
    first = await other.post(f"/{store}", bodies, idempotency_key=key)
    assert (await other.post(f"/{store}", bodies, idempotency_key=key)).content == first.content
    good(await other.delete(f"/{store}", {"all": "true"}))
    assert (await other.post(f"/{store}", bodies, idempotency_key=key)).content == first.content
