"""Visibility of an entity's history: entries, and fields in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.platform.answers import good, refused
from tests.support.hub import Client, Hub


async def values(client: Client, store: str, id: str, field: str) -> list[Any]:
    """Return the new values of a field in the history, and "gone" for a deletion."""
    entries = good(await client.get(f"/{store}/{id}/history"))["history"]
    return ["gone" if e["op"] == "delete" else e["changes"][field]["new"] for e in entries if field in e["changes"]]


@pytest.mark.gate("sqlite", "mongodb")
async def test_an_entry_shows_when_the_entity_was_visible_after_it(
    user: Client, other: Client, admin: Client, store: str
) -> None:
    """A user sees the entries from the time in which the entity was shared with it."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    for n, access in ((2, [other.id]), (3, []), (4, [other.id])):
        good(await user.patch(path, {"n": n}))
        good(await user.put(path + "/access", {"access": access}))
        good(await user.patch(path, {"n": n + 10}))
    assert await values(user, store, made["_id"], "n") == [1, 2, 12, 3, 13, 4, 14]
    assert await values(admin, store, made["_id"], "n") == [1, 2, 12, 3, 13, 4, 14]
    assert await values(other, store, made["_id"], "n") == [12, 3, 14]
    good(await user.put(path + "/access", {"access": []}))
    refused(await other.get(path + "/history"), 404)


async def test_a_deletion_shows_to_whoever_saw_the_end(user: Client, other: Client, store: str) -> None:
    """The state before the deletion decides; entries from before the sharing stay hidden."""
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    good(await user.patch(path, {"n": 2}))
    good(await user.put(path + "/access", {"access": [other.id]}))
    good(await other.patch(path, {"n": 3}))
    good(await user.delete(path))
    assert await values(user, store, made["_id"], "n") == [1, 2, 3, "gone"]
    assert await values(other, store, made["_id"], "n") == [3, "gone"]


async def test_a_change_of_group_shows_history_by_todays_rule(hub: Hub, admin: Client, store: str) -> None:
    """The reader's current group is compared with the entity's group at the time of the entry."""
    group, elsewhere = await hub.group(), await hub.group()
    writer, reader = await hub.as_user(group=group), await hub.as_user(group=group)
    made = await writer.make(store, n=1)
    assert await values(reader, store, made["_id"], "n") == [1]
    good(await admin.patch(f"/users/{reader.id}", {"group": elsewhere}))
    refused(await reader.get(f"/{store}/{made['_id']}/history"), 404)
    good(await admin.patch(f"/users/{reader.id}", {"group": group}))
    good(await writer.patch(f"/{store}/{made['_id']}", {"n": 2}))
    assert await values(reader, store, made["_id"], "n") == [1, 2]


async def test_hidden_fields_are_those_of_today(hub: Hub, user: Client, admin: Client) -> None:
    """A field that is hidden later disappears from earlier entries too."""
    store = await hub.define(fields=[{"id": "n", "type": "Number"}, {"id": "m", "type": "Number"}])
    made = await user.make(store, n=1, m=1)
    good(await user.patch(f"/{store}/{made['_id']}", {"n": 2, "m": 2}))
    [definition] = await admin.list("stores", {"name": store})
    fields = [{"id": "n", "type": "Number"}, {"id": "m", "type": "Number", "hidden": True}]
    good(await admin.patch(f"/stores/{definition['_id']}", {"fields": fields}))
    assert await values(user, store, made["_id"], "m") == []
    assert await values(user, store, made["_id"], "n") == [1, 2]


async def test_history_belongs_to_the_life_of_a_store(hub: Hub, user: Client, admin: Client) -> None:
    """A new store of the same name, without the hidden field, shows no history of the old store, but its own
    deletions."""
    fields = [{"id": "n", "type": "Number"}, {"id": "secret", "type": "Text", "hidden": True}]
    store = await hub.define(fields=fields)
    old = await user.make(store, n=1, secret="4711-x")
    good(await user.delete(f"/{store}/{old['_id']}"))
    assert await values(user, store, old["_id"], "n") == [1, "gone"]
    [definition] = await admin.list("stores", {"name": store})
    good(await admin.delete(f"/stores/{definition['_id']}"))
    refused(await admin.get(f"/{store}/{old['_id']}/history"), 404)
    await admin.make("stores", {"name": store})
    for client in (user, admin):
        refused(await client.get(f"/{store}/{old['_id']}/history"), 404)
    new = await user.make(store, n=2)
    good(await user.delete(f"/{store}/{new['_id']}"))
    assert await values(user, store, new["_id"], "n") == [2, "gone"]
