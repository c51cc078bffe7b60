"""Reference data, the facets of the feed, and the account."""

from __future__ import annotations

import pytest

from tests.listings.support import REFERENCES, Tenant, Tenants, new_key
from tests.support.hub import Hub, eventually


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("amenities", REFERENCES["amenities"]),
        ("property-types", REFERENCES["property_types"][::-1]),  # by name
        ("currencies", REFERENCES["currencies"]),
        ("tenures", REFERENCES["tenures"]),
        ("plot-size-units", REFERENCES["plot_size_units"]),
        (
            "locations",
            [
                {
                    "name": "Central",
                    "slug": "central",
                    "districts": [{"name": "Kampala", "slug": "kampala"}, {"name": "Wakiso", "slug": "wakiso"}],
                },
                {"name": "Northern", "slug": "northern", "districts": [{"name": "Gulu", "slug": "gulu"}]},
            ],
        ),
        (
            "filters",
            {
                "listing_type": {"rent": "For Rent", "sale": "For Sale"},
                "furnished": {
                    "furnished": "Furnished",
                    "unfurnished": "Unfurnished",
                    "semi_furnished": "Semi-furnished",
                },
                "availability": {
                    "available": "Available",
                    "sold": "Sold",
                    "rented_out": "Rented Out",
                    "reserved": "Reserved",
                },
                "publish_status": {"published": "Published", "draft": "Draft", "trash": "Trash"},
                "property_types": REFERENCES["property_types"][::-1],
                "currencies": REFERENCES["currencies"],
            },
        ),
    ],
)
async def test_reference_data(tenant: Tenant, path: str, expected: object) -> None:
    answer = await tenant.reader.get(f"/v1/{path}/")
    assert (answer.status_code, answer.json()) == (200, expected)


async def test_changes_of_reference_data_are_shown(hub: Hub, tenant: Tenant) -> None:
    made = await hub.admin.make("tenures", {"name": "Mailo", "slug": "mailo"})

    async def names() -> list[str]:
        return [tenure["name"] for tenure in (await tenant.reader.get("/v1/tenures/")).json()]

    async def is_shown() -> bool:
        return await names() == ["Freehold", "Mailo"]

    async def is_gone() -> bool:
        return await names() == ["Freehold"]

    await eventually(is_shown)
    await hub.admin.delete(f"/tenures/{made['_id']}")
    await eventually(is_gone)


async def test_the_account(hub: Hub, tenants: Tenants, tenant: Tenant) -> None:
    await tenant.add_all([{}, {"publish_status": "draft"}, {"publish_status": "trash"}])
    await hub.admin.patch(f"/users/{tenant.platform.id}", {"email": "ann@example.com"})
    key = await new_key(hub, tenant.platform.id, tenant.number, "R", "www.example.com", "example.com", name="My site")
    answer = await tenants.client(key, origin="https://example.com").get(f"/{tenant.number}/account/")
    assert answer.json() == {
        "id": tenant.number,
        "username": tenant.platform.user["login"],
        "email": "ann@example.com",
        "subscription_tier": "free",
        "key": {"name": "My site", "scope": "R", "allowed_origins": ["example.com", "www.example.com"]},
        "properties_count": 3,
    }


async def test_images_are_listed_main_first(tenant: Tenant) -> None:
    listing, other = await tenant.add(), await tenant.add()
    first = await tenant.add_image(listing, "a")
    second = await tenant.add_image(listing, "b", is_main=True)
    third = await tenant.add_image(listing, "c")
    foreign = await tenant.add_image(other, "d")
    answer = await tenant.reader.get(f"properties/{listing['number']}/images/")
    assert [image["id"] for image in answer.json()] == [second["number"], first["number"], third["number"]]
    feed = {found["id"]: [image["id"] for image in found["images"]] for found in await tenant.feed()}
    assert feed == {
        listing["number"]: [second["number"], first["number"], third["number"]],
        other["number"]: [foreign["number"]],
    }


async def test_what_an_administrator_has_added_to_a_listing_is_shown(hub: Hub, tenant: Tenant) -> None:
    listing = await tenant.add()
    image = await hub.admin.make("property_images", {"property": listing["_id"]})
    [shown] = (await tenant.reader.get(f"properties/{listing['number']}/images/")).json()
    assert shown["id"] == image["number"]
