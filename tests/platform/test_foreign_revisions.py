"""A document that another program wrote without a revision has revision 0 in answers, queries and conditions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import Int64, ObjectId
from pymongo import AsyncMongoClient

from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub, entity_of, eventually
from tests.support.live import live, make_beacon

pytestmark = pytest.mark.engine("mongodb")

Documents = Any


@pytest.fixture
async def documents(hub: Hub, store: str) -> AsyncIterator[Documents]:
    """Open the store's collection, as another program would."""
    async with AsyncMongoClient[dict[str, Any]](hub.database.location) as client:
        yield client.get_default_database()[store]


async def foreign(documents: Documents, **fields: Any) -> str:
    id = ObjectId()
    await documents.insert_one({"_id": id, "n": 1, **fields})
    return str(id)


async def test_each_way_of_reading_shows_the_same(admin: Client, store: str, documents: Documents) -> None:
    """This holds for single entities, whole and partial lists, meta, and search."""
    id = await foreign(documents, title="red")
    path = f"/{store}"
    for params in ({}, {"only": "_rev"}, {"only": "n,_rev"}):
        answer = await admin.get(f"{path}/{id}", params)
        assert good(answer)["_rev"] == 0
        assert answer.headers["etag"] == '"0"'
        assert [entity["_rev"] for entity in await admin.list(store, params)] == [0]
    assert [entity["_rev"] for entity in await admin.list(store, {"search": "red"})] == [0]
    meta = good(await admin.get(path, {"meta": "true"}))
    assert [meta[end]["_rev"] for end in ("first", "last")] == [0, 0]
    assert "_rev" not in (await admin.list(store, {"only": "n"}))[0]


async def test_a_closed_store_shows_the_same(hub: Hub, admin: Client) -> None:
    store = await hub.define(
        open=False, fields=[{"id": "n", "type": "Number"}, {"id": "pin", "type": "Text", "hidden": True}]
    )
    async with AsyncMongoClient[dict[str, Any]](hub.database.location) as client:
        id = await foreign(client.get_default_database()[store], pin="1")
    assert [entity["_rev"] for entity in await admin.list(store)] == [0]
    assert (await admin.see(store, id))["_rev"] == 0


@pytest.mark.parametrize("group", [["6b083ff898e6c391669e61cc"], {"a": 1}, 5])
async def test_a_user_whose_group_is_no_text_has_no_group(hub: Hub, store: str, group: object) -> None:
    user = await hub.as_user()
    made = await user.make(store)
    async with AsyncMongoClient[dict[str, Any]](hub.database.location) as client:
        users = client.get_default_database()["users"]
        await users.update_one({"_id": ObjectId(user.id)}, {"$set": {"group": group}})

    async def is_seen() -> bool:
        return bool((await hub.admin.see("users", user.id))["group"] == group)

    await eventually(is_seen)
    entity_of(await hub.admin.patch(f"/users/{user.id}", {"disabled": False}))  # its principal is read again
    assert await user.list(store) == [made]
    assert (await user.make(store))["branch"] == []


async def test_a_long_list_shows_the_same(admin: Client, store: str, documents: Documents) -> None:
    """The list is streamed."""
    await documents.insert_many([{"n": n} for n in range(1_200)])
    listed = await admin.list(store, {"limit": "1200"})
    assert {entity["_rev"] for entity in listed} == {0}
    assert len(listed) == 1_200


