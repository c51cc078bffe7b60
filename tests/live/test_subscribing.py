"""A subscription's view: its snapshot, and the events that keep it equal to the REST list."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live.conftest import Connect
from tests.support.hub import Client, Hub, StartHub, entity_of, unique
from tests.support.live import Beacon, live, make_beacon, matches_rest, ops


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_subscriber_sees_each_write_once_and_in_order(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Insert, update, replacement and removal, with the whole entity, the changed fields, the revision and the time."""
    old = await user.make(store, n=0)
    client = await connected(user)
    watch = await client.watch(store)
    assert watch.view == {old["_id"]: old}
    made = await user.make(store, n=1, text="é 😀 مرحبا")
    changed = entity_of(await user.patch(f"/{store}/{made['_id']}", {"n": 2, "m": 1}))
    replaced = entity_of(await user.put(f"/{store}/{made['_id']}", {"k": 1}))
    entity_of(await user.delete(f"/{store}/{made['_id']}"))
    await client.caught_up(beacon)
    events = watch.take()
    for event, entity in zip(events, (made, changed, replaced), strict=False):
        assert abs(event.pop("time") - entity["_at"]) < 10_000
    assert len({event.pop("position") for event in events}) == 4
    changes = [{*event.pop("changed")} for event in events if event["op"] == "update"]
    common = {"channel": watch.channel, "store": store, "_id": made["_id"]}
    assert events == [
        {"op": "insert", "entity": made, "_rev": 1} | common,
        {"op": "update", "entity": changed, "_rev": 2} | common,
        {"op": "update", "entity": replaced, "_rev": 3} | common,
        {"op": "remove"} | common,
    ]
    assert changes == [{"n", "m", "_rev", "_at"}, {"n", "m", "text", "k", "_rev", "_at"}]
    assert watch.view == {old["_id"]: old}


@pytest.mark.gate("sqlite", "mongodb")
async def test_a_filter_decides_what_enters_and_leaves(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """An entity that begins to match is inserted, one that no longer matches is removed; others cause no events."""
    client = await connected(user)
    watch = await client.watch(store, filter={"n": {"$gte": 5}, "tags": "x"})
    one = await user.make(store, n=5, tags=["x", "y"])
    two = await user.make(store, n=4, tags=["x"])
    await user.patch(f"/{store}/{two['_id']}", {"n": 7})
    await user.patch(f"/{store}/{one['_id']}", {"n": 6})
    await user.patch(f"/{store}/{one['_id']}", {"tags": []})
    await user.patch(f"/{store}/{one['_id']}", {"n": 9})
    await user.delete(f"/{store}/{one['_id']}")
    await user.delete(f"/{store}/{two['_id']}")
    await client.caught_up(beacon)
    expected = [("insert", one), ("insert", two), ("update", one), ("remove", one), ("remove", two)]
    assert ops(watch.take()) == [(op, entity["_id"]) for op, entity in expected]


async def test_a_filter_takes_what_writes_take(connected: Connect, hub: Hub, user: Client, beacon: Beacon) -> None:
    """Its values get the form in which the types of the fields store theirs, so a view agrees with REST."""
    line = [{"id": "mail", "type": "Email"}]
    store = await hub.define(
        fields=[
            {"id": "phones", "type": "Phone", "many": True},
            {"id": "at", "type": "DateTime"},
            {"id": "lines", "type": "Object", "many": True, "fields": line},
        ]
    )
    seen = await user.make(
        store, phones=["001 514 555-0123"], at="2026-11-26T06:00:00Z", lines=[{"mail": "A@b.example"}]
    )
    filter = {
        "phones": "+1 (514) 555 0123",
        "at": {"$lte": "2026-11-26T07:00:00.9+01:00"},
        "lines": {"$elemMatch": {"mail": "a@B.example"}},
    }
    client = await connected(user)
    watch = await client.watch(store, filter=filter)
    assert watch.view == {seen["_id"]: seen}
    same = await (await connected(user)).watch(store, filter={**filter, "phones": "+15145550123"})
    assert same.channel == watch.channel, "equal filters, however they are written"
    path = f"/{store}/{seen['_id']}"
    await user.patch(path, {"at": "2026-11-26T06:00:01Z"})
    await user.patch(path, {"at": "2026-11-26T05:00:00-01:00"})
    await user.make(store, phones=["12345"], at="2026-11-26T05:00:00Z", lines=[{"mail": "a@b.example"}])
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("remove", seen["_id"]), ("insert", seen["_id"])]


