"""Names of the stores: with a prefix, given by an administrator while the hub was down, or taken already."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from hub.services.listings.stores import NAMES
from stores.records import Entity
from tests.cli.conftest import CommandLine
from tests.listings.support import Tenant, Tenants
from tests.listings.written import made, upload
from tests.platform.answers import refused
from tests.support.engines import Database
from tests.support.hub import Hub, StartHub, environment, running_hub
from tests.support.ports import free_port

KEY: Entity = {"name": "My site", "kind": "listings"}


async def store_names(hub: Hub) -> set[str]:
    return {store["name"] for store in await hub.admin.list("stores")}


async def round_trip(tenant: Tenant) -> None:
    """Create, read, find, change and delete a listing with an image."""
    listing = await made(tenant)
    path = f"properties/{listing['id']}/"
    image = await upload(tenant, listing)
    assert image.status_code == 201, image.text
    assert (await tenant.writer.patch(path, json={"price": 5})).status_code == 200
    [shown] = await tenant.feed(search="kololo", district="kampala", region="central", max_price="5")
    assert (shown["id"], shown["price"], shown["images"]) == (listing["id"], "5.00", [image.json()])
    assert [amenity["name"] for amenity in shown["amenities"]] == ["Parking", "Swimming Pool"]
    assert (await tenant.reader.get(path)).json() == shown
    assert (await tenant.writer.delete(path)).status_code == 204
    [gone] = (await tenant.reader.get("properties/deleted/")).json()["results"]
    assert gone["id"] == listing["id"]


async def test_stores_with_a_prefix(sqlite_hub: StartHub) -> None:
    """Beside another store that has one of the usual names."""
    hub = await sqlite_hub(listings_store_prefix="ug_")
    await hub.admin.make("stores", {"name": "amenities"})
    async with aclosing(Tenants(hub)) as tenants:
        tenant = await tenants()
        await round_trip(tenant)
        id = (await made(tenant))["id"]
    assert await store_names(hub) == {"amenities", *(f"ug_{name}" for name in NAMES.values())}
    [found] = await hub.admin.list("ug_properties", {"number": id})
    assert found["owner"] == tenant.platform.id
    assert await hub.admin.list("amenities") == []


RENAMED = {"properties": "houses", "property_images": "photos", "amenities": "extras", "districts": "areas"}


def rename(database: Database, folder: Path) -> None:
    """Give stores of a hub that is down other names, by the command line."""
    variables = {n: value for n, value in environment(database, folder, {}).items() if n.startswith("HUB_")}
    cli = CommandLine(folder, variables)
    for old, new in RENAMED.items():
        assert cli("store", "rename", old, new).out.strip() == f"store {old} is now {new}"


@pytest.mark.gate("sqlite", "mongodb")
async def test_stores_that_were_renamed_while_the_hub_was_down(database: Database, tmp_path: Path) -> None:
    """Listings and images, their addresses and keys go on."""
    folder, port = tmp_path / "hub", free_port()
    async with AsyncExitStack() as stack:
        async with running_hub(database, folder, port=port) as hub:
            tenants = Tenants(hub)
            stack.push_async_callback(tenants.aclose)
            tenant = await tenants()
            listing = await made(tenant)
            image = (await upload(tenant, listing)).json()
            before = await tenant.feed()
        await asyncio.to_thread(rename, database, folder)
        async with running_hub(database, folder, port=port) as hub:
            assert await tenant.feed() == before
            assert before[0]["images"] == [image]
            assert (await hub.client().http.get(image["url"])).status_code == 200
            await round_trip(tenant)
            [found] = await hub.admin.list("houses")
            assert found["number"] == listing["id"]
            refused(await hub.admin.get("/properties"), 404)
            await hub.admin.make("extras", {"name": "Helipad", "slug": "helipad"})
            assert (await made(tenant, amenities=["helipad"]))["amenities"] == ["helipad"]


async def test_stores_that_lack_fields_keep_the_first_key_from_being_made(sqlite_hub: StartHub) -> None:
    """The answer names them, the fields and the setting, to an administrator. Nothing is changed."""
    hub = await sqlite_hub()
    fields = [{"id": "name", "type": "Text"}]
    await hub.admin.make("stores", {"name": "amenities", "fields": fields})
    await hub.admin.make("stores", {"name": "regions", "fields": [*fields, {"id": "slug", "type": "Text"}]})
    text = (
        "This store lacks fields, or has them otherwise: {}. "
        "HUB_LISTINGS_STORE_PREFIX gives the stores of the listings API other names."
    )
    assert refused(await hub.admin.post("/keys", KEY), 409) == {
        "amenities": [text.format("slug, icon")],
        "regions": [text.format("slug")],
    }
    answer = await (await hub.as_user()).post("/keys", KEY)
    assert refused(answer, 409) == {"_id": ["An administrator must create the first key of this kind."]}
    assert await hub.admin.list("keys") == []
    assert await store_names(hub) == {"amenities", "regions"}
