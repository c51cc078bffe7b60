"""What the listings API writes reaches live subscribers of the platform."""

from __future__ import annotations

from tests.listings.support import Tenant, Tenants
from tests.listings.written import BODY, entity, image_path, made, upload
from tests.support.hub import Hub
from tests.support.live import live, make_beacon, ops


async def test_writes_are_events_for_the_owner(hub: Hub, tenant: Tenant, tenants: Tenants) -> None:
    """And for nobody who does not see the listing."""
    stranger, beacon = await tenants(), await make_beacon(hub)
    for each in (tenant, stranger):
        beacon.shine_for(each.platform.id)
    async with live(hub, tenant.platform) as owner, live(hub, stranger.platform) as other:
        watch, unconcerned = await owner.watch("properties"), await other.watch("properties")
        listing = await made(tenant)
        path = f"properties/{listing['id']}/"
        for method, body in (("PATCH", {"availability": "sold"}), ("PUT", BODY | {"title": "Other"}), ("DELETE", None)):
            answer = await tenant.writer.request(method, path, json=body)
            assert answer.is_success, answer.text
        await owner.caught_up(beacon)
        await other.caught_up(beacon)
        events = watch.take()
        assert [event["op"] for event in events] == ["insert", "update", "update", "remove"]
        created, sold, renamed, _ = events
        assert (created["entity"]["number"], created["entity"]["title"]) == (listing["id"], BODY["title"])
        assert sold["entity"]["availability"] == "sold"
        assert "availability" in sold["changed"]
        assert renamed["entity"]["title"] == "Other"
        assert unconcerned.take() == []


async def test_an_image_is_a_change_of_its_listing(hub: Hub, tenant: Tenant) -> None:
    beacon = await make_beacon(hub)
    beacon.shine_for(tenant.platform.id)
    async with live(hub, tenant.platform) as owner:
        listing = await made(tenant)
        id = (await entity(tenant, listing["id"]))["_id"]
        watch, images = await owner.watch("properties"), await owner.watch("property_images")
        image = await upload(tenant, listing)
        assert image.status_code == 201, image.text
        assert (await tenant.writer.delete(image_path(listing, image.json()))).status_code == 204
        await owner.caught_up(beacon)
        assert ops(watch.take()) == [("update", id), ("update", id)]
        assert [event["op"] for event in images.take()] == ["insert", "remove"]