async def test_a_time_without_a_zone_is_in_utc_in_a_filter(
    connected: Connect, hub: Hub, user: Client, beacon: Beacon
) -> None:
    store = await hub.define(fields=[{"id": "at", "type": "DateTime"}])
    late = await user.make(store, at="2026-11-26 23:00:00")
    client = await connected(user)
    watch = await client.watch(store, filter={"at": {"$gte": "2026-11-26T06:00:00"}})
    assert watch.view == {late["_id"]: late}
    await user.patch(f"/{store}/{late['_id']}", {"at": "2026-11-26 05:59:59"})
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("remove", late["_id"])]
    await matches_rest(watch, user)


async def test_events_are_projected_like_answers(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """`only` may be text or a list; an update without a change in the projection is not sent."""
    client = await connected(user)
    as_text = await client.watch(store, only="name,place.city")
    as_list = await client.ask("subscribe", {"store": store, "only": ["name", "place.city"]})
    assert as_list["channel"] == as_text.channel
    made = await user.make(store, name="a", secret="b", place={"city": "c", "street": "d"})
    path = f"/{store}/{made['_id']}"
    await user.patch(path, {"secret": "e"})
    await user.patch(path, {"place": {"city": "c", "street": "f"}})
    await user.patch(path, {"place": {"city": "g", "street": "f"}})
    await client.caught_up(beacon)
    inserted, updated = as_text.take()
    assert inserted["entity"] == {"_id": made["_id"], "name": "a", "place": {"city": "c"}}
    assert updated["entity"] == {"_id": made["_id"], "name": "a", "place": {"city": "g"}}
    assert (updated["changed"], updated["_rev"]) == (["place"], 4)
    await matches_rest(as_text, user)


async def test_hidden_fields_are_in_no_packet(connected: Connect, hub: Hub, admin: Client, beacon: Beacon) -> None:
    """Passwords, their hashes, tokens' digests and hidden fields are in no packet, nor are their earlier values."""
    store = await hub.define(fields=[{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}])
    client = await connected(admin)
    watches = [await client.watch(name) for name in ("users", "tokens", "sessions", store)]
    somebody = await hub.as_user(password="a-long-secret-1")
    await admin.patch(f"/users/{somebody.id}", {"password": "a-long-secret-2", "name": "New"})
    await admin.patch(f"/users/{somebody.id}", {"password": "a-long-secret-3"})
    made = await admin.make(store, name="x", pin="pin-4711")
    await admin.patch(f"/{store}/{made['_id']}", {"pin": "pin-4712"})
    await hub.as_session(somebody.user["login"], "a-long-secret-3")
    await client.caught_up(beacon)
    text = "".join(client.packets)
    for secret in ("a-long-secret", "argon2", '"password"', '"digest"', "pin-471", '"pin"'):
        assert secret not in text
    for watch in watches:
        await matches_rest(watch, admin)
    refusal = await client.subscribe("users", filter={"password": "x"})
    assert refusal["error"]["code"] == "400"


async def test_equal_subscriptions_share_a_channel(
    connected: Connect, hub: Hub, user: Client, store: str, beacon: Beacon
) -> None:
    """Subscriptions of different users share one too, yet each user sees only visible entities. Another filter or
    projection has another channel."""
    other = await hub.as_user()
    one, two = await connected(user), await connected(other)
    watches = [await client.watch(store, filter={"n": 1}) for client in (one, one, two)]
    assert len({watch.channel for watch in watches}) == 1
    different = [await one.watch(store, filter={"n": 2}), await one.watch(store, filter={"n": 1}, only="n")]
    assert len({watches[0].channel, *(watch.channel for watch in different)}) == 3
    mine, shared = await user.make(store, n=1), await user.make(store, n=1)
    await user.put(f"/{store}/{shared['_id']}/access", {"access": [other.id]})
    await one.caught_up(beacon)
    await two.caught_up(beacon)
    assert [e["_id"] for e in watches[1].take()] == [mine["_id"], shared["_id"], shared["_id"]]
    assert ops(watches[2].take()) == [("insert", shared["_id"])]


async def test_unsubscribing_ends_the_events(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """Only the events of that channel end. Unsubscribing again, or from an unknown channel, is answered 404."""
    client = await connected(user)
    kept, ended = await client.watch(store), await client.watch(store, only="n")
    assert await client.ask("unsubscribe", {"channel": ended.channel}) == {"ok": True}
    await user.make(store, n=1)
    await client.caught_up(beacon)
    assert (len(kept.take()), ended.take()) == (1, [])
    for channel in (ended.channel, "nothing", 5, None):
        answer = await client.ask("unsubscribe", {"channel": channel})
        assert answer["error"]["code"] == "404"


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({}, "store"),
        ({"store": 5}, "store"),
        ({"store": "units", "filters": {}}, "filters"),
        ({"store": "STORE", "filter": {"n": {"$where": 1}}}, "$where"),
        ({"store": "STORE", "filter": {"n": {"$regex": "a"}}}, "$regex"),
        ({"store": "STORE", "filter": []}, "filter"),
        ({"store": "STORE", "filter": "n=1"}, "filter"),
        ({"store": "STORE", "only": 5}, "only"),
        ({"store": "STORE", "only": []}, "only"),
        ({"store": "STORE", "only": [5]}, "only"),
        ({"store": "STORE", "since": 5}, "since"),
        ({"store": "STORE", "snapshot": "always"}, "snapshot"),
        ("text", "payload"),
        (None, "payload"),
        ([], "payload"),
    ],
)
async def test_a_bad_request_is_named(connected: Connect, user: Client, store: str, payload: Any, name: str) -> None:
    """The answer is 400 with the name of the wrong member, and the connection stays open."""
    client = await connected(user)
    if isinstance(payload, dict) and payload.get("store") == "STORE":
        payload = payload | {"store": store}
    answer = await client.ask("subscribe", payload)
    assert answer["ok"] is False
    error = answer["error"]
    assert (error["code"], error["message"], error["tags"]) == ("400", "Bad Request", ["error_bad_request"])
    assert [*error["errors"]] == [name]
    assert (await client.subscribe(store))["ok"] is True


