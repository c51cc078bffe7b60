"""A listing as it is read: its shape, its images, and what is not found."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.listings.support import LISTING, Tenant, iso
from tests.support.hub import Hub


async def test_a_listing_has_the_documented_shape(tenant: Tenant, hub: Hub) -> None:
    made = await tenant.add(youtube_video_id="dQw4w9WgXcQ")
    later = await tenant.add_image(made, "side", alt="Side view")
    main = await tenant.add_image(made, "front", alt="Front view", is_main=True)
    answer = await tenant.reader.get(f"properties/{made['number']}/")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    stamp = (await tenant.platform.see("properties", made["_id"]))["updated_at"]
    assert stamp > made["updated_at"]  # a listing changes with its images
    created = datetime.fromtimestamp(made["time"] / 1000, UTC)
    assert answer.json() == {
        "id": made["number"],
        "title": LISTING["title"],
        "description": LISTING["description"],
        "price": "1500000.00",
        "currency": {"code": "UGX", "symbol": "USh"},
        "property_type": {"name": "Bungalow", "slug": "bungalow"},
        "listing_type": "rent",
        "location": "Bbunga",
        "region": {"name": "Central", "slug": "central"},
        "district": {"name": "Kampala", "slug": "kampala"},
        "latitude": "0.300000",
        "longitude": "32.580000",
        "bedrooms": 5,
        "bathrooms": 4,
        "floor_size": "350.00",
        "plot_size": "50.50",
        "furnished": "unfurnished",
        "is_verified": False,
        "is_sponsored": False,
        "publish_status": "published",
        "availability": "available",
        "amenities": [{"name": "Parking", "slug": "parking", "icon": "bi-p-square"}],
        "images": [
            {"id": main["number"], "url": f"{hub.url}{main['image']['url']}", "is_main": True, "alt": "Front view"},
            {"id": later["number"], "url": f"{hub.url}{later['image']['url']}", "is_main": False, "alt": "Side view"},
        ],
        "youtube_video_id": "dQw4w9WgXcQ",
        "created_at": created.isoformat().removesuffix("+00:00") + "Z",
        "updated_at": iso(stamp),
    }
