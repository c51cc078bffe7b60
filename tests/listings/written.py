"""Listings and images that are written by the listings API."""

from __future__ import annotations

from typing import Any

import httpx

from stores.records import Entity
from tests.listings.support import Json, Tenant
from tests.media.uploading import png

BODY: Json = {
    "title": "3 bedroom Bungalow in Kololo",
    "description": "Spacious family home.",
    "price": "850000000",
    "currency": "UGX",
    "property_type": "bungalow",
    "listing_type": "sale",
    "location": "Kololo",
    "district": "kampala",
    "bedrooms": 3,
    "bathrooms": 2,
    "amenities": ["parking", "swimming-pool"],
    "publish_status": "published",
    "availability": "available",
}

PNG = png(60, 40)


async def made(tenant: Tenant, **fields: Any) -> Json:
    """Create a listing; return the answer."""
    answer = await tenant.writer.post("properties/", json=BODY | fields)
    assert answer.status_code == 201, answer.text
    created: Json = answer.json()
    return created


async def entity(tenant: Tenant, id: int) -> Entity:
    """Return the listing as the platform shows it."""
    [found] = await tenant.platform.list("properties", {"number": id})
    return found


def refused(answer: Any, status: int = 400) -> Json:
    assert answer.status_code == status, answer.text
    errors: Json = answer.json()
    return errors


def image_path(listing: Json, image: Json | None = None) -> str:
    """Return the path of the images of a listing, or of one of them."""
    return f"properties/{listing['id']}/images/" + (f"{image['id']}/" if image else "")


async def upload(tenant: Tenant, listing: Json, content: bytes = PNG, **fields: str) -> httpx.Response:
    """Add an image to a listing by an upload; return the answer of any status."""
    return await tenant.writer.post(image_path(listing), files={"image": ("front.png", content)}, data=fields)