async def test_what_cannot_be_watched(connected: Connect, user: Client, store: str) -> None:
    """An unknown store is answered 404, an unknown event 400, a forbidden store 403, each in machine-readable form."""
    client = await connected(user)
    missing = await client.subscribe(unique("missing"))
    assert missing["error"] == {"code": "404", "message": "Not Found", "tags": ["error_not_found"]}
    forbidden = await client.subscribe("groups")
    assert (forbidden["error"]["code"], forbidden["error"]["message"]) == ("403", "Forbidden")
    assert set(forbidden["error"]["tags"]) == {"error_credentials", "error_forbidden"}
    assert (await client.ask("publish", {"store": store}))["error"]["errors"].keys() == {"event"}
    assert (await client.ask("subscribe"))["error"]["errors"].keys() == {"payload"}
    expanded = (await client.subscribe(store, expand="owner"))["error"]["errors"]
    assert expanded == {"expand": ["a subscription does not expand: subscribe to the other store too"]}
    own = await client.watch("users")
    assert own.view.keys() == {user.id}


async def test_a_typed_store_knows_its_fields(connected: Connect, hub: Hub, user: Client) -> None:
    """A filter or projection on an unknown or hidden field is refused, as in REST."""
    store = await hub.define(fields=[{"id": "name", "type": "Text"}, {"id": "pin", "type": "Text", "hidden": True}])
    client = await connected(user)
    for member in ({"filter": {"nam": "x"}}, {"filter": {"pin": "x"}}, {"only": "nam"}, {"only": "pin"}):
        answer = await client.subscribe(store, **member)
        assert answer["ok"] is False, member
        assert answer["error"]["code"] == "400"
    assert (await client.subscribe(store, filter={"name": "x"}, only="name"))["ok"] is True


