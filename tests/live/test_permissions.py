"""Changes of visibility during a subscription: entities enter and leave its views, and nothing else is revealed."""

from __future__ import annotations

import random

import pytest

from tests.live.conftest import Connect
from tests.support.hub import Client, Hub, entity_of
from tests.support.live import Beacon, matches_rest, ops


async def share(owner: Client, store: str, id: str, *users: Client) -> None:
    entity_of(await owner.put(f"/{store}/{id}/access", {"access": [user.id for user in users]}))


@pytest.mark.gate("sqlite", "mongodb")
async def test_sharing_inserts_and_taking_back_removes(
    connected: Connect, hub: Hub, user: Client, store: str, beacon: Beacon
) -> None:
    """The other user receives the whole entity at first and only its id at the end; the owner receives updates."""
    other = await hub.as_user()
    theirs, mine = await connected(other), await connected(user)
    shown, owned = await theirs.watch(store), await mine.watch(store)
    made = await user.make(store, secret="x-4711")
    await share(user, store, made["_id"], other)
    await user.patch(f"/{store}/{made['_id']}", {"n": 1})
    await share(user, store, made["_id"])
    await user.patch(f"/{store}/{made['_id']}", {"secret": "x-4712"})
    await theirs.caught_up(beacon)
    await mine.caught_up(beacon)
    assert ops(shown.take()) == [(op, made["_id"]) for op in ("insert", "update", "remove")]
    assert [event["op"] for event in owned.take()] == ["insert", "update", "update", "update", "update"]
    assert "x-4712" not in "".join(theirs.packets)
    assert shown.view == {}


async def test_moving_a_user_moves_its_view(connected: Connect, hub: Hub, admin: Client, beacon: Beacon) -> None:
    """Entities of the new group enter, those of the old one leave, and the user's own entity stays without an event."""
    here, there = await hub.group(), await hub.group()
    one, two, mover = await hub.as_user(group=here), await hub.as_user(group=there), await hub.as_user(group=here)
    store = await hub.define()
    first, second, own = await one.make(store, n=1), await two.make(store, n=2), await mover.make(store, n=3)
    client = await connected(mover)
    watch = await client.watch(store)
    narrow = await client.watch(store, filter={"n": {"$lt": 3}}, only="n")
    assert watch.view.keys() == {first["_id"], own["_id"]}
    await admin.patch(f"/users/{mover.id}", {"group": there})
    await client.caught_up(beacon)
    assert {*ops(watch.take())} == {("insert", second["_id"]), ("remove", first["_id"])}
    assert {*ops(narrow.take())} == {("insert", second["_id"]), ("remove", first["_id"])}
    await matches_rest(watch, mover)
    await matches_rest(narrow, mover)
    await one.patch(f"/{store}/{first['_id']}", {"n": 5})
    await two.patch(f"/{store}/{second['_id']}", {"n": 6})
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("update", second["_id"])]
    assert ops(narrow.take()) == [("remove", second["_id"])]


async def test_a_change_of_oneself_that_shows_nothing_is_not_told(
    connected: Connect, hub: Hub, user: Client, admin: Client, beacon: Beacon
) -> None:
    """When a change of a user changes the user's own visibility, events on its own entity contain only real changes."""
    group = await hub.group()
    client = await connected(user)
    narrow = await client.watch("users", only="login")
    groups = await client.watch("users", only="login,group")
    await admin.patch(f"/users/{user.id}", {"roles": admin.user["roles"]})
    await client.caught_up(beacon)
    narrow.take(), groups.take()
    await admin.patch(f"/users/{user.id}", {"roles": [], "group": group})
    await client.caught_up(beacon)
    assert {event["op"] for event in narrow.take()} == {"remove"}
    assert [event["changed"] for event in groups.take() if event["op"] == "update"] == [["group"]]


async def test_moving_a_group_moves_its_branch(connected: Connect, hub: Hub, admin: Client, beacon: Beacon) -> None:
    """Its entities enter the views of users above the new parent and leave those above the old one."""
    old_top, new_top = await hub.group(), await hub.group()
    low = await hub.group(old_top)
    bosses = [await hub.as_user(group=group) for group in (old_top, new_top)]
    maker = await hub.as_user(group=low)
    store = await hub.define()
    made = await maker.make(store)
    clients = [await connected(boss) for boss in bosses]
    watches = [await client.watch(store) for client in clients]
    await admin.patch(f"/groups/{low}", {"parent": new_top})
    for client in clients:
        await client.caught_up(beacon)
    assert [ops(watch.take()) for watch in watches] == [[("remove", made["_id"])], [("insert", made["_id"])]]


