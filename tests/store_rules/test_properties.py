"""Rules of listings: the region follows the district, and some fields are the administrators', whichever way a listing
is written."""

from __future__ import annotations

from typing import Any

import pytest

from stores.records import Entity
from tests.platform.answers import good, refused
from tests.store_rules.ways import CHANGE, MAKE, batch
from tests.support.hub import Client, Hub, unique
from tests.support.listings import listing

pytestmark = pytest.mark.gate("sqlite", "mongodb")


async def made(client: Client, **fields: Any) -> Entity:
    return await client.make("properties", listing(ref=unique("r"), **fields))


async def seen(client: Client, entity: Entity) -> Entity:
    return await client.see("properties", entity["_id"])


async def newest(client: Client) -> Entity:
    [entity] = await client.list("properties", {"owner": client.id, "sort": "-number", "limit": "1"})
    return entity


@pytest.mark.parametrize("way", MAKE)
async def test_a_new_listing_is_in_the_region_of_its_district(user: Client, way: str) -> None:
    """What is sent as the region is ignored, also if there is no such region."""
    for district, sent, region in (("gulu", "central", "northern"), ("mbale", "nowhere", "eastern")):
        good(await MAKE[way](user, "properties", listing(district=district, region=sent)))
        assert (await newest(user))["region"] == region
    good(await MAKE[way](user, "properties", listing()))
    assert (await newest(user))["region"] == "central"


@pytest.mark.parametrize("way", CHANGE)
async def test_the_region_follows_the_district(user: Client, way: str) -> None:
    entity = await made(user)
    good(await CHANGE[way](user, "properties", entity, {"district": "mbarara"}))
    assert (await seen(user, entity))["region"] == "western"
    good(await CHANGE[way](user, "properties", await seen(user, entity), {"district": "gulu", "region": "central"}))
    assert (await seen(user, entity))["region"] == "northern"


@pytest.mark.parametrize("way", CHANGE)
async def test_nobody_sets_the_region(user: Client, way: str) -> None:
    entity = await made(user)
    good(await CHANGE[way](user, "properties", entity, {"region": "western"}))
    after = await seen(user, entity)
    assert after["region"] == "central"
    assert after["_rev"] == entity["_rev"]


async def test_the_region_cannot_be_taken_away(user: Client) -> None:
    entity = await made(user)
    path = f"/properties/{entity['_id']}"
    good(await user.patch(path, {"$unset": {"region": ""}}))
    good(await user.patch(path, {"region": None}))
    assert await seen(user, entity) == entity


@pytest.mark.parametrize("way", CHANGE)
async def test_an_unknown_district_is_refused(user: Client, way: str) -> None:
    entity = await made(user)
    answer = await CHANGE[way](user, "properties", entity, {"district": "atlantis"})
    assert answer.status_code == 400
    assert "district" in answer.text
    assert await seen(user, entity) == entity


async def test_each_of_an_array_has_its_own_region(user: Client) -> None:
    bodies = [listing(district=name, ref=unique("r")) for name in ("gulu", "kampala", "mbale", "mbarara")]
    entities = await user.make_all("properties", bodies)
    regions = ["northern", "central", "eastern", "western"]
    assert [entity["region"] for entity in entities] == regions
    moved = [body | {"district": name} for body, name in zip(bodies, ("mbale", "mbale", "gulu", "gulu"), strict=True)]
    answer = good(await user.post("/properties", moved, {"upsert": "ref"}))
    assert [entity["region"] for entity in answer["entities"]] == ["eastern", "eastern", "northern", "northern"]


async def test_a_later_request_of_a_batch_sees_what_an_earlier_one_has_done(admin: Client) -> None:
    slug = unique("d")
    requests = [
        {"method": "POST", "path": "/districts", "body": {"name": "New", "slug": slug, "region": "eastern"}},
        {"method": "POST", "path": "/properties", "body": listing(district=slug)},
    ]
    answer = good(await admin.post("/batch", {"requests": requests}))
    district, entity = (each["body"] for each in answer["responses"])
    assert entity["region"] == "eastern"
    good(await admin.patch(f"/districts/{district['_id']}", {"region": "western"}))
    assert (await seen(admin, entity))["region"] == "western"


# Fields of administrators.


@pytest.mark.parametrize("way", MAKE)
@pytest.mark.parametrize("field", ["is_verified", "is_sponsored"])
async def test_a_user_makes_no_listing_with_a_field_of_administrators(user: Client, way: str, field: str) -> None:
    answer = await MAKE[way](user, "properties", listing(**{field: True}))
    assert field in str(refused(answer, 403))
    assert await user.list("properties") == []
    good(await MAKE[way](user, "properties", listing(**{field: False})))