async def test_limits_of_one_client(own_hub: StartHub) -> None:
    """Too many subscriptions or too large a snapshot are answered 400 with the limit; existing subscriptions
    continue."""
    hub = await own_hub(live_subscriptions=2, live_snapshot=5)
    beacon = await make_beacon(hub)
    store = await hub.define()
    await hub.admin.make_all(store, [{"n": n} for n in range(6)])
    async with live(hub, hub.admin) as client:
        refused = await client.subscribe(store, snapshot=True)
        assert refused["error"]["errors"].keys() == {"snapshot"}
        watch = await client.watch(store, filter={"n": {"$lt": 5}})
        assert len(watch.view) == 5
        await client.watch(beacon.store, snapshot=False)
        refused = await client.subscribe(store, only="n")
        assert refused["error"]["errors"].keys() == {"store"}
        again = await client.watch(store, filter={"n": {"$lt": 5}})
        assert again.channel == watch.channel
        await hub.admin.make(store, n=1)
        await client.caught_up(beacon)
        assert len(again.take()) == 1


async def test_the_same_subscription_again_replaces_the_first(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """It has a new snapshot, and each event still arrives once."""
    client = await connected(user)
    await client.watch(store)
    await user.make(store, n=1)
    await client.caught_up(beacon)
    again = await client.watch(store)
    await user.make(store, n=2)
    await client.caught_up(beacon)
    assert [event["entity"]["n"] for event in again.take()] == [2]
    assert [entity["n"] for entity in again.view.values()] == [1, 2]


async def test_without_a_snapshot_only_news_come(connected: Connect, user: Client, store: str, beacon: Beacon) -> None:
    """Events arrive from the position of the acknowledgement on."""
    old = await user.make(store, n=1)
    client = await connected(user)
    answer = await client.subscribe(store)
    assert answer.keys() == {"ok", "channel", "position"}
    watch = await client.watch(store, snapshot=False)
    await user.patch(f"/{store}/{old['_id']}", {"n": 2})
    await client.caught_up(beacon)
    assert ops(watch.take()) == [("update", old["_id"])]


async def test_a_member_that_is_null_counts_as_left_out(connected: Connect, user: Client, store: str) -> None:
    client = await connected(user)
    plain = await client.subscribe(store)
    empty = dict.fromkeys(("filter", "only", "since", "snapshot", "id"))
    answer = await client.subscribe(store, **empty)
    assert (answer.keys(), answer["channel"]) == (plain.keys(), plain["channel"])
    assert (await client.subscribe(None))["error"]["errors"].keys() == {"store"}  # type: ignore[arg-type]


async def test_filters_of_different_text_and_equal_meaning_have_events_of_their_own(
    connected: Connect, user: Client, store: str, beacon: Beacon
) -> None:
    """Beside the conditions of visibility the texts of such filters are equal. Each of the subscriptions, on one
    connection and on another, gets each event once, under its own channel."""
    client, elsewhere = await connected(user), await connected(user)
    watches = [await client.watch(store, filter={"n": 1}), await client.watch(store, filter={"$and": [{"n": 1}]})]
    watches.append(await elsewhere.watch(store, filter={"$and": [{"n": 1}]}))
    assert watches[0].channel != watches[1].channel == watches[2].channel
    made = await user.make(store, n=1)
    await user.patch(f"/{store}/{made['_id']}", {"n": 2})
    await client.caught_up(beacon)
    await elsewhere.caught_up(beacon)
    for watch in watches:
        assert ops(watch.take()) == [("insert", made["_id"]), ("remove", made["_id"])]
