"""Stamps over REST: whatever changes an entity sets another one, and a poller needs no more than the last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stores.records import Entity, new_id, now_us
from tests.platform.answers import definition_of, good, refused
from tests.support.hub import Client, Hub, unique

pytestmark = pytest.mark.gate("sqlite", "mongodb")

NAME: Entity = {"id": "name", "type": "Text"}
CODE: Entity = {"id": "code", "type": "Text", "unique": True}
COUNT: Entity = {"id": "n", "type": "Number"}
CHANGED: Entity = {"id": "changed", "type": "Stamp", "index": True}
FIELDS = [NAME, CODE, COUNT, CHANGED]


@pytest.fixture
async def store(hub: Hub) -> str:
    return await hub.define(fields=FIELDS)


async def stamp(client: Client, store: str, one: Entity) -> int:
    """Return the stamp of an entity as it is now."""
    found = (await client.see(store, one["_id"]))["changed"]
    assert isinstance(found, int)
    return found


async def since(client: Client, store: str, last: int) -> list[Entity]:
    """Return what has changed since a stamp, as a poller asks for it."""
    return await client.list(store, {"filter": json.dumps({"changed": {"$gt": last}}), "sort": "changed"})


async def test_stamps_are_the_hubs(user: Client, store: str) -> None:
    """What is sent is dropped: in creations, changes, replacements, bulk changes, upserts and batches."""
    before = now_us()
    first = await user.make(store, name="a", changed=7)
    assert before <= first["changed"] <= now_us()
    several = await user.make_all(store, [{"name": "b", "changed": "x"}, {"name": "c", "changed": None}])
    last, path = several[-1]["changed"], f"/{store}/{first['_id']}"
    assert first["changed"] < several[0]["changed"] < last
    for answer in (
        await user.patch(path, {"name": "d", "changed": 5}),
        await user.put(path, {"name": "e", "changed": 2**60}),
        await user.put(path, {"name": "f"}),
        await user.patch(path, {"$inc": {"n": 1}, "$set": {"name": "g"}, "changed": None}),
    ):
        after = good(answer)["changed"]
        assert after > last
        last = after
    assert good(await user.patch(f"/{store}?name=g", {"changed": 1, "name": "h"}))["count"] == 1
    after = await stamp(user, store, first)
    assert after > last
    upsert = good(await user.post(f"/{store}", {"code": "a", "changed": 5}, {"upsert": "code"}))
    assert upsert["changed"] > after
    again = good(await user.post(f"/{store}", {"code": "a", "n": 1, "changed": 5}, {"upsert": "code"}))
    assert again["changed"] > upsert["changed"]
    requests = [{"method": "PATCH", "path": path, "body": {"name": "i", "changed": 5}}]
    [done] = good(await user.post("/batch", {"requests": requests}))["responses"]
    assert done["body"]["changed"] > again["changed"]


async def test_files_set_stamps(hub: Hub, user: Client) -> None:
    store = await hub.define(fields=[CHANGED, {"id": "papers", "type": "File", "many": True}])
    made = await user.make(store)
    path = f"/{store}/{made['_id']}/files/papers"
    answer = good(await user.request("POST", path, files={"file": ("a.txt", b"text", "text/plain")}))
    assert answer["changed"] > made["changed"]
    removed = good(await user.delete(f"{path}/{answer['papers'][0]['id']}"))
    assert removed["changed"] > answer["changed"]


async def test_kept_serial_numbers_keep_no_stamps(hub: Hub, admin: Client) -> None:
    store = await hub.define(fields=[NAME, CHANGED, {"id": "number", "type": "Serial"}])
    before = now_us()
    [made] = good(await admin.post(f"/{store}", [{"number": 7, "changed": 5}], {"keep": "serials"}))["entities"]
    assert made["number"] == 7
    assert made["changed"] >= before


async def test_what_alters_nothing_is_not_stamped(user: Client, store: str) -> None:
    one = await user.make(store, name="a", code="a", n=1)
    path = f"/{store}/{one['_id']}"
    body = {"name": "a", "code": "a", "n": 1}
    for answer in (
        await user.patch(path, {"name": "a"}),
        await user.patch(path, {"changed": 5}),
        await user.put(path, body),
        await user.put(path, one),
        await user.patch(path, {"$inc": {"n": 0}}),
        await user.post(f"/{store}", body, {"upsert": "code"}),
        await user.post(f"/{store}", [body], {"upsert": "code"}),
        await user.patch(f"/{store}?name=a", {"n": 1}),
        await user.post("/batch", {"requests": [{"method": "PUT", "path": path, "body": body}]}),
    ):
        good(answer)
    assert await user.see(store, one["_id"]) == one


async def test_a_poller_asks_for_what_has_changed(hub: Hub, user: Client, other: Client, store: str) -> None:
    """Also for what is shared, by the filters of lists and of parameters."""
    a, b, _ = await user.make_all(store, [{"name": "a"}, {"name": "b"}, {"name": "c"}])
    last = (await since(user, store, 0))[-1]["changed"]
    assert await since(user, store, last) == []
    good(await user.patch(f"/{store}/{b['_id']}", {"name": "bb"}))
    good(await user.patch(f"/{store}/{a['_id']}", {"name": "aa"}))
    assert [each["name"] for each in await since(user, store, last)] == ["bb", "aa"]
    assert [each["name"] for each in await user.list(store, {"changed[gt]": str(last), "sort": "-changed"})] == [
        "aa",
        "bb",
    ]
    seen = (await since(user, store, 0))[-1]["changed"]
    assert await since(other, store, 0) == []
    good(await user.put(f"/{store}/{a['_id']}/access", {"access": [other.id]}))
    assert [each["name"] for each in await since(other, store, seen)] == ["aa"]


async def test_the_path_of_a_moved_group_is_a_change(hub: Hub, admin: Client, store: str) -> None:
    """Whoever comes to see the entities finds them as changed."""
    top, group = await hub.group(), await hub.group()
    member, chief = await hub.as_user(group=group), await hub.as_user(group=top)
    made = await member.make_all(store, [{"name": "a"}, {"name": "b"}])
    assert await since(chief, store, 0) == []
    good(await admin.patch(f"/groups/{group}", {"parent": top}))
    found = await since(chief, store, made[-1]["changed"])
    assert [each["_id"] for each in found] == [each["_id"] for each in made]


async def test_a_cleared_reference_is_a_change(hub: Hub, user: Client) -> None:
    """By a deletion alone, in bulk, and in a batch."""
    customers = await hub.define()
    customer = {"id": "customer", "type": "Reference", "store": customers, "on_delete": "clear"}
    orders = await hub.define(fields=[customer, CHANGED])
    targets = await user.make_all(customers, [{"name": name} for name in "abc"])
    made = await user.make_all(orders, [{"customer": each["_id"]} for each in targets])
    last = made[-1]["changed"]
    good(await user.delete(f"/{customers}/{targets[0]['_id']}"))
    good(await user.delete(f"/{customers}?name=b"))
    requests = [{"method": "DELETE", "path": f"/{customers}/{targets[2]['_id']}"}]
    good(await user.post("/batch", {"requests": requests}))
    found = await since(user, orders, last)
    assert [(each["_id"], each["customer"]) for each in found] == [(each["_id"], None) for each in made]


async def test_a_writer_who_may_not_read_touches(hub: Hub, user: Client, store: str) -> None:
    """An unchanged revision would tell the values."""
    one = await user.make(store, name="a")
    blind = await hub.with_token(user.user, scopes=[f"PATCH /{store}/*"])
    good(await blind.patch(f"/{store}/{one['_id']}", {"name": "a"}))
    assert await stamp(user, store, one) > one["changed"]


# Definitions.


async def change(admin: Client, store: str, fields: list[Entity], **data: Any) -> Any:
    return await admin.patch(await definition_of(admin, store), {"fields": fields, "data": data})


async def test_a_stamp_is_added_to_a_store_with_entities(hub: Hub, admin: Client, user: Client) -> None:
    """They have none until they change, or are filled."""
    store = await hub.define(fields=[NAME])
    a, b, c = await user.make_all(store, [{"name": name} for name in "abc"])
    good(await change(admin, store, [NAME, CHANGED]))
    assert await since(user, store, 0) == []
    good(await user.patch(f"/{store}/{b['_id']}", {"name": "bb"}))
    [found] = await since(user, store, 0)
    assert (found["_id"], found["_rev"]) == (b["_id"], 2)
    good(await change(admin, store, [NAME, CHANGED], fill=["changed"]))
    filled = await since(user, store, 0)
    assert [each["_id"] for each in filled] == [b["_id"], a["_id"], c["_id"]]
    assert filled[0] == found


async def test_a_stamp_is_filled_in_steps(hub: Hub, admin: Client, user: Client) -> None:
    store = await hub.define(fields=[NAME])
    made = await user.make_all(store, [{"name": name} for name in "abcde"])
    path = await definition_of(admin, store)
    begun = {"fields": [NAME, CHANGED], "data": {"fill": ["changed"], "steps": True}}
    left = good(await admin.patch(path, begun))["pending"]
    while left:
        left = good(await admin.patch(path, {"data": {"continue": 2}}))["pending"]
    assert [each["_id"] for each in await since(user, store, 0)] == [each["_id"] for each in made]


async def test_a_change_of_data_stamps(hub: Hub, admin: Client, user: Client) -> None:
    """The counter goes on under another name."""
    store = await hub.define(fields=[NAME, CHANGED])
    a, b = await user.make_all(store, [{"name": "1"}, {}])
    number = NAME | {"type": "Number"}
    good(await change(admin, store, [number, CHANGED], convert=["name"]))
    [found] = await since(user, store, b["changed"])
    assert (found["_id"], found["name"]) == (a["_id"], 1)
    good(await change(admin, store, [number, CHANGED | {"id": "seen"}], rename={"changed": "seen"}))
    after = await user.list(store)
    assert all("changed" not in each for each in after)
    assert min(each["seen"] for each in after) > found["changed"]


async def test_a_stamp_begins_above_what_stands_there(hub: Hub, admin: Client, user: Client) -> None:
    """As far as the values are stamps."""
    store = await hub.define(fields=[NAME], open=True)
    ahead = now_us() + 3_600_000_000
    await user.make_all(store, [{"changed": ahead}, {"changed": 5}])
    good(await change(admin, store, [NAME, CHANGED]))
    assert (await user.make(store, name="a"))["changed"] == ahead + 1
    for value, text in (("x", "valid"), (2**53, "valid"), (2**52 + 1, "has the number 4503599627370497 in it")):
        other = await hub.define(fields=[NAME], open=True)
        await user.make(other, changed=value)
        assert text in refused(await change(admin, other, [NAME, CHANGED]), 409, "changed")["changed"][0]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (CHANGED | {"unique": True}, "unique"),
        (CHANGED | {"required": True}, "required"),
        (CHANGED | {"default": 5}, "default"),
        (CHANGED | {"many": True}, "many"),
        (CHANGED | {"min": 5}, "min"),
    ],
)
async def test_a_stamp_takes_no_settings_of_values(admin: Client, field: Entity, name: str) -> None:
    refused(await admin.post("/stores", {"name": unique("store"), "fields": [field]}), 400, f"fields.0.{name}")


async def test_where_a_stamp_cannot_be(hub: Hub, admin: Client, user: Client, store: str) -> None:
    """Inside of an object, as the key of references or upserts, in operators."""
    inner = {"id": "place", "type": "Object", "fields": [{"id": "at", "type": "Stamp"}]}
    refused(await admin.post("/stores", {"name": unique("store"), "fields": [inner]}), 400, "fields.0.fields.0.type")
    refused(await user.post(f"/{store}", {"name": "a"}, {"upsert": "changed"}), 400, "upsert")
    one = await user.make(store, name="a")
    for operator in ("$set", "$inc", "$min"):
        refused(await user.patch(f"/{store}/{one['_id']}", {operator: {"changed": 5}}), 400, "changed")
    keyed = await hub.define(fields=[CHANGED], unique=["changed"])
    by_stamp = {"id": "of", "type": "Reference", "store": keyed, "by": "changed"}
    refused(await admin.post("/stores", {"name": unique("store"), "fields": [by_stamp]}), 400, "fields.0.by")


async def test_a_hidden_stamp(hub: Hub, user: Client) -> None:
    """It is not shown, and replacements do not tell it."""
    store = await hub.define(fields=[NAME, CHANGED | {"hidden": True}])
    one = await user.make(store, name="a")
    assert "changed" not in one
    path = f"/{store}/{one['_id']}"
    assert good(await user.put(path, {"name": "a"}))["_rev"] == 1
    assert good(await user.put(path, {"name": "b"}))["_rev"] == 2
    refused(await user.get(f"/{store}", {"changed[gt]": "0"}), 400)


async def test_an_unknown_entity_is_not_found(user: Client, store: str) -> None:
    refused(await user.patch(f"/{store}/{new_id()}", {"name": "a"}), 404)
    one = await user.make(store, name="a")
    refused(await user.patch(f"/{store}/{one['_id']}", {"name": "b"}, None, **{"if-match": '"7"'}), 412)
