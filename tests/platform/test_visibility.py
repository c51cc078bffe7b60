"""Visibility: one predicate for get, list, count, search, bulk changes, history and deltas."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from stores.records import Entity, new_id
from tests.platform.answers import good, refused
from tests.platform.raw import request, token_of, wire
from tests.support.hub import Client, Hub, entity_of

pytestmark = pytest.mark.gate("sqlite", "mongodb")  # each engine decides by indexes of its own


@dataclass(frozen=True)
class World:
    """A store with one entity per owner, and a tree of groups: `top` above `left` and `right`."""

    store: str
    people: dict[str, Client]
    entities: dict[str, Entity]
    starts: dict[str, str]
    groups: dict[str, str]


SEES = {
    "top": {"top", "left", "lower", "right"},
    "left": {"left", "lower"},
    "left2": {"left", "lower"},
    "lower": {"lower"},
    "right": {"right"},
    "loner": {"loner", "right"},
    "stranger": set(),
    "admin": {"top", "left", "lower", "right", "loner"},
}
"""User → the owners whose entities it sees: itself, users of its group and of the groups below, and users who share
with it. `right` has put `loner` on the access list of its entity."""


@pytest.fixture(scope="module")
async def world(hub: Hub) -> World:
    top = await hub.group()
    left, right = await hub.group(top), await hub.group(top)
    lower = await hub.group(left)
    groups = {"top": top, "left": left, "right": right, "lower": lower}
    homes = {**groups, "left2": left, "loner": None, "stranger": None}
    people = {name: await hub.as_user(group=group) for name, group in homes.items()}
    people["admin"] = hub.admin
    store = await hub.define(search=["title"])
    starts = {name: (await client.get(f"/{store}")).headers["x-position"] for name, client in people.items()}
    owners = ("top", "left", "lower", "right", "loner")
    entities = {name: await people[name].make(store, title=f"by {name}", n=1) for name in owners}
    path = f"/{store}/{entities['right']['_id']}/access"
    entities["right"] = entity_of(await people["right"].put(path, {"access": [people["loner"].id]}))
    return World(store, people, entities, starts, groups)


@pytest.fixture(params=list(SEES))
def who(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_entity_carries_its_owners_place(world: World) -> None:
    """`group` is the owner's group, `branch` the chain of groups from it up to the root."""
    g = world.groups
    assert world.entities["lower"]["group"] == g["lower"]
    assert world.entities["lower"]["branch"] == [g["lower"], g["left"], g["top"]]
    assert world.entities["loner"]["group"] is None
    assert world.entities["loner"]["branch"] == []


async def test_every_way_of_reading_shows_the_same(world: World, who: str) -> None:
    """List, get, meta, search, filters, pages, deltas and histories agree on the visible entities."""
    client, store = world.people[who], world.store
    expected = [e for name, e in world.entities.items() if name in SEES[who]]
    assert await client.list(store) == expected
    assert await client.list(f"{store}?search=BY") == expected
    assert await client.list(f"{store}?n=1") == expected
    assert await client.list(store, {"filter": '{"$nor":[{"n":2}]}'}) == expected
    assert await client.list(f"{store}?offset=1") == expected[1:]
    assert {e["_id"] for e in await client.list(f"{store}?sort=-title")} == {e["_id"] for e in expected}
    ends = {"first": expected[0] if expected else None, "last": expected[-1] if expected else None}
    meta = {"success": True, "count": len(expected), **ends}
    assert good(await client.get(f"/{store}?meta=true")) == meta
    for name, entity in world.entities.items():
        await check_one(client, store, entity, visible=name in SEES[who])


async def check_one(client: Client, store: str, entity: Entity, *, visible: bool) -> None:
    """Check that every call with the entity's id succeeds if it is visible, and is answered 404 otherwise."""
    path = f"/{store}/{entity['_id']}"
    if visible:
        assert await client.see(store, entity["_id"]) == entity
        assert good(await client.get(path + "/history"))["success"] is True
        return
    for answer in (
        await client.get(path),
        await client.get(path, if_none_match='"2"'),
        await client.get(path + "/history"),
        await client.patch(path, {"n": 5}),
        await client.patch(path, {"n": 5}, if_match='"99"'),
        await client.put(path, {"n": 5}),
        await client.put(path + "/access", {"access": []}),
        await client.delete(path),
    ):
        refused(answer, 404)
        assert answer.json() == (await client.get(f"/{store}/{new_id()}")).json()
    assert await client.list(f"{store}?_id={entity['_id']}") == []


async def test_a_delta_shows_the_same(world: World, who: str) -> None:
    """A delta from the beginning gives exactly the list."""
    client, store = world.people[who], world.store
    delta = good(await client.get(f"/{store}?since={world.starts[who]}"))
    state: dict[str, Any] = {}
    for change in delta["changes"]:
        state[change["_id"]] = change["entity"]
    assert state == {e["_id"]: e for e in await client.list(store)}
    hidden = {e["_id"] for name, e in world.entities.items() if name not in SEES[who]}
    assert not hidden & {change["_id"] for change in delta["changes"]}


