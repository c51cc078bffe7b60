"""Listings that are written by the listings API."""

from __future__ import annotations

from typing import Any

from stores.records import Entity
from tests.listings.support import Json, Tenant

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
