"""Rights by the purpose of a store: reference data is everybody's to read and the administrators' to write, and owners
keep their rights on their own listings, over REST and live alike."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.store_rules.conftest import Connect
from tests.store_rules.ways import batch, own
from tests.support.hub import Client, Hub, unique
from tests.support.listings import listing
from tests.support.live import Beacon

REFERENCE = ("amenities", "property_types", "currencies", "tenures", "plot_size_units", "regions", "districts")
IMAGES = "property_images"
ROWS = {"districts": 136, "regions": 4, "currencies": 5, "tenures": 4}


async def narrow(hub: Hub, beacon: Beacon, **fields: Any) -> Client:
    """Return a user whose role is about another store, beside the tests' own."""
    role = await hub.role("GET /units/*", f"GET /{beacon.store}/*")
    return await hub.as_user(roles=[role], **fields)


@pytest.fixture(params=["no role", "narrow role", "administrator"])
async def anybody(request: pytest.FixtureRequest, hub: Hub, beacon: Beacon) -> Client:
    match request.param:
        case "no role":
            return await hub.as_user()
        case "narrow role":
            return await narrow(hub, beacon)
    return hub.admin


async def statuses_of_writes(client: Client, store: str, row: Entity) -> list[int]:
    """Send writes that alter nothing but the row itself."""
    path, key = f"/{store}/{row['_id']}", "code" if store == "currencies" else "slug"
    body = {name: value for name, value in row.items() if name != key} | {key: unique("x")}
    answers = [
        await client.post(f"/{store}", own(body)),
        await client.post(f"/{store}?upsert={key}", own(row)),
        await client.patch(path, {key: row[key]}),
        await client.put(path, own(row)),
        await client.patch(f"/{store}?{key}={row[key]}", {key: row[key]}),
        await batch(client, "PATCH", path, {key: row[key]}),
        await client.put(path + "/access", {"access": []}),
        await client.delete(f"/{store}?{key}={unique('x')}"),
    ]
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("store", REFERENCE)
async def test_everybody_reads_all_reference_data(anybody: Client, admin: Client, store: str) -> None:
    rows = await anybody.list(store)
    assert rows == await admin.list(store)
    assert len(rows) >= ROWS.get(store, 1)
    assert await anybody.see(store, rows[0]["_id"]) == rows[0]
    refused(await hubless(anybody).get(f"/{store}"), 401)
    if anybody is not admin:
        assert await statuses_of_writes(anybody, store, rows[0]) == [403] * 8
        refused(await anybody.delete(f"/{store}/{rows[0]['_id']}"), 403)


def hubless(client: Client) -> Client:
    """Return a caller without credentials."""
    return Client(client.url)


async def test_only_administrators_write_reference_data(admin: Client, hub: Hub) -> None:
    row = await admin.make("tenures", {"name": "T", "slug": unique("t")})
    assert await statuses_of_writes(admin, "tenures", row) == [200] * 8
    everything = await hub.as_user(roles=[await hub.role("* /*", "* /tenures/*")])
    assert await statuses_of_writes(everything, "tenures", row) == [403] * 8
    good(await admin.delete(f"/tenures/{row['_id']}"))


async def test_a_token_narrows_what_it_reads(hub: Hub, user: Client, admin: Client) -> None:
    token = await hub.with_token(user.user, scopes=["GET /amenities/*"])
    assert await token.list("amenities") == await admin.list("amenities")
    for store in ("districts", "properties", IMAGES):
        refused(await token.get(f"/{store}"), 403)
    for client, scopes in ((user, ["POST /amenities/*"]), (admin, ["GET /*"])):
        narrowed = await hub.with_token(client.user, scopes=scopes)
        refused(await narrowed.post("/amenities", {"name": "A", "slug": unique("a")}), 403)


async def test_reference_data_is_live(anybody: Client, admin: Client, connected: Connect, beacon: Beacon) -> None:
    client = await connected(anybody)
    watch = await client.watch("tenures")
    assert [*watch.view.values()] == await anybody.list("tenures")
    row = await admin.make("tenures", {"name": "T", "slug": unique("t")})
    good(await admin.patch(f"/tenures/{row['_id']}", {"name": "U"}))
    good(await admin.delete(f"/tenures/{row['_id']}"))
    await client.caught_up(beacon)
    assert [event["op"] for event in watch.take()] == ["insert", "update", "remove"]


async def test_what_a_listing_refers_to_can_be_expanded(hub: Hub, beacon: Beacon) -> None:
    holder = await narrow(hub, beacon)
    entity = await holder.make("properties", listing(amenities=["parking"]))
    shown = good(await holder.get(f"/properties/{entity['_id']}?expand=district.region,currency,amenities"))
    assert (shown["district"]["region"]["name"], shown["currency"]["symbol"]) == ("Central", "USh")
    assert shown["amenities"][0]["icon"] == "bi-p-square"


# Listings and images.