async def test_bulk_changes_reach_what_is_visible(hub: Hub) -> None:
    """A filter that matches everything changes and deletes only entities that the caller sees."""
    group = await hub.group()
    one, two = await hub.as_user(group=group), await hub.as_user()
    store = await hub.define()
    await one.make_all(store, [{"n": 1}, {"n": 1}])
    mine = await two.make(store, n=1)
    assert good(await two.patch(f"/{store}?n=1", {"m": 1})) == {"success": True, "count": 1}
    assert [e.get("m") for e in await hub.admin.list(store)] == [None, None, 1]
    assert good(await two.delete(f"/{store}?n[gte]=0")) == {"success": True, "count": 1}
    assert good(await two.delete(f"/{store}?n[gte]=0")) == {"success": True, "count": 0}
    assert mine["_id"] not in {e["_id"] for e in await hub.admin.list(store)}
    assert len(await one.list(store)) == 2


async def test_a_filter_cannot_widen_visibility(world: World) -> None:
    """A filter on owner, access, group or branch finds only visible entities."""
    stranger, store = world.people["stranger"], world.store
    owner, group = world.people["left"].id, world.groups["left"]
    everything = {"$or": [{"owner": owner}, {"branch": group}, {"n": {"$not": {"$size": 9}}}]}
    for query in (f"owner={owner}", f"group={group}", f"branch[in]={group}", "owner[ne]=x"):
        assert await stranger.list(f"{store}?{query}") == []
    for document in (everything, {"$nor": [{"a": 1}]}):
        params = {"filter": json.dumps(document)}
        assert await stranger.list(store, params) == []
        assert good(await stranger.get(f"/{store}", params | {"meta": "true"}))["count"] == 0


async def test_sharing_shows_an_entity_to_users(user: Client, other: Client, hub: Hub) -> None:
    """The owner sets the whole list. Users on it may read and change the entity; users taken off it do not see it."""
    store = await hub.define()
    third = await hub.as_user()
    made = await user.make(store, n=1)
    path = f"/{store}/{made['_id']}"
    answer = await user.put(path + "/access", {"access": [other.id, third.id, other.id]})
    shared = entity_of(answer)
    assert shared == made | {"access": [other.id, third.id], "_rev": 2, "_at": shared["_at"]}
    assert answer.headers["etag"] == '"2"'
    for reader in (other, third):
        assert await reader.list(store) == [shared]
    changed = entity_of(await other.patch(path, {"n": 2}))
    assert changed["owner"] == user.id
    entity_of(await user.put(path + "/access", {"access": [third.id]}))
    refused(await other.get(path), 404)
    assert (await third.see(store, made["_id"]))["n"] == 2


async def test_a_list_that_names_a_deleted_user_can_be_sent_back(user: Client, other: Client, hub: Hub) -> None:
    """The id gives nobody a right. It can be removed, but not added to a list that does not have it."""
    store = await hub.define()
    gone = [await hub.as_user() for _ in range(2)]
    path = f"/{store}/{(await user.make(store))['_id']}"
    ids = [gone[0].id, other.id, gone[1].id]
    entity_of(await user.put(path + "/access", {"access": ids}))
    for each in gone:
        entity_of(await hub.admin.delete(f"/users/{each.id}"))
    shown = entity_of(await user.get(path))
    assert shown["access"] == ids
    assert entity_of(await user.put(path + "/access", {"access": ids}))["access"] == ids
    assert entity_of(await user.put(path, shown))["access"] == ids
    refused(await other.put(path + "/access", {"access": ids}), 403, "access")
    stale = await user.put(path + "/access", {"access": ids}, if_match='"1"')
    refused(stale, 412)
    fewer = [gone[1].id]
    assert entity_of(await user.put(path + "/access", {"access": fewer}))["access"] == fewer
    error = refused(await user.put(path + "/access", {"access": ids}), 400, "access")
    assert gone[0].id in str(error)
    assert (await user.see(store, shown["_id"]))["access"] == fewer


async def test_only_the_owner_and_administrators_share(user: Client, other: Client, admin: Client, hub: Hub) -> None:
    """Other users are answered 403 if they see the entity, and 404 if not."""
    store = await hub.define()
    third = await hub.as_user()
    made = await user.make(store)
    path = f"/{store}/{made['_id']}/access"
    entity_of(await user.put(path, {"access": [other.id]}))
    refused(await other.put(path, {"access": [other.id, third.id]}), 403, "access")
    refused(await third.put(path, {"access": [third.id]}), 404)
    assert entity_of(await admin.put(path, {"access": [third.id]}))["access"] == [third.id]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "access"),
        ({"access": None}, "access"),
        ({"access": "5f00000000000000000000a1"}, "access"),
        ({"access": ["x"]}, "access"),
        ({"access": [5]}, "access"),
        ({"access": ["5f00000000000000000000a1"]}, "access"),
        ({"access": [], "n": 1}, "n"),
        ([], "body"),
    ],
)
async def test_a_bad_access_list_is_refused(user: Client, store: str, body: Any, name: str) -> None:
    """A value other than a list, unknown users, and other members are answered 400 with the name."""
    made = await user.make(store)
    refused(await user.put(f"/{store}/{made['_id']}/access", body), 400, name)
    assert await user.see(store, made["_id"]) == made