async def test_events_snapshots_and_delta_sync_show_the_same(
    hub: Hub, admin: Client, store: str, documents: Documents
) -> None:
    """They show 0 until the first change by the hub, which sets it to 1."""
    since = (await admin.get(f"/{store}")).headers["x-position"]
    async with live(hub, admin) as client:
        watch = await client.watch(store)
        id = await foreign(documents)
        await client.until(lambda: watch.events)
        await documents.update_one({"_id": ObjectId(id)}, {"$set": {"n": 2}})
        await client.until(lambda: len(watch.events) == 2)
        late = await client.watch(store, filter={"n": 2})
        assert late.view[id]["_rev"] == 0
        good(await admin.patch(f"/{store}/{id}", {"n": 3}, if_match='"0"'))
        await client.until(lambda: len(watch.events) == 3)
        events = watch.take()
    assert [(e["op"], e["_rev"], e["entity"]["_rev"]) for e in events] == [
        ("insert", 0, 0),
        ("update", 0, 0),
        ("update", 1, 1),
    ]
    assert events[1]["changed"] == ["n"]
    assert "_rev" in events[2]["changed"]
    changes = good(await admin.get(f"/{store}", {"since": since}))["changes"]
    assert [(c["_rev"], c["entity"]["_rev"]) for c in changes] == [(0, 0), (0, 0), (1, 1)]
    entries = good(await admin.get(f"/{store}/{id}/history"))["history"]
    assert [entry["_rev"] for entry in entries] == [0, 0, 1]
    assert entries[2]["changes"]["_rev"] == {"old": 0, "new": 1}


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"_rev": 0}, [0]),
    ({"_rev": {"$lt": 1}}, [0]),
    ({"_rev": {"$lte": 1}}, [0, 1]),
    ({"_rev": {"$gte": 0}}, [0, 1, 2]),
    ({"_rev": {"$in": [0, 2]}}, [0, 2]),
    ({"_rev": {"$nin": [0, 2]}}, [1]),
    ({"_rev": {"$ne": 0}}, [1, 2]),
    ({"_rev": {"$ne": 1}}, [0, 2]),
    ({"_rev": {"$exists": True}}, [0, 1, 2]),
    ({"_rev": {"$exists": False}}, []),
    ({"_rev": None}, []),
    ({"_rev": {"$ne": None}}, [0, 1, 2]),
    ({"_rev": {"$not": {"$gt": 0}}}, [0]),
    ({"$nor": [{"_rev": 1}, {"_rev": {"$gt": 1}}]}, [0]),
    ({"$or": [{"_rev": 0}, {"_rev": 2}]}, [0, 2]),
    ({"_rev": {"$all": [0]}}, [0]),
    ({"_rev": {"$all": list(range(30))}}, []),
]


async def test_filters_and_sorts_take_it_for_zero(hub: Hub, admin: Client, store: str, documents: Documents) -> None:
    """This holds for lists, which the database evaluates, and for live views, which the hub's own matcher evaluates."""
    first, second = await admin.make(store, n=1), await admin.make(store, n=1)
    good(await admin.patch(f"/{store}/{second['_id']}", {"n": 2}))
    zero = await foreign(documents)
    for where, wanted in FILTERS:
        listed = await admin.list(store, {"filter": json.dumps(where)})
        assert sorted(entity["_rev"] for entity in listed) == wanted, where
    for sort, wanted in (("_rev", [0, 1, 2]), ("-_rev", [2, 1, 0])):
        assert [entity["_rev"] for entity in await admin.list(store, {"sort": sort})] == wanted
        assert [entity["_rev"] for entity in await pages(admin, store, sort)] == wanted
    async with live(hub, admin) as client:
        watches = [await client.watch(store, filter=where) for where, _ in FILTERS]
        for watch, (where, wanted) in zip(watches, FILTERS, strict=True):
            assert sorted(entity["_rev"] for entity in watch.view.values()) == wanted, where
        await documents.update_one({"_id": ObjectId(zero)}, {"$set": {"n": 5}})
        await client.caught_up(await make_beacon(hub))
        for watch, (where, wanted) in zip(watches, FILTERS, strict=True):
            assert [event["op"] for event in watch.take()] == (["update"] if 0 in wanted else []), where
    assert first["_rev"] == 1


async def pages(client: Client, store: str, sort: str) -> list[dict[str, Any]]:
    """Read a list in pages of one entity."""
    found: list[dict[str, Any]] = []
    answer = await client.get(f"/{store}", {"sort": sort, "limit": "1"})
    while True:
        found += good(answer)
        following = answer.links.get("next", {}).get("url")
        if following is None:
            return found
        answer = await client.get(following.partition("/api/v1")[2])