async def test_becoming_an_administrator_shows_everything(
    connected: Connect, hub: Hub, admin: Client, user: Client, store: str, beacon: Beacon
) -> None:
    """Losing the role hides the others' entities again, and the subscription continues."""
    role = admin.user["roles"][0]
    hers, his = await admin.make(store, n=1), await user.make(store, n=2)
    client = await connected(user)
    watch = await client.watch(store)
    await admin.patch(f"/users/{user.id}", {"roles": [role]})
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("insert", hers["_id"])]
    await admin.patch(f"/users/{user.id}", {"roles": []})
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("remove", hers["_id"])]
    assert watch.view.keys() == {his["_id"]}


async def test_a_role_that_loses_a_store_ends_the_subscription(
    connected: Connect, hub: Hub, admin: Client, beacon: Beacon
) -> None:
    """The subscription ends with 403; other subscriptions continue, and no event of the lost store follows."""
    lost, kept = await hub.define(), await hub.define()
    role = await hub.role(f"* /{lost}/*", f"* /{kept}/*", f"GET /{beacon.store}/*")
    holder = await hub.as_user(roles=[role])
    client = await connected(holder)
    first, second = await client.watch(lost), await client.watch(kept)
    made = [await holder.make(store, n=1) for store in (lost, kept)]
    scopes = [f"* /{kept}/*", f"GET /{beacon.store}/*"]
    entity_of(await admin.patch(f"/roles/{role}", {"scopes": scopes}))
    for store, entity in zip((lost, kept), made, strict=True):
        await admin.patch(f"/{store}/{entity['_id']}", {"n": 2})
    await client.caught_up(beacon)
    assert first.ended is not None
    assert (first.ended["code"], first.ended["message"]) == ("403", "Forbidden")
    assert ops(first.take()) == [("insert", made[0]["_id"])]
    assert second.ended is None
    assert [event["op"] for event in second.take()] == ["insert", "update"]
    assert (await client.subscribe(lost))["error"]["code"] == "403"


@pytest.mark.gate("sqlite", "mongodb")
async def test_views_stay_right_whatever_changes(connected: Connect, hub: Hub, admin: Client, beacon: Beacon) -> None:
    """Entities are changed and shared, users are moved, promoted and moved back: in the end each view equals the REST
    list."""
    chance = random.Random(7)
    groups = [await hub.group() for _ in range(2)]
    store = await hub.define()
    users = [await hub.as_user(group=group) for group in (*groups, None)]
    clients = [await connected(user) for user in users]
    watches = [await client.watch(store, filter={"n": {"$lt": 50}}) for client in clients]
    alive: list[tuple[Client, str]] = []
    for _ in range(150):
        number = chance.random()
        if number < 0.35 or not alive:
            owner = chance.choice([*users, admin])
            alive.append((owner, (await owner.make(store, n=chance.randrange(100)))["_id"]))
        elif number < 0.6:
            await admin.patch(f"/{store}/{chance.choice(alive)[1]}", {"n": chance.randrange(100)})
        elif number < 0.75:
            await share(admin, store, chance.choice(alive)[1], *chance.sample(users, chance.randrange(3)))
        elif number < 0.85:
            await admin.delete(f"/{store}/{alive.pop(chance.randrange(len(alive)))[1]}")
        elif number < 0.9:
            each = chance.randrange(len(users))
            clients[each].abort()
            clients[each] = await connected(users[each])
            watches[each] = await clients[each].resume(watches[each], snapshot="auto")
        else:
            roles = chance.choice([[], [], admin.user["roles"]])
            change = {"group": chance.choice([*groups, None]), "roles": roles}
            entity_of(await admin.patch(f"/users/{chance.choice(users).id}", change))
    for user, client, watch in zip(users, clients, watches, strict=True):
        await client.caught_up(beacon)
        await matches_rest(watch, user)


async def test_a_subscription_outside_the_scopes_says_nothing_of_fields(
    connected: Connect, hub: Hub, user: Client
) -> None:
    """The answer is 403 before the filter and the projection are checked."""
    closed = await hub.define(fields=[{"id": "secret", "type": "Text", "hidden": True}])
    narrow = await connected(await hub.with_token(user.user, scopes=["GET /elsewhere/*"]))
    for more in ({}, {"filter": {"wings": 1}}, {"filter": {"secret": 1}}, {"only": "wings"}, {"filter": 5}):
        error = (await narrow.subscribe(closed, **more))["error"]
        assert (error["code"], error.get("errors")) == ("403", None)


async def test_a_misspelt_store_is_named_to_an_administrator(connected: Connect, admin: Client, user: Client) -> None:
    told, untold = await connected(admin), await connected(user)
    assert (await told.subscribe("no-such-store"))["error"]["errors"] == {
        "store": ["There is no store 'no-such-store'."]
    }
    assert "errors" not in (await untold.subscribe("no-such-store"))["error"]