async def test_moving_a_user_changes_what_it_sees(hub: Hub, admin: Client) -> None:
    """The change applies to the next request. Its own entities stay visible, and new ones have the new group."""
    here, there = await hub.group(), await hub.group()
    one, two, mover = await hub.as_user(group=here), await hub.as_user(group=there), await hub.as_user(group=here)
    store = await hub.define()
    first, second = await one.make(store), await two.make(store)
    old = await mover.make(store)
    assert await mover.list(store) == [first, old]
    moved = entity_of(await admin.patch(f"/users/{mover.id}", {"group": there}))
    assert (moved["group"], moved["branch"]) == (there, [there])
    assert await mover.list(store) == [second, old]
    new = await mover.make(store)
    assert (new["group"], new["branch"]) == (there, [there])
    assert await two.list(store) == [second, new]
    entity_of(await admin.patch(f"/users/{mover.id}", {"group": None}))
    assert await mover.list(store) == [old, new]


async def test_moving_a_group_changes_what_is_seen(hub: Hub, admin: Client) -> None:
    """The `branch` of all entities in and below it follows; users above see them appear or disappear immediately."""
    old_top, new_top = await hub.group(), await hub.group()
    middle = await hub.group(old_top)
    low = await hub.group(middle)
    bosses = {top: await hub.as_user(group=top) for top in (old_top, new_top)}
    maker = await hub.as_user(group=low)
    store = await hub.define()
    made = await maker.make(store, n=1)
    start = (await bosses[old_top].get(f"/{store}")).headers["x-position"]
    assert made["branch"] == [low, middle, old_top]
    assert await bosses[old_top].list(store) == [made]
    entity_of(await admin.patch(f"/groups/{middle}", {"parent": new_top}))
    moved = await maker.see(store, made["_id"])
    assert moved["branch"] == [low, middle, new_top]
    assert moved["_rev"] == 2
    assert await bosses[old_top].list(store) == []
    assert await bosses[new_top].list(store) == [moved]
    assert (await maker.make(store))["branch"] == [low, middle, new_top]
    [gone] = good(await bosses[old_top].get(f"/{store}?since={start}"))["changes"]
    assert (gone["op"], gone["_id"], gone["entity"]) == ("remove", made["_id"], None)


async def test_what_is_created_while_a_group_moves_is_stamped_with_where_it_went(hub: Hub, admin: Client) -> None:
    """Whether the creation is before, during or after the move, its branch finally agrees with the tree."""
    store, tops = await hub.define(), [await hub.group(), await hub.group()]
    middle = await hub.group(tops[0])
    low = await hub.group(middle)
    makers = [await hub.as_user(group=group) for group in (middle, low)]
    for number in range(10):
        move = admin.patch(f"/groups/{middle}", {"parent": tops[(number + 1) % 2]})
        makes = [maker.post(f"/{store}", {"n": number}) for maker in makers for _ in range(5)]
        for answer in await asyncio.gather(*makes[:5], move, *makes[5:]):
            good(answer)
        above = [middle, tops[(number + 1) % 2]]
        entities = await admin.list(store, {"limit": 1_000})
        assert len(entities) == 10 * (number + 1)
        for entity in entities:
            assert entity["branch"] == ([low, *above] if entity["group"] == low else above), number


async def test_a_body_that_was_long_on_its_way_is_stamped_as_of_its_end(hub: Hub, admin: Client) -> None:
    """The caller was resolved before the group moved."""
    store, old, new = await hub.define(), await hub.group(), await hub.group()
    group = await hub.group(old)
    maker = await hub.as_user(group=group)
    async with wire(hub.process.port) as slow:
        waiting = ("Content-Length: 7", "Expect: 100-continue")
        await slow.send(request("POST", f"/{store}", token_of(maker.http.headers), *waiting))
        assert (await slow.head())[0] == 100  # the hub has accepted the head, and waits for the body
        await slow.send(b'{"n":')
        good(await admin.patch(f"/groups/{group}", {"parent": new}))
        await slow.send(b"1}")
        await slow.answer()
    [made] = await admin.list(store)
    assert made["branch"] == [group, new]


async def test_groups_form_a_tree(hub: Hub, admin: Client) -> None:
    """A group cannot be below itself or an unknown group, and cannot be deleted while it is in use."""
    top = await hub.group()
    low = await hub.group(await hub.group(top))
    for parent in (top, low, "x", new_id(), 5):
        refused(await admin.patch(f"/groups/{top}", {"parent": parent}), 400, "parent")
    refused(await admin.post("/groups", {"name": "x", "parent": new_id()}), 400, "parent")
    refused(await admin.delete(f"/groups/{top}"), 409)
    member = await hub.as_user(group=low)
    refused(await admin.delete(f"/groups/{low}"), 409)
    await admin.patch(f"/users/{member.id}", {"group": None})
    entity_of(await admin.delete(f"/groups/{low}"))
    refused(await admin.patch(f"/users/{member.id}", {"group": low}), 400, "group")