async def test_conditions_on_it_hold(admin: Client, store: str, documents: Documents) -> None:
    """If-Match and If-None-Match work for reads, changes, replacements and deletions."""
    id = await foreign(documents)
    path = f"/{store}/{id}"
    assert (await admin.get(path, None, if_none_match='"0"')).status_code == 304
    for call in (admin.patch, admin.put):
        refused(await call(path, {"n": 2}, if_match='"1"'), 412)
        refused(await call(path, {"n": 2}, if_none_match='"0"'), 412)
    refused(await admin.delete(path, None, if_match='"1"'), 412)
    replaced = good(await admin.put(path, {"n": 2}, if_match='"0"'))
    assert replaced["_rev"] == 1
    other = await foreign(documents)
    good(await admin.delete(f"/{store}/{other}", None, if_match='"0"'))


KEPT: list[tuple[Any, int]] = [(None, 0), ("7", 0), (True, 0), ([7], 0), ({}, 0), (7.0, 7), (Int64(7), 7)]


@pytest.mark.parametrize(("kept", "shown"), KEPT, ids=[repr(kept) for kept, _ in KEPT])
async def test_what_is_no_revision_counts_as_none(
    admin: Client, store: str, documents: Documents, kept: Any, shown: int
) -> None:
    """A revision written as a float counts. In all cases the hub can change and delete the entity."""
    id = await foreign(documents, _rev=kept)
    path = f"/{store}/{id}"
    answer = await admin.get(path)
    assert answer.headers["etag"] == f'"{shown}"'
    [listed] = await admin.list(store)
    for seen in (good(answer)["_rev"], listed["_rev"]):
        assert type(seen) is int
        assert seen == shown
    changed = await admin.patch(path, {"n": 2}, if_match=f'"{shown}"')
    assert good(changed)["_rev"] == shown + 1
    assert good(await admin.put(path, {"n": 3}, if_match=f'"{shown + 1}"'))["_rev"] == shown + 2
    assert [entity["_rev"] for entity in await admin.list(store, {"_rev": str(shown + 2)})] == [shown + 2]
    good(await admin.delete(path))
    other = await foreign(documents, code="a", _rev=kept)
    assert good(await admin.patch(f"/{store}", {"n": 8}, {"n": 1}))["count"] == 1
    assert good(await admin.post(f"/{store}", {"code": "a", "n": 9}, {"upsert": "code"}))["_rev"] == shown + 2
    good(await admin.delete(f"/{store}/{other}", None, if_match=f'"{shown + 2}"'))
    last = await foreign(documents, _rev=kept)
    good(await admin.delete(f"/{store}/{last}", None, if_match=f'"{shown}"'))


async def test_what_is_no_revision_in_any_store_of_a_batch(hub: Hub, admin: Client, store: str) -> None:
    """In a store other than that of the first request, and where a deletion clears references."""
    other = await hub.define(
        fields=[{"id": "to", "type": "Reference", "store": store, "on_delete": "clear"}], open=True
    )
    target = await admin.make(store)
    async with AsyncMongoClient[dict[str, Any]](hub.database.location) as client:
        documents = client.get_default_database()[other]
        changed, cleared = await foreign(documents, _rev="7"), await foreign(documents, _rev="7", to=target["_id"])
    requests = [
        {"method": "POST", "path": f"/{store}", "body": {}},
        {"method": "PATCH", "path": f"/{other}/{changed}", "body": {"n": 2}},
    ]
    done = good(await admin.post("/batch", {"requests": requests}))["responses"]
    assert done[1]["body"]["_rev"] == 1
    requests[1] = {"method": "DELETE", "path": f"/{store}/{target['_id']}"}
    good(await admin.post("/batch", {"requests": requests}))
    after = await admin.see(other, cleared)
    assert (after.get("to"), after["_rev"]) == (None, 1)