@pytest.mark.parametrize("way", CHANGE)
async def test_only_administrators_verify_a_listing(user: Client, admin: Client, way: str) -> None:
    entity = await made(user)
    answer = await CHANGE[way](user, "properties", entity, {"is_verified": True})
    assert "is_verified" in str(refused(answer, 403))
    assert await seen(user, entity) == entity
    good(await CHANGE[way](admin, "properties", entity, {"is_verified": True}))
    entity = await seen(user, entity)
    assert entity["is_verified"] is True
    # Its owner may send back what it sees, and change the rest.
    good(await CHANGE[way](user, "properties", entity, {"is_verified": True, "title": "Another"}))
    answer = await CHANGE[way](user, "properties", entity, {"is_verified": False})
    assert "is_verified" in str(refused(answer, 403))
    after = await seen(user, entity)
    assert (after["is_verified"], after["title"]) == (True, "Another")


async def test_a_replacement_keeps_what_only_administrators_set(user: Client, admin: Client) -> None:
    entity = await made(user)
    path = f"/properties/{entity['_id']}"
    good(await admin.patch(path, {"is_verified": True, "is_sponsored": True}))
    for send in (user.put(path, listing(title="B")), batch(user, "PUT", path, listing(title="C"))):
        good(await send)
        after = await seen(user, entity)
        assert (after["is_verified"], after["is_sponsored"]) == (True, True)
    assert after["title"] == "C"
    good(await admin.put(path, listing(title="D")))
    after = await seen(user, entity)
    assert (after["is_verified"], after["is_sponsored"], after["title"]) == (False, False, "D")


# Changes of reference data.


async def test_what_listings_show_of_reference_data_changes_them(hub: Hub, admin: Client, user: Client) -> None:
    """A region, a district, a type, a currency, amenities; what no listing shows touches none."""
    word = unique("s")
    rows = {
        "regions": {"name": "R", "slug": f"{word}r"},
        "districts": {"name": "D", "slug": f"{word}d", "region": f"{word}r"},
        "property_types": {"name": "T", "slug": f"{word}t"},
        "currencies": {"code": f"{word}c", "symbol": "C"},
        "amenities": {"name": "A", "slug": f"{word}a", "icon": "bi-x"},
    }
    paths = {store: f"/{store}/{(await admin.make(store, body))['_id']}" for store, body in rows.items()}
    shown = {"district": f"{word}d", "property_type": f"{word}t", "currency": f"{word}c", "amenities": [f"{word}a"]}
    entity, other = await made(user, **shown), await made(user)
    for store, path in paths.items():
        before = await seen(user, entity)
        field = "symbol" if store == "currencies" else "name"
        good(await admin.patch(path, {field: f"other {store}"}))
        after = await seen(user, entity)
        assert after["_rev"] == before["_rev"] + 1, store
        assert {name for name in after if after[name] != before.get(name)} <= {"_rev", "_at", "updated_at"}
        good(await admin.patch(path, {field: f"other {store}"}))  # nothing is altered
        assert await seen(user, entity) == after
    assert (await seen(user, other))["_rev"] == other["_rev"]
    good(await admin.patch("/amenities", {"icon": "bi-y"}, {"slug": f"{word}a"}))
    good(await batch(admin, "PATCH", paths["districts"], {"name": "E"}))
    good(await admin.post("/property_types?upsert=slug", rows["property_types"] | {"name": "U"}))
    good(await admin.put(paths["currencies"], rows["currencies"] | {"symbol": "D"}))
    assert (await seen(user, entity))["_rev"] == after["_rev"] + 4


async def test_listings_move_with_their_district(admin: Client, user: Client) -> None:
    word = unique("d")
    district = await admin.make("districts", {"name": "D", "slug": word, "region": "eastern"})
    entity = await made(user, district=word)
    for region in ("western", "central"):
        good(await admin.patch(f"/districts/{district['_id']}", {"region": region}))
        assert (await seen(user, entity))["region"] == region
    rows = [{"name": "D", "slug": word, "region": "northern"}]
    good(await admin.post("/districts", rows, {"upsert": "slug"}))
    assert (await seen(user, entity))["region"] == "northern"


async def test_what_listings_refer_to_stays(admin: Client, user: Client) -> None:
    """An amenity goes from the listings that have it."""
    word = unique("a")
    amenity = await admin.make("amenities", {"name": "A", "slug": word})
    entity = await made(user, amenities=["parking", word])
    for store in ("currencies", "districts", "property_types", "regions"):
        field = {"currencies": "code"}.get(store, "slug")
        value = {"currencies": "UGX", "property_types": "bungalow", "regions": "central"}.get(store, "kampala")
        [row] = await admin.list(store, {field: value})
        refused(await admin.delete(f"/{store}/{row['_id']}"), 409)
    good(await admin.delete(f"/amenities/{amenity['_id']}"))
    after = await seen(user, entity)
    assert (after["amenities"], after["_rev"]) == (["parking"], entity["_rev"] + 1)