async def test_owners_need_no_role(hub: Hub, beacon: Beacon, admin: Client) -> None:
    """They do everything with their own listings, and meet no others."""
    group = await hub.group()
    holder, colleague = await narrow(hub, beacon, group=group), await hub.as_user(group=group)
    foreign = await colleague.make("properties", listing())
    image = await colleague.make(IMAGES, {"property": foreign["_id"]})
    mine = await holder.make("properties", listing())
    path = f"/properties/{mine['_id']}"
    good(await holder.patch(path, {"title": "B"}))
    good(await holder.put(path, listing(title="C")))
    good(await holder.patch("/properties?title=C", {"title": "D"}))
    good(await batch(holder, "PATCH", path, {"title": "E"}))
    good(await holder.post("/properties", [listing(ref=unique("r"))], {"upsert": "ref"}))
    own_image = await holder.make(IMAGES, {"property": mine["_id"]})
    assert len(await holder.list("properties")) == 2
    assert await holder.list(IMAGES) == [own_image]
    good(await holder.get(f"{path}/history"))
    # The group's listings are not the holder's own, and neither are those that are shared with it.
    good(await colleague.put(f"/properties/{foreign['_id']}/access", {"access": [holder.id]}))
    for store, entity in (("properties", foreign), (IMAGES, image)):
        target = f"/{store}/{entity['_id']}"
        for answer in (
            await holder.get(target),
            await holder.patch(target, {}),
            await holder.delete(target),
            await holder.get(f"{target}/history"),
        ):
            refused(answer, 404)
    refused(await holder.post(f"/{IMAGES}", {"property": foreign["_id"]}), 400, "property")
    assert good(await holder.delete("/properties?all=true"))["count"] == 2
    refused(await holder.get("/agencies"), 403)
    assert (await admin.see("properties", foreign["_id"]))["title"] == foreign["title"]


async def test_users_without_roles_see_what_is_shared(hub: Hub) -> None:
    group = await hub.group()
    one, colleague, stranger = await hub.as_user(group=group), await hub.as_user(group=group), await hub.as_user()
    entity = await one.make("properties", listing())
    path = f"/properties/{entity['_id']}"
    good(await colleague.patch(path, {"title": "B"}))
    refused(await stranger.get(path), 404)
    refused(await stranger.patch(path, {"title": "C"}), 404)
    refused(await stranger.delete(path), 404)
    assert await stranger.list("properties") == []


async def test_a_token_narrows_its_owner(hub: Hub, beacon: Beacon) -> None:
    holder = await narrow(hub, beacon)
    reader = await hub.with_token(holder.user, scopes=["GET /properties/*"])
    writer = await hub.with_token(holder.user, scopes=["POST /properties/*"])
    made = good(await writer.post("/properties", listing()))
    assert made.keys() == {"success", "_id", "_rev"}
    assert [each["_id"] for each in await reader.list("properties")] == [made["_id"]]
    refused(await writer.get("/properties"), 403)
    refused(await reader.patch(f"/properties/{made['_id']}", {"title": "B"}), 403)
    refused(await reader.get(f"/{IMAGES}"), 403)


async def test_own_listings_are_live(hub: Hub, connected: Connect, beacon: Beacon) -> None:
    """What REST shows, and after a change of the role what the new one shows; positions of before get 410."""
    group = await hub.group()
    role = await hub.role(f"GET /{beacon.store}/*")
    holder, colleague = await hub.as_user(group=group, roles=[role]), await hub.as_user(group=group)
    foreign, mine = await colleague.make("properties", listing()), await holder.make("properties", listing())
    client = await connected(holder)
    watch = await client.watch("properties")
    assert [*watch.view] == [mine["_id"]]
    good(await colleague.patch(f"/properties/{foreign['_id']}", {"title": "B"}))
    await holder.make(IMAGES, {"property": mine["_id"]})
    await client.caught_up(beacon)
    assert [(event["op"], event["_id"]) for event in watch.take()] == [("update", mine["_id"])]
    position = (await holder.get("/properties")).headers["x-position"]
    good(await holder.get(f"/properties?since={position}"))
    good(await hub.admin.patch(f"/roles/{role}", {"scopes": [f"GET /{beacon.store}/*", "GET /properties/*"]}))
    await client.caught_up(beacon)
    assert [(event["op"], event["_id"]) for event in watch.take()] == [("insert", foreign["_id"])]
    refused(await holder.get(f"/properties?since={position}"), 410)
    good(await hub.admin.patch(f"/roles/{role}", {"scopes": [f"GET /{beacon.store}/*"]}))
    await client.caught_up(beacon)
    assert [(event["op"], event["_id"]) for event in watch.take()] == [("remove", foreign["_id"])]
    assert [*watch.view.values()] == await holder.list("properties")


async def test_the_document_shows_what_its_reader_may_do(hub: Hub, beacon: Beacon) -> None:
    holder = await narrow(hub, beacon)
    paths = good(await holder.get("/openapi.json"))["paths"]
    assert {"get", "post", "patch", "delete"} <= paths["/api/v1/properties"].keys()
    assert {"post", "patch", "delete"}.isdisjoint(paths["/api/v1/amenities"].keys())
    assert "get" in paths["/api/v1/amenities"]
